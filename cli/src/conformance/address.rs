//! Where a Workload API is served (SPIFFE Workload Endpoint §4).

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// `unix:///path` or `tcp://IP:port`, and nothing else.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP port.
    Tcp(SocketAddr),
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(uri: &str) -> Result<Self, AddressError> {
        if let Some(host) = uri.strip_prefix("tcp://") {
            return host.parse().map(Self::Tcp).map_err(|_not_an_address| AddressError::Tcp);
        }
        let path = uri.strip_prefix("unix://").ok_or(AddressError::Scheme)?;
        if !path.starts_with('/') || path.len() < 2 || path.contains(['?', '#', '%', '\0']) {
            return Err(AddressError::Path);
        }
        Ok(Self::Unix(path.into()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// Why a text is no address of a Workload API.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum AddressError {
    #[error("a Workload API is served at `unix:///path` or at `tcp://IP:port`")]
    Scheme,
    #[error("the path of a Unix socket is absolute and the last: write `unix:///path`")]
    Path,
    #[error("after `tcp://` come an IP address, not a name, and a port, and nothing else")]
    Tcp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_path_or_an_ip_address_with_a_port() {
        for good in ["unix:///run/a.sock", "tcp://127.0.0.1:8000", "tcp://[::1]:8000"] {
            assert_eq!(good.parse::<Address>().unwrap().to_string(), good);
        }
        let refused = [
            ("unix://run/a.sock", AddressError::Path),
            ("unix://", AddressError::Path),
            ("unix:///", AddressError::Path),
            ("unix:///a?b", AddressError::Path),
            ("unix:///a#b", AddressError::Path),
            ("unix:/a", AddressError::Scheme),
            ("http://127.0.0.1:1", AddressError::Scheme),
            ("tcp:127.0.0.1:1", AddressError::Scheme),
            ("tcp://host:1", AddressError::Tcp),
            ("tcp://1.2.3.4", AddressError::Tcp),
            ("tcp://1.2.3.4:1/x", AddressError::Tcp),
            ("tcp://u@1.2.3.4:1", AddressError::Tcp),
            ("tcp://1.2.3.4:1?x", AddressError::Tcp),
        ];
        for (uri, error) in refused {
            assert_eq!(uri.parse::<Address>(), Err(error), "{uri}");
        }
    }
}
