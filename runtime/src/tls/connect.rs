//! Connecting over TLS.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::Uri;
use tower::Service;

use super::config::H2;
use super::handshake::HandshakeError;
use crate::place::{Dialed, ServerAddr};

/// Time to connect, handshake included.
const DEADLINE: Duration = Duration::from_secs(10);

/// Connects to `server`, whatever the URI: for tonic's `Endpoint::connect_with_connector`.
pub fn connector(
    server: ServerAddr,
    config: Arc<ClientConfig>,
) -> impl Service<Uri, Response = TokioIo<TlsStream<Dialed>>, Error = ConnectError, Future: Send>
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
) -> Result<TlsStream<Dialed>, ConnectError> {
    let failed = |source| ConnectError::Unreachable { server: server.clone(), source };
    let stream = server.dial().await.map_err(failed)?;
    let stream = tls
        .connect(server.tls_name(), stream)
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
    Unreachable {
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
