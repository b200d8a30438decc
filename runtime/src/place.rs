//! Where a server is, and the way there: over the network, over vsock, or by a Unix socket.
//!
//! An enclave has no network. What it has is a vsock to its parent, where a relay carries bytes on.
//! A Unix socket stands in for it where there is no vsock.

mod several;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustls::pki_types::{InvalidDnsNameError, IpAddr, Ipv4Addr, ServerName};
use serde::Deserialize;
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio_util::either::Either;
use tokio_vsock::VsockStream;

pub use several::{MOST_SERVERS, ServerAddrs};

use crate::unix::{SocketPathError, check_path};
use crate::vsock::{self, ParseVsockError, VsockPlace};

/// A connection to a server, over whatever leads there.
pub type Dialed = Either<TcpStream, Either<UnixStream, VsockStream>>;

/// Where a server is.
///
/// | written | is |
/// |---|---|
/// | `host:port` | a name, an IPv4 address or a bracketed IPv6 address, over TCP |
/// | `vsock:CID:port` | a port of a virtual machine or of its host (vsock(7)), such as `vsock:3:8081` |
/// | `unix:/path` | a Unix socket |
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct ServerAddr(Place);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Place {
    Host {
        host: ServerName<'static>,
        port: u16,
        /// Which of its addresses is meant, if it is one of them.
        at: Option<SocketAddr>,
    },
    Vsock(VsockPlace),
    Unix(PathBuf),
}

impl ServerAddr {
    /// Connects.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub async fn dial(&self) -> io::Result<Dialed> {
        match &self.0 {
            Place::Host { host, port, at } => {
                let stream = match at {
                    Some(address) => TcpStream::connect(address).await?,
                    None => TcpStream::connect((host.to_str().as_ref(), *port)).await?,
                };
                stream.set_nodelay(true)?;
                Ok(Either::Left(stream))
            }
            Place::Unix(path) => Ok(Either::Right(Either::Left(UnixStream::connect(path).await?))),
            Place::Vsock(place) => Ok(Either::Right(Either::Right(place.dial().await?))),
        }
    }

    /// The server at each of the addresses that its name has at this moment; itself, if it has no name.
    ///
    /// # Errors
    ///
    /// What the resolver says.
    pub async fn each(&self) -> io::Result<Vec<Self>> {
        let Place::Host { host: host @ ServerName::DnsName(name), port, .. } = &self.0 else {
            return Ok(vec![self.clone()]);
        };
        let mut each = Vec::new();
        for address in lookup_host((name.as_ref(), *port)).await? {
            let one = Self(Place::Host { host: host.clone(), port: *port, at: Some(address) });
            if !each.contains(&one) {
                each.push(one);
            }
        }
        if each.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(each)
    }

    /// What TLS calls the server. Only a host has a name to send; who the server is, its SVID says.
    pub(crate) fn tls_name(&self) -> ServerName<'static> {
        match &self.0 {
            Place::Host { host, .. } => host.clone(),
            // An address is never sent (RFC 6066 §3).
            Place::Vsock(_) | Place::Unix(_) => {
                ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0; 4])))
            }
        }
    }
}

impl FromStr for ServerAddr {
    type Err = ServerAddrError;

    fn from_str(addr: &str) -> Result<Self, ServerAddrError> {
        if let Some(path) = addr.strip_prefix(UNIX) {
            return socket(path).map(Place::Unix).map(Self);
        }
        if let Some(place) = addr.strip_prefix(vsock::SCHEME) {
            return Ok(Self(Place::Vsock(place.parse()?)));
        }
        let bad = |addr: &str| ServerAddrError::Form(addr.to_owned());
        let (host, port) = addr.rsplit_once(':').ok_or_else(|| bad(addr))?;
        let port = match port.parse() {
            Ok(port) if port != 0 => port,
            _ => return Err(bad(addr)),
        };
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let name = ServerName::try_from(bracketed.unwrap_or(host).to_owned())
            .map_err(|source| ServerAddrError::Host { host: host.to_owned(), source })?;
        let is_v6 = matches!(name, ServerName::IpAddress(IpAddr::V6(_)));
        if is_v6 != bracketed.is_some() {
            return Err(bad(addr));
        }
        Ok(Self(Place::Host { host: name, port, at: None }))
    }
}

/// What a Unix socket's path is written behind.
const UNIX: &str = "unix:";

/// An absolute path, with room for it in a socket's address.
fn socket(path: &str) -> Result<PathBuf, ServerAddrError> {
    let path = Path::new(path);
    if !path.is_absolute() {
        return Err(ServerAddrError::Relative(path.to_owned()));
    }
    check_path(path)?;
    Ok(path.to_owned())
}

impl TryFrom<String> for ServerAddr {
    type Error = ServerAddrError;

    fn try_from(addr: String) -> Result<Self, ServerAddrError> {
        addr.parse()
    }
}

impl fmt::Display for ServerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Host { host, port, at } => {
                let host = host.to_str();
                match host.contains(':') {
                    true => write!(f, "[{host}]:{port}")?,
                    false => write!(f, "{host}:{port}")?,
                }
                match at {
                    Some(address) => write!(f, " ({})", address.ip()),
                    None => Ok(()),
                }
            }
            Place::Vsock(place) => place.fmt(f),
            Place::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

