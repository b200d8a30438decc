//! What strangers may know: the keys of the trust domain, over HTTPS.
//!
//! | path | what | whose |
//! |---|---|---|
//! | `<issuer>/.well-known/openid-configuration` | the discovery document | OpenID Connect Discovery 1.0 §4 |
//! | `<issuer>/keys` | the keys of JWT-SVIDs, for relying parties that know no SPIFFE | RFC 7517 |
//! | `/bundle` | the whole bundle: an `https_web` bundle endpoint | SPIFFE Federation §5.2.1 |
//! | `/v1/…`, `/openapi.json` | credentials for programs without an agent, if the operator lets them in | [`crate::direct`] |
//! | `/audit/…` | the audit log, if the operator lets strangers read it | C2SP tlog-tiles |
//! | `/live`, `/ready` | whether the server runs, and works | |
//!
//! | to find | look in |
//! |---|---|
//! | who is answered what | `answers` |
//! | the certificate, read again when its files change | `certificate` |
//!
//! A connection carries one request, with small headers, a small body if any and a deadline; and
//! there are only so many at a time.
//!
//! The door shows a certificate of the Web's, or the server's own SVID, which those verify who have
//! the bundle of the trust domain: an `https_spiffe` bundle endpoint (SPIFFE Federation §5.2.2).

mod answers;
mod certificate;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use claviger_core::bundle::Bundle;
use claviger_runtime::health::Health;
use claviger_runtime::http::answer_one;
use claviger_runtime::tasks::Tasks;
use claviger_runtime::tls::{
    self, Identity, TlsIncoming, TlsStream, own_web_server_config, web_server_config,
};
use claviger_runtime::unix;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use http::Request;
use hyper::body::Incoming;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::audit::served::Served;
use crate::config::{Door, PublicConfig};
use crate::direct::Direct;
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
    strangers: 1_024,
    strangers_per_ip: 256,
};

/// The same on a Unix socket, where everyone is the proxy.
const SOCKET_LIMITS: unix::Limits = unix::Limits { connections: 1_024, connections_per_uid: 1_024 };

/// What there is to show.
#[derive(Debug)]
pub(crate) struct Shown {
    /// How long keys are published ahead of their use, which bounds how long answers may be kept.
    pub(crate) ahead: Duration,
    /// The keys.
    pub(crate) bundle: watch::Receiver<Arc<Bundle>>,
    /// Whether the server works.
    pub(crate) health: Health,
    /// What programs without an agent are given, if they are let in.
    pub(crate) direct: Option<Direct>,
    /// The audit log, if strangers may read it.
    pub(crate) log: Option<Served>,
}

/// Opens the door to strangers, until `tasks` stop. `own` is the server's SVID. Returns where it
/// listens, if that is an address.
///
/// # Errors
///
/// [`PublicError`] if the door cannot be opened.
pub(crate) async fn serve(
    config: &PublicConfig,
    shown: Shown,
    own: &Identity,
    tasks: &Tasks,
) -> Result<Option<SocketAddr>, PublicError> {
    let answers = Arc::new(Answers::new(config, shown));
    match &config.door {
        Door::Https { listen, certificate, key } => {
            let files = CertificateFiles::new(certificate.clone(), key.clone());
            let (certificate, following) = files.open()?;
            let address = https(*listen, web_server_config(&certificate), answers, tasks).await?;
            tasks.spawn("public certificate", |stop| following.run(stop));
            Ok(Some(address))
        }
        Door::Own(listen) => {
            https(*listen, own_web_server_config(own), answers, tasks).await.map(Some)
        }
        Door::Socket(path) => {
            // The proxy is another user, and nothing here asks who connects.
            let listener = unix::Listener::bind(path, 0o666, SOCKET_LIMITS)?;
            accept(listener.incoming().map_ok(|stream| (None, stream)), answers, tasks);
            Ok(None)
        }
    }
}

async fn https(
    listen: SocketAddr,
    tls: Arc<ServerConfig>,
    answers: Arc<Answers>,
    tasks: &Tasks,
) -> Result<SocketAddr, PublicError> {
    let incoming = TlsIncoming::bind(listen, tls, LIMITS, tasks).await?;
    let address = incoming.addr();
    let caller = |stream: &TlsStream| stream.peer().addr().ip().to_canonical();
    accept(incoming.map_ok(move |stream| (Some(caller(&stream)), stream)), answers, tasks);
    Ok(address)
}

fn accept<S>(
    incoming: impl Stream<Item = io::Result<(Option<IpAddr>, S)>> + Send + 'static,
    answers: Arc<Answers>,
    tasks: &Tasks,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let connections = tasks.clone();
    tasks.spawn("public endpoint", |stop| async move {
        let mut incoming = std::pin::pin!(incoming);
        while let Some(Some(Ok((caller, stream)))) = stop.run_until_cancelled(incoming.next()).await
        {
            let answers = Arc::clone(&answers);
            connections.spawn("public connection", |stop| async move {
                let answer = |request: Request<Incoming>| answers.to(request, caller);
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
