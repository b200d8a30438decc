//! The header of the PROXY protocol (HAProxy's `proxy-protocol.txt`), by which a program is told who is
//! at the other end of the tunnel.
//!
//! Version 1 has the addresses. Version 2 adds what TLS found out, in the places where programs look for
//! it: the version, the cipher suite and the key exchange; and the peer's SPIFFE ID where the common
//! name of a certificate stands, which an SVID does not have. Whether the peer showed a certificate is
//! said as it is: with a one-time key it did not, and so there is none that could have been verified.

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;

use ppp::v2::{Builder, Command, Protocol, Type, Version, WriteToHeader as _, Writer};

use crate::route::{Mode, ProxyHeader};
use crate::tunnel::Ends;

/// `PP2_CLIENT_SSL` and `PP2_CLIENT_CERT_CONN` (§2.2.6).
const TLS: u8 = 0x01;
const CERTIFICATE: u8 = 0x02;

/// `PP2_SUBTYPE_SSL_GROUP`.
const GROUP: u8 = 0x26;

/// What is known of whoever is at the other end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Talk<'a> {
    /// Their address.
    pub(crate) from: SocketAddr,
    /// The address that they connected to.
    pub(crate) to: SocketAddr,
    /// How they proved who they are.
    pub(crate) mode: Mode,
    /// Who they are, unless they did not.
    pub(crate) ends: Option<&'a Ends>,
}

impl Talk<'_> {
    /// The header, which goes before the first byte.
    ///
    /// # Errors
    ///
    /// If something in it is longer than it can be.
    pub(crate) fn header(&self, version: ProxyHeader) -> io::Result<Vec<u8>> {
        let addresses = (canonical(self.from), canonical(self.to));
        match version {
            ProxyHeader::V1 => Ok(line(addresses).into_bytes()),
            ProxyHeader::V2 => {
                let version = Version::Two | Command::Proxy;
                let mut header = Builder::with_addresses(version, Protocol::Stream, addresses);
                if let Some(ends) = self.ends {
                    header = header.write_tlv(Type::SSL, &self.tls(ends)?)?;
                }
                header.build()
            }
        }
    }

    /// `pp2_tlv_ssl` and what follows it.
    fn tls(&self, ends: &Ends) -> io::Result<Vec<u8>> {
        let (client, verify): (u8, u32) = match self.mode {
            Mode::Mtls => (TLS | CERTIFICATE, 0),
            Mode::Psk | Mode::Observe => (TLS, 1),
        };
        let mut tls = Writer::from([&[client][..], &verify.to_be_bytes()].concat());
        let name = ends.client.to_string();
        let values = [
            (u8::from(Type::SSLVersion), "TLSv1.3"),
            (Type::SSLCommonName.into(), &name),
            (Type::SSLCipher.into(), &ends.suite),
            (GROUP, &ends.group),
        ];
        for (kind, value) in values {
            (kind, value.as_bytes()).write_to(&mut tls)?;
        }
        Ok(tls.finish())
    }
}

/// The header of version 1.
fn line((from, to): (SocketAddr, SocketAddr)) -> String {
    let protocol = match (from, to) {
        (SocketAddr::V4(_), SocketAddr::V4(_)) => "TCP4",
        (SocketAddr::V6(_), SocketAddr::V6(_)) => "TCP6",
        (SocketAddr::V4(_), SocketAddr::V6(_)) | (SocketAddr::V6(_), SocketAddr::V4(_)) => {
            return "PROXY UNKNOWN\r\n".to_owned();
        }
    };
    let (source, destination) = (from.ip(), to.ip());
    format!("PROXY {protocol} {source} {destination} {} {}\r\n", from.port(), to.port())
}

/// An IPv4 address that a socket for IPv6 took is one of IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
