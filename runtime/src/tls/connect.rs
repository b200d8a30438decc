//! Connecting over TLS.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::Uri;
use tower::Service;

use super::config::H2;
use super::handshake::HandshakeError;

/// Time to connect, handshake included.
const DEADLINE: Duration = Duration::from_secs(10);

/// Where a server is: `host:port`, where the host is a name, an IPv4 address or a bracketed IPv6
/// address.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct ServerAddr {
    host: ServerName<'static>,
    port: u16,
}

impl FromStr for ServerAddr {
    type Err = ServerAddrError;

    fn from_str(addr: &str) -> Result<Self, ServerAddrError> {
        let bad = |addr: &str| ServerAddrError::Form(addr.to_owned());
        let (host, port) = addr.rsplit_once(':').ok_or_else(|| bad(addr))?;
        let port = match port.parse() {
            Ok(port) if port != 0 => port,
            _ => return Err(bad(addr)),
        };
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let name = ServerName::try_from(bracketed.unwrap_or(host).to_owned())
            .map_err(|source| ServerAddrError::Host { host: host.to_owned(), source })?;
        let is_v6 = matches!(name, ServerName::IpAddress(rustls::pki_types::IpAddr::V6(_)));
        if is_v6 != bracketed.is_some() {
            return Err(bad(addr));
        }
        Ok(Self { host: name, port })
    }
}

impl TryFrom<String> for ServerAddr {
    type Error = ServerAddrError;

    fn try_from(addr: String) -> Result<Self, ServerAddrError> {
        addr.parse()
    }
}

impl fmt::Display for ServerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.to_str();
        match host.contains(':') {
            true => write!(f, "[{host}]:{}", self.port),
            false => write!(f, "{host}:{}", self.port),
        }
    }
}

/// Why a string does not say where a server is.
#[derive(Debug, thiserror::Error)]
pub enum ServerAddrError {
    /// Host or port is missing, or the port is not a number from 1 to 65535.
    #[error("`{0}` is not of the form `host:port` (an IPv6 address goes in brackets)")]
    Form(String),
    /// The host is neither a name nor an address.
    #[error("`{host}` is neither a host name nor an IP address")]
    Host {
        /// The host.
        host: String,
        /// Why.
        source: InvalidDnsNameError,
    },
}

/// Connects to `server`, whatever the URI: for tonic's `Endpoint::connect_with_connector`.
pub fn connector(
    server: ServerAddr,
    config: Arc<ClientConfig>,
) -> impl Service<Uri, Response = TokioIo<TlsStream<TcpStream>>, Error = ConnectError, Future: Send>
+ Clone
+ Send
+ 'static {
    let tls = TlsConnector::from(config);
    tower::service_fn(move |_uri| {
        let (server, tls) = (server.clone(), tls.clone());
        async move {
            match tokio::time::timeout(DEADLINE, connect(&server, &tls)).await {
                Ok(connected) => connected.map(TokioIo::new),
                Err(_elapsed) => Err(ConnectError::Late { server }),
            }
        }
    })
}

async fn connect(
    server: &ServerAddr,
    tls: &TlsConnector,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let failed = |source| ConnectError::Tcp { server: server.clone(), source };
    let addr = (server.host.to_str(), server.port);
    let stream = TcpStream::connect((addr.0.as_ref(), addr.1)).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let stream = tls
        .connect(server.host.clone(), stream)
        .await
        .map_err(|source| ConnectError::Tls { server: server.clone(), source: source.into() })?;
    if stream.get_ref().1.alpn_protocol() != Some(H2) {
        return Err(ConnectError::NotHttp2 { server: server.clone() });
    }
    Ok(stream)
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers.
    #[error("cannot reach {server}; is it running, and may this machine connect to it?")]
    Tcp {
        /// Where to.
        server: ServerAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// Whoever answers is not the one we want, or does not want us.
    #[error("TLS handshake with {server} failed")]
    Tls {
        /// Where to.
        server: ServerAddr,
        /// What either end objects to.
        source: HandshakeError,
    },
    /// It speaks something else.
    #[error("{server} does not speak HTTP/2; is it the port of the server's API?")]
    NotHttp2 {
        /// Where to.
        server: ServerAddr,
    },
    /// It takes too long.
    #[error("{server} did not answer within {secs} seconds", secs = DEADLINE.as_secs())]
    Late {
        /// Where to.
        server: ServerAddr,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_one_spelling() {
        for addr in ["server.example.org:8081", "127.0.0.1:1", "[::1]:65535"] {
            assert_eq!(addr.parse::<ServerAddr>().unwrap().to_string(), addr);
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
    }
}
