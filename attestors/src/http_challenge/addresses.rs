//! Addresses that can be connected to because a stranger said so.
//!
//! A name can lead anywhere: whoever has it registered chooses. What a server can reach and a
//! stranger cannot is what is to be kept from strangers: the server's own machine, what is next to
//! it, and the metadata of its cloud, which hands out credentials.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Services at addresses like any other that hand out credentials or configuration: of Azure,
/// Alibaba Cloud, AWS and Google Cloud. The others' are link-local.
const METADATA: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Whether `address` can be connected to; private ones only with `allow_private`.
pub(super) fn check(address: IpAddr, allow_private: bool) -> Result<(), ForbiddenAddress> {
    let address = address.to_canonical();
    let why = match address {
        _ if METADATA.contains(&address) => Some("it is a cloud's metadata service"),
        IpAddr::V4(address) => never_v4(address),
        IpAddr::V6(address) => never_v6(address),
    };
    let private = !allow_private && is_private(address);
    let why = why.or(private.then_some("it is private; `allow-private-networks` is not set"));
    why.map_or(Ok(()), |why| Err(ForbiddenAddress { address, why }))
}

fn never_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [0, ..] => Some("it is unspecified"),
        [127, ..] => Some("it is the server's own machine"),
        [169, 254, ..] => Some("it is link-local"),
        [192, 0, 0, _] => Some("it is reserved"),
        [224..=255, ..] => Some("it is multicast or reserved"),
        _ => None,
    }
}

fn never_v6(address: Ipv6Addr) -> Option<&'static str> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, ..] => Some("it is unspecified or the server's own machine"),
        [0xfe80..=0xfeff, ..] => Some("it is link-local or site-local"),
        [0xff00..=0xffff, ..] => Some("it is multicast"),
        // NAT64 (RFC 6052, RFC 8215), 6to4 and Teredo: with an IPv4 address in it, whose is anyone's
        // guess.
        [0x64, 0xff9b, ..] | [0x2002, ..] | [0x2001, 0, ..] => Some("it leads to an IPv4 address"),
        _ => None,
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        // RFC 1918, and RFC 6598 between a provider and its customers.
        IpAddr::V4(address) => {
            address.is_private() || matches!(address.octets(), [100, 64..=127, ..])
        }
        IpAddr::V6(address) => address.is_unique_local(),
    }
}

/// An address that is not connected to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the name leads to {address}, where no node is asked: {why}")]
pub(super) struct ForbiddenAddress {
    address: IpAddr,
    why: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_the_server_can_reach_is_not_asked() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "169.254.0.1",
            "192.0.0.192",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "100.100.100.200",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:168.63.129.16",
            "::127.0.0.1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::7f00:1",
            "2002:7f00:1::",
            "2001:0:1::1",
            "fd00:ec2::254",
            "fd20:ce::254",
        ] {
            let error = check(address.parse().unwrap(), true).unwrap_err();
            assert!(error.to_string().contains("no node is asked"), "{address}: {error}");
        }
    }

    #[test]
    fn private_networks_are_for_the_operator_to_allow() {
        for address in [
            "10.1.2.3",
            "172.16.0.1",
            "172.31.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "::ffff:10.0.0.1",
            "fc00::1",
            "fd12:3456::1",
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(check(address, true), Ok(()));
            let error = check(address, false).unwrap_err();
            assert!(error.to_string().contains("allow-private-networks"), "{error}");
        }
        for address in ["1.1.1.1", "172.32.0.1", "192.0.2.2", "100.128.0.1", "2606:4700::1"] {
            assert_eq!(check(address.parse().unwrap(), false), Ok(()));
        }
    }
}
