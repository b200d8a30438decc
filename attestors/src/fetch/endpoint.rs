//! Addresses that may be asked.

use std::fmt;

use reqwest::Url;

/// An address that an operator wrote down. Never made of what a token or an answer says, unless that
/// is checked against such an address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint(Url);

/// Where `http` will do, instead of `https`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Plain {
    /// On this machine: `127.0.0.0/8` and `[::1]`, as addresses. A name could lead anywhere.
    Loopback,
    /// There, and where clouds serve metadata to their machines: link-local addresses, and names in
    /// `internal`, which is nobody's on the Internet.
    Metadata,
}

impl Endpoint {
    /// The longest address, in bytes.
    pub const MAX: usize = 2_048;

    /// Reads an address: `https`, or `http` where `plain` allows it.
    ///
    /// # Errors
    ///
    /// [`EndpointError`] says what is wrong with it.
    pub fn parse(text: &str, plain: Plain) -> Result<Self, EndpointError> {
        if Self::MAX < text.len() {
            return Err(EndpointError::Length);
        }
        let url = Url::parse(text).map_err(|_detail| EndpointError::Form)?;
        if url.host().is_none() {
            return Err(EndpointError::Form);
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(EndpointError::Extra);
        }
        match url.scheme() {
            "https" => Ok(Self(url)),
            "http" if plain.allows(&url) => Ok(Self(url)),
            _ => Err(EndpointError::Scheme),
        }
    }

    /// This address with one more pair in its query.
    #[must_use]
    pub fn with_query(mut self, name: &str, value: &str) -> Self {
        self.0.query_pairs_mut().append_pair(name, value);
        self
    }

    /// Whether both are of one server: scheme, host and port are the same.
    #[must_use]
    pub fn same_server(&self, other: &Self) -> bool {
        self.0.origin() == other.0.origin()
    }

    /// The host, as it was written but in lower case.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// Whether it has a query.
    #[must_use]
    pub fn has_query(&self) -> bool {
        self.0.query().is_some()
    }

    pub(super) const fn url(&self) -> &Url {
        &self.0
    }
}

impl Plain {
    fn allows(self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse();
        let near = match address {
            Ok(std::net::IpAddr::V4(v4)) => (v4.is_loopback(), v4.is_link_local()),
            Ok(std::net::IpAddr::V6(v6)) => {
                // AWS serves metadata at a unique local address (fd00:ec2::254).
                (v6.is_loopback(), v6.is_unicast_link_local() || v6.is_unique_local())
            }
            Err(_name) => (false, host.ends_with(".internal")),
        };
        match self {
            Self::Loopback => near.0,
            Self::Metadata => near.0 || near.1,
        }
    }
}

/// Without the query, which may hold what is long or secret.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0.origin().ascii_serialization(), self.0.path())
    }
}

/// Why a text is no address that may be asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EndpointError {
    /// It is too long.
    #[error("the address is longer than {} bytes", Endpoint::MAX)]
    Length,
    /// It is none, or names no host.
    #[error("this is not an address such as `https://issuer.example.org`")]
    Form,
    /// It says who asks, or which part of the answer is meant.
    #[error("the address must have no user, password or fragment")]
    Extra,
    /// What is asked there would not be known to be genuine.
    #[error("the address has to begin with `https://`; `http://` will do for 127.0.0.1 and [::1]")]
    Scheme,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, plain: Plain) -> Result<String, EndpointError> {
        Endpoint::parse(text, plain).map(|endpoint| endpoint.to_string())
    }

    #[test]
    fn plain_http_is_for_this_machine() {
        for good in ["https://issuer.example/a", "http://127.0.0.1:80/a", "http://[::1]:8080/a"] {
            check(good, Plain::Loopback).unwrap();
        }
        for bad in [
            "http://issuer.example/a",
            "http://localhost/a",
            "http://127.0.0.1.example/a",
            "http://10.0.0.1/a",
            "http://169.254.169.254/a",
            "http://metadata.google.internal/a",
            "ftp://127.0.0.1/a",
            "file:///etc/passwd",
            "data:text/plain,x",
        ] {
            let error = check(bad, Plain::Loopback).unwrap_err();
            assert!(matches!(error, EndpointError::Scheme | EndpointError::Form), "{bad}");
        }
    }

    #[test]
    fn metadata_is_served_nearby() {
        for good in [
            "http://169.254.169.254/latest",
            "http://[fd00:ec2::254]/latest",
            "http://metadata.google.internal/computeMetadata",
            "http://127.0.0.1:1/",
            "https://metadata.example/",
        ] {
            check(good, Plain::Metadata).unwrap();
        }
        for bad in ["http://metadata.example/", "http://10.0.0.1/", "http://internal.example/"] {
            assert_eq!(check(bad, Plain::Metadata), Err(EndpointError::Scheme), "{bad}");
        }
    }

    #[test]
    fn an_address_is_only_an_address() {
        for bad in ["https://user@host/", "https://u:p@host/", "https://host/#part"] {
            assert_eq!(check(bad, Plain::Loopback), Err(EndpointError::Extra), "{bad}");
        }
        for bad in ["", "issuer.example", "https://", "//host/a"] {
            assert_eq!(check(bad, Plain::Loopback), Err(EndpointError::Form), "{bad}");
        }
        let long = format!("https://host/{}", "a".repeat(Endpoint::MAX));
        assert_eq!(check(&long, Plain::Loopback), Err(EndpointError::Length));
    }

    #[test]
    fn a_query_is_added_to_and_not_shown() {
        let endpoint = Endpoint::parse("https://Host/token?v=1", Plain::Loopback).unwrap();
        let asked = endpoint.with_query("audience", "a#b&c=d");
        assert_eq!(asked.url().as_str(), "https://host/token?v=1&audience=a%23b%26c%3Dd");
        assert_eq!(asked.to_string(), "https://host/token");
    }

    #[test]
    fn a_server_is_a_scheme_a_host_and_a_port() {
        let at = |text| Endpoint::parse(text, Plain::Loopback).unwrap();
        assert!(at("https://a/x").same_server(&at("https://a:443/y")));
        for other in ["https://b/x", "https://a:444/x", "https://a.b/x"] {
            assert!(!at("https://a/x").same_server(&at(other)), "{other}");
        }
        assert!(!at("http://127.0.0.1/").same_server(&at("https://127.0.0.1/")));
    }
}