/// Where to listen for those who have no network: `vsock:port` or `unix:/path`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub enum LocalDoor {
    /// A port of this machine's, for the virtual machines that run on it.
    Vsock(u32),
    /// A Unix socket.
    Unix(PathBuf),
}

impl FromStr for LocalDoor {
    type Err = ServerAddrError;

    fn from_str(door: &str) -> Result<Self, ServerAddrError> {
        if let Some(path) = door.strip_prefix(UNIX) {
            return socket(path).map(Self::Unix);
        }
        let port = door.strip_prefix(vsock::SCHEME).and_then(vsock::port);
        port.map(Self::Vsock).ok_or_else(|| ServerAddrError::Door(door.to_owned()))
    }
}

impl TryFrom<String> for LocalDoor {
    type Error = ServerAddrError;

    fn try_from(door: String) -> Result<Self, ServerAddrError> {
        door.parse()
    }
}

impl fmt::Display for LocalDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vsock(port) => write!(f, "{}{port}", vsock::SCHEME),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

/// Why a string does not say where a server is.
#[derive(Debug, thiserror::Error)]
pub enum ServerAddrError {
    /// Host or port is missing, or the port is not a number from 1 to 65535.
    #[error(
        "`{0}` is not of the form `host:port` (an IPv6 address goes in brackets), `vsock:CID:port` \
         or `unix:/path`"
    )]
    Form(String),
    /// The host is neither a name nor an address.
    #[error("`{host}` is neither a host name nor an IP address")]
    Host {
        /// The host.
        host: String,
        /// Why.
        source: InvalidDnsNameError,
    },
    /// It is no place of vsock's.
    #[error(transparent)]
    Vsock(#[from] ParseVsockError),
    /// The path of a socket depends on where the process is started.
    #[error("`{path}` is not an absolute path; begin it with `/`", path = .0.display())]
    Relative(PathBuf),
    /// No socket can be there.
    #[error(transparent)]
    Socket(#[from] SocketPathError),
    /// Nobody can listen there.
    #[error("`{0}` is not of the form `vsock:port` or `unix:/path`")]
    Door(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_one_spelling() {
        for addr in [
            "server.example.org:8081",
            "127.0.0.1:1",
            "[::1]:65535",
            "vsock:3:8081",
            "vsock:2:4294967294",
            "unix:/run/claviger/relay.sock",
        ] {
            assert_eq!(addr.parse::<ServerAddr>().unwrap().to_string(), addr);
        }
        for door in ["vsock:8081", "unix:/run/relay.sock"] {
            assert_eq!(door.parse::<LocalDoor>().unwrap().to_string(), door);
        }
    }

    #[test]
    fn half_an_address_is_refused() {
        for addr in ["", "server", "server:", "server:0", "server:65536", "::1:80", "[server]:80"] {
            let error = addr.parse::<ServerAddr>().unwrap_err();
            assert!(matches!(error, ServerAddrError::Form(_)), "{addr}: {error}");
        }
        for addr in [":80", "a b:80", "[::1:80"] {
            let error = addr.parse::<ServerAddr>().unwrap_err();
            assert!(matches!(error, ServerAddrError::Host { .. }), "{addr}: {error}");
        }
        // The last one of each number means "any", which is nowhere to connect to.
        for addr in ["vsock:", "vsock:3", "vsock:3:", "vsock::1", "vsock:3:4294967295", "vsock:a:1"]
        {
            let error = addr.parse::<ServerAddr>().unwrap_err();
            assert!(matches!(error, ServerAddrError::Vsock(_)), "{addr}: {error}");
        }
        let long = format!("unix:/{}", "a".repeat(107));
        for addr in ["unix:", "unix:relay.sock", &long] {
            addr.parse::<ServerAddr>().unwrap_err();
            addr.parse::<LocalDoor>().unwrap_err();
        }
        for door in ["vsock:3:1", "vsock:", "vsock:4294967295", "127.0.0.1:1", ""] {
            assert!(matches!(door.parse::<LocalDoor>().unwrap_err(), ServerAddrError::Door(_)));
        }
    }

    #[tokio::test]
    async fn a_name_leads_to_each_of_its_addresses_and_whatever_has_none_to_itself() {
        let named: ServerAddr = "localhost:8081".parse().unwrap();
        for one in named.each().await.unwrap() {
            assert_eq!(one.tls_name(), named.tls_name());
            let said = one.to_string();
            assert!(
                said == "localhost:8081 (127.0.0.1)" || said == "localhost:8081 (::1)",
                "{said}"
            );
            assert_ne!(one, named);
        }
        for addr in ["127.0.0.1:1", "[::1]:1", "vsock:3:1", "unix:/x"] {
            let addr: ServerAddr = addr.parse().unwrap();
            assert_eq!(addr.each().await.unwrap(), [addr]);
        }
    }

    #[test]
    fn only_a_host_is_named_to_whoever_listens() {
        let named = |addr: &str| addr.parse::<ServerAddr>().unwrap().tls_name();
        assert!(matches!(named("server.example.org:1"), ServerName::DnsName(_)));
        for addr in ["vsock:3:1", "unix:/x"] {
            assert!(matches!(named(addr), ServerName::IpAddress(_)), "{addr}");
        }
    }
}
