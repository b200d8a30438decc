//! The places that programs name.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::RequestError;

/// The longest name of a host (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;

/// `host:port` of a name, in lower case.
pub(super) fn named(host: &[u8], port: u16) -> Result<String, RequestError> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_".contains(byte);
    let host = str::from_utf8(host).map_err(|_strange| RequestError::NoPlace)?;
    let is_name = (1..=MAX_NAME).contains(&host.len()) && host.as_bytes().iter().all(is_part);
    if is_name && port != 0 {
        Ok(format!("{}:{port}", host.to_ascii_lowercase()))
    } else {
        Err(RequestError::NoPlace)
    }
}

/// The same of an address.
pub(super) fn numbered(ip: IpAddr, port: u16) -> Result<String, RequestError> {
    if port == 0 { Err(RequestError::NoPlace) } else { Ok(SocketAddr::new(ip, port).to_string()) }
}

/// The same of an authority (RFC 3986 §3.2) with a host and a port and nothing else.
pub(super) fn authority(text: &str) -> Result<String, RequestError> {
    let (host, port) = text.rsplit_once(':').ok_or(RequestError::NoPlace)?;
    // Parsing allows for a sign, too.
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| digits).ok_or(RequestError::NoPlace)?;
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(ip) => {
            let ip: Ipv6Addr = ip.parse().map_err(|_no_address| RequestError::NoPlace)?;
            numbered(ip.into(), port)
        }
        None => named(host.as_bytes(), port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_written_in_one_way() {
        for (text, place) in [
            ("db.Internal:5432", "db.internal:5432"),
            ("DB:1", "db:1"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]:443", "[::1]:443"),
            ("[0:0:0:0:0:0:0:1]:443", "[::1]:443"),
            ("[2001:DB8::A]:65535", "[2001:db8::a]:65535"),
            ("x_y-z.:00080", "x_y-z.:80"),
        ] {
            assert_eq!(authority(text).unwrap(), place);
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        let long = format!("{}:1", "a".repeat(MAX_NAME + 1));
        for text in [
            "",
            ":",
            "a",
            "a:",
            ":1",
            "a:0",
            "a:+1",
            "a:-1",
            "a:65536",
            "a:b",
            "a:1:2",
            "::1:80",
            "[::1]",
            "[::1:80",
            "[a]:1",
            "[]:1",
            "[127.0.0.1]:1",
            "user@a:1",
            "a/b:1",
            "a b:1",
            "ä:1",
            "http://a:1",
            "a%00:1",
            &long,
        ] {
            let refused = authority(text).unwrap_err();
            assert!(matches!(refused, RequestError::NoPlace), "{text}");
        }
        named(&[0xff], 1).unwrap_err();
        numbered(IpAddr::from([127, 0, 0, 1]), 0).unwrap_err();
    }
}
