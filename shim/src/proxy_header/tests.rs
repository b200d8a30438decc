use ppp::v1;
use ppp::v2::{Addresses, Header, TypeLengthValues};

use super::*;
use crate::fixture::{CLIENT, SERVER};

fn ends() -> Ends {
    Ends {
        client: CLIENT.parse().unwrap(),
        server: SERVER.parse().unwrap(),
        purpose: "test".parse().unwrap(),
        run: None,
        group: "X25519MLKEM768".to_owned(),
        suite: "TLS_AES_128_GCM_SHA256".to_owned(),
    }
}

fn talk<'a>(from: &str, mode: Mode, ends: Option<&'a Ends>) -> Talk<'a> {
    Talk { from: from.parse().unwrap(), to: "192.0.2.1:8443".parse().unwrap(), mode, ends }
}

/// What the TLV of TLS says: whether there was a certificate, whether it was verified, and the rest.
fn tls(header: &Header<'_>) -> (u8, u32, Vec<(u8, String)>) {
    let [ssl] = header.tlvs().map(Result::unwrap).collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(ssl.kind, 0x20);
    let (client, rest) = ssl.value.split_first().unwrap();
    let (verify, rest) = rest.split_first_chunk().unwrap();
    let values = TypeLengthValues::from(rest)
        .map(Result::unwrap)
        .map(|value| (value.kind, String::from_utf8(value.value.into_owned()).unwrap()))
        .collect();
    (*client, u32::from_be_bytes(*verify), values)
}

#[test]
fn version_2_says_who_and_how() {
    let ends = ends();
    for (mode, client, verify) in [(Mode::Psk, 1, 1), (Mode::Mtls, 3, 0)] {
        let header = talk("198.51.100.7:40000", mode, Some(&ends)).header(ProxyHeader::V2).unwrap();
        let header = Header::try_from(&header[..]).unwrap();
        let addresses: Addresses = (
            "198.51.100.7:40000".parse::<SocketAddr>().unwrap(),
            "192.0.2.1:8443".parse::<SocketAddr>().unwrap(),
        )
            .into();
        assert_eq!(header.addresses, addresses);
        let values = [
            (0x21, "TLSv1.3".to_owned()),
            (0x22, CLIENT.to_owned()),
            (0x23, "TLS_AES_128_GCM_SHA256".to_owned()),
            (0x26, "X25519MLKEM768".to_owned()),
        ];
        assert_eq!(tls(&header), (client, verify, values.to_vec()));
    }
}

#[test]
fn what_is_only_observed_has_addresses_and_no_tls() {
    let header =
        talk("[::ffff:198.51.100.7]:1", Mode::Observe, None).header(ProxyHeader::V2).unwrap();
    let header = Header::try_from(&header[..]).unwrap();
    assert_eq!(header.tlvs().count(), 0);
    assert_eq!(header.address_bytes()[..4], [198, 51, 100, 7]);
}

#[test]
fn version_1_is_a_line() {
    for (from, want) in [
        ("198.51.100.7:1", "PROXY TCP4 198.51.100.7 192.0.2.1 1 8443\r\n"),
        ("[::ffff:198.51.100.7]:1", "PROXY TCP4 198.51.100.7 192.0.2.1 1 8443\r\n"),
        ("[2001:db8::1]:1", "PROXY UNKNOWN\r\n"),
    ] {
        let header = talk(from, Mode::Psk, None).header(ProxyHeader::V1).unwrap();
        assert_eq!(String::from_utf8(header.clone()).unwrap(), want);
        v1::Header::try_from(&header[..]).unwrap();
    }
}
