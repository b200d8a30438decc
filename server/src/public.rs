//! What strangers may know: the keys of the trust domain, over HTTPS.
//!
//! | path | what | whose |
//! |---|---|---|
//! | `<issuer>/.well-known/openid-configuration` | the discovery document | OpenID Connect Discovery 1.0 §4 |
//! | `<issuer>/keys` | the keys of JWT-SVIDs, for relying parties that know no SPIFFE | RFC 7517 |
//! | `/bundle` | the whole bundle: an `https_web` bundle endpoint | SPIFFE Federation §5.2.1 |
//! | `/live`, `/ready` | whether the server runs, and works | |
//!
//! | to find | look in |
//! |---|---|
//! | who is answered what | `answers` |
//! | the certificate, read again when its files change | `certificate` |
//!
//! A connection carries one request, without a body, with small headers and a deadline; and there
//! are only so many at a time.

mod answers;
mod certificate;

use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use claviger_core::bundle::Bundle;
use claviger_runtime::health::Health;
use claviger_runtime::http::answer_one;
use claviger_runtime::tasks::Tasks;
use claviger_runtime::tls::{self, TlsIncoming, web_server_config};
use claviger_runtime::unix;
use futures_util::{Stream, StreamExt as _};
use http::Request;
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::config::{Door, PublicConfig};
use answers::Answers;
pub use certificate::CertificateFileError;
use certificate::CertificateFiles;

/// Connections at a time; more are closed as soon as they are accepted. Callers come once in
/// minutes and stay for milliseconds.
const LIMITS: tls::Limits = tls::Limits {
    connections: 1_024,
    connections_per_ip: 256,
    handshakes: 256,
    handshakes_per_ip: 64,
};

/// The same on a Unix socket, where everyone is the proxy.
const SOCKET_LIMITS: unix::Limits = unix::Limits { connections: 1_024, connections_per_uid: 1_024 };

/// Opens the door to strangers, until `tasks` stop. Keys are published `ahead` of their use, which
/// bounds how long answers may be kept. Returns where it listens, if that is an address.
///
/// # Errors
///
/// [`PublicError`] if the door cannot be opened.
pub async fn serve(
    config: &PublicConfig,
    ahead: Duration,
    bundle: watch::Receiver<Arc<Bundle>>,
    health: Health,
    tasks: &Tasks,
) -> Result<Option<SocketAddr>, PublicError> {
    let answers = Arc::new(Answers::new(config, ahead, bundle, health));
    match &config.door {
        Door::Https { listen, certificate, key } => {
            let files = CertificateFiles::new(certificate.clone(), key.clone());
            let (certificate, following) = files.open()?;
            let tls = web_server_config(&certificate);
            let incoming = TlsIncoming::bind(*listen, tls, LIMITS, tasks).await?;
            let address = incoming.addr();
            tasks.spawn("public certificate", |stop| following.run(stop));
            accept(incoming, answers, tasks);
            Ok(Some(address))
        }
        Door::Socket(path) => {
            // The proxy is another user, and there is nothing here that anybody may not know.
            let listener = unix::Listener::bind(path, 0o666, SOCKET_LIMITS)?;
            accept(listener.incoming(), answers, tasks);
            Ok(None)
        }
    }
}

fn accept<S>(
    incoming: impl Stream<Item = io::Result<S>> + Send + 'static,
    answers: Arc<Answers>,
    tasks: &Tasks,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let connections = tasks.clone();
    tasks.spawn("public endpoint", |stop| async move {
        let mut incoming = std::pin::pin!(incoming);
        while let Some(Some(Ok(stream))) = stop.run_until_cancelled(incoming.next()).await {
            let answers = Arc::clone(&answers);
            connections.spawn("public connection", |stop| async move {
                let answer = |request: Request<Incoming>| ready(answers.to(&request));
                answer_one(stream, "public", answer, stop).await;
                Ok(())
            });
        }
        Ok(())
    });
}

/// The door to strangers cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum PublicError {
    /// The certificate cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertificateFileError),
    /// The address is taken or not ours.
    #[error(transparent)]
    Listen(#[from] tls::BindError),
    /// The socket cannot be made.
    #[error(transparent)]
    Socket(#[from] unix::BindError),
}

#[cfg(test)]
mod tests;
