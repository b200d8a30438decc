//! TLS over a Unix socket, for callers who have to prove an identity beside being a process.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use claviger_core::id::SpiffeId;
use futures_util::Stream;
use futures_util::stream::unfold;
use metrics::counter;
use rustls::ServerConfig;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::handshake::HandshakeError;
use super::leaf::{Leaf, LeafError};
use super::stream::{Accepted, leaf_of};
use crate::tasks::Tasks;
use crate::telemetry::Chain;
use crate::unix::{Listener, Peer, PeerStream};

/// Time for a handshake between two processes of one machine.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Finished handshakes that wait for the server to take them up.
const READY: usize = 16;

/// Who is at the other end of a TLS connection over a Unix socket, as of its handshake.
#[derive(Clone, Debug)]
pub struct LocalTlsPeer {
    process: Peer,
    leaf: Arc<Leaf>,
}

impl LocalTlsPeer {
    /// The process that connected.
    #[must_use]
    pub fn process(&self) -> &Peer {
        &self.process
    }

    /// The identity that it proved.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        self.leaf.id()
    }

    /// What its certificate says. It was valid at the handshake; on a connection that lives longer
    /// than a certificate, compare [`Leaf::not_after`] with the time.
    #[must_use]
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }
}

/// A connection between two processes of one machine.
pub type LocalTlsStream = Accepted<PeerStream, LocalTlsPeer>;

/// The connections to `listener` whose callers have proved an identity by an SVID, as tonic's
/// `serve_with_incoming_shutdown` takes them, until `tasks` stop. Handshakes run beside each other:
/// there are at most as many as the listener admits connections.
pub fn local_tls(
    listener: Listener,
    config: Arc<ServerConfig>,
    tasks: &Tasks,
) -> impl Stream<Item = io::Result<LocalTlsStream>> + Send + use<> {
    let (done, ready) = mpsc::channel(READY);
    let handshakes = tasks.clone();
    tasks.spawn("local tls listener", |stop| async move {
        stop.run_until_cancelled(accept(listener, config.into(), done, handshakes)).await;
        Ok(())
    });
    unfold(ready, async |mut ready| Some((ready.recv().await?, ready)))
}

async fn accept(
    mut listener: Listener,
    tls: TlsAcceptor,
    done: mpsc::Sender<io::Result<LocalTlsStream>>,
    tasks: Tasks,
) {
    loop {
        let stream = tokio::select! {
            stream = listener.accept() => stream,
            () = done.closed() => return,
        };
        let (tls, done) = (tls.clone(), done.clone());
        tasks.spawn("local tls handshake", |stop| async move {
            match stop.run_until_cancelled(shake(tls, stream)).await {
                // The receiver is gone when the server stops; so is the connection then.
                Some(Ok(stream)) => drop(done.send(Ok(stream)).await),
                Some(Err(refusal)) => {
                    counter!("claviger_tls_handshakes_total", "outcome" => "failed").increment(1);
                    debug!(error = %Chain(&refusal), "local TLS connection refused");
                }
                None => {}
            }
            Ok(())
        });
    }
}

async fn shake(tls: TlsAcceptor, stream: PeerStream) -> Result<LocalTlsStream, Refusal> {
    let process = stream.peer().clone();
    let shaken = tokio::time::timeout(HANDSHAKE, tls.accept(stream));
    let stream = shaken.await.map_err(|_elapsed| Refusal::Late)?.map_err(HandshakeError::from)?;
    let leaf = Arc::new(leaf_of(&stream)?.ok_or(Refusal::Nobody)?);
    counter!("claviger_tls_handshakes_total", "outcome" => "done").increment(1);
    Ok(Accepted::new(stream, LocalTlsPeer { process, leaf }, ()))
}

/// Why a connection is closed.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("handshake not finished in time")]
    Late,
    #[error("handshake failed")]
    Failed(#[from] HandshakeError),
    #[error("the caller presents no certificate")]
    Nobody,
    #[error("certificate unusable")]
    Leaf(#[from] LeafError),
}
