//! Accepting TLS connections.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use metrics::counter;
use rustls::ServerConfig;
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::error::Elapsed;
use tokio_rustls::{TlsAcceptor, server};
use tracing::debug;

use super::handshake::HandshakeError;
use super::leaf::LeafError;
use super::stream::{TlsPeer, TlsStream, leaf_of};
use crate::accept::Backoff;
use crate::slots::{Full, Slot, Slots};
use crate::tasks::Tasks;
use crate::telemetry::Chain;

/// Time for a handshake. It takes two round trips and a millisecond of work.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a caller may stay who showed no certificate. Whoever is attested is done long before, and connects
/// anew as somebody.
const STAY: Duration = Duration::from_secs(120);

/// Finished handshakes that wait for the server to take them up. It does so at once; beyond this
/// the handshakes themselves wait, within their limit.
const READY: usize = 64;

/// How many connections may be open at a time. More are closed as soon as they are accepted.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Of all addresses together, handshakes included. Each takes a file descriptor.
    pub connections: usize,
    /// Of any one address. Behind a load balancer, everyone may share one.
    pub connections_per_ip: usize,
    /// Handshakes in progress, of all addresses together.
    pub handshakes: usize,
    /// Handshakes in progress, of any one address: one that never finishes them must not keep out
    /// the others.
    pub handshakes_per_ip: usize,
    /// Open connections of callers who showed no certificate, of all addresses together: strangers must not
    /// keep out those who are known.
    pub strangers: usize,
    /// The same of any one address.
    pub strangers_per_ip: usize,
}

impl Default for Limits {
    /// Room for a fleet of agents with one connection each.
    fn default() -> Self {
        Self {
            connections: 16_384,
            connections_per_ip: 4_096,
            handshakes: 1_024,
            handshakes_per_ip: 256,
            strangers: 4_096,
            strangers_per_ip: 1_024,
        }
    }
}

/// A TCP socket that yields TLS connections, as tonic's `serve_with_incoming_shutdown` takes them.
///
/// Handshakes run beside each other, and one that fails concerns nobody else. The stream ends when
/// its tasks stop.
#[derive(Debug)]
pub struct TlsIncoming {
    ready: mpsc::Receiver<TlsStream>,
    addr: SocketAddr,
}

impl TlsIncoming {
    /// Listens at `addr` until `tasks` stop, or until it is dropped.
    ///
    /// # Errors
    ///
    /// [`BindError`] if the address is taken or not ours.
    pub async fn bind(
        addr: SocketAddr,
        config: Arc<ServerConfig>,
        limits: Limits,
        tasks: &Tasks,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError { addr, source };
        let listener = TcpListener::bind(addr).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let (done, ready) = mpsc::channel(READY);
        let acceptor = Acceptor {
            tls: config.into(),
            connections: Slots::new(limits.connections, limits.connections_per_ip),
            handshakes: Slots::new(limits.handshakes, limits.handshakes_per_ip),
            strangers: Slots::new(limits.strangers, limits.strangers_per_ip),
            done,
            tasks: tasks.clone(),
        };
        tasks.spawn("tls listener", |stop| async move {
            stop.run_until_cancelled(acceptor.run(listener)).await;
            Ok(())
        });
        Ok(Self { ready, addr })
    }

    /// Where it listens, with the port that the operating system chose if 0 was asked for.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Stream for TlsIncoming {
    type Item = io::Result<TlsStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ready.poll_recv(cx).map(|stream| stream.map(Ok))
    }
}

/// A server can't listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr}; choose another address in the configuration")]
pub struct BindError {
    addr: SocketAddr,
    source: io::Error,
}

struct Acceptor {
    tls: TlsAcceptor,
    connections: Slots<IpAddr>,
    handshakes: Slots<IpAddr>,
    strangers: Slots<IpAddr>,
    done: mpsc::Sender<TlsStream>,
    tasks: Tasks,
}

impl Acceptor {
    async fn run(self, listener: TcpListener) {
        let mut backoff = Backoff::default();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.done.closed() => return,
            };
            match accepted {
                Ok((stream, addr)) => {
                    backoff.reset();
                    if let Err(full) = self.admit(stream, addr) {
                        refused(addr, &Refusal::Full(full));
                    }
                }
                Err(error) => backoff.pause(&error).await,
            }
        }
    }

    /// Starts the handshake of a connection, if there is room.
    fn admit(&self, stream: TcpStream, addr: SocketAddr) -> Result<(), Full> {
        let caller = addr.ip().to_canonical();
        let connection = self.connections.take(caller)?;
        let handshake = self.handshakes.take(caller)?;
        let (tls, done, strangers) = (self.tls.clone(), self.done.clone(), self.strangers.clone());
        self.tasks.spawn("tls handshake", |stop| async move {
            let shaking = async {
                let stream = shake(tls, stream).await?;
                let peer = TlsPeer::new(addr, leaf_of(&stream)?);
                welcome(stream, peer, connection, &strangers)
            };
            let shaken = stop.run_until_cancelled(shaking).await;
            match shaken {
                // The receiver is gone when the server stops; so is the connection then.
                Some(Ok(stream)) => drop(done.send(stream).await),
                Some(Err(refusal)) => refused(addr, &refusal),
                None => {}
            }
            drop(handshake);
            Ok(())
        });
        Ok(())
    }
}

async fn shake(
    tls: TlsAcceptor,
    stream: TcpStream,
) -> Result<server::TlsStream<TcpStream>, Refusal> {
    stream.set_nodelay(true)?;
    let shaken = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await?;
    Ok(shaken.map_err(HandshakeError::from)?)
}

/// Who it is is known: takes a place among the strangers, too, for whoever is nobody.
fn welcome(
    stream: server::TlsStream<TcpStream>,
    peer: TlsPeer,
    connection: Slot<IpAddr>,
    strangers: &Slots<IpAddr>,
) -> Result<TlsStream, Refusal> {
    let stranger = match peer.leaf() {
        Some(_) => None,
        None => Some(strangers.take(peer.addr().ip().to_canonical())?),
    };
    let stay = stranger.is_some().then_some(STAY);
    counter!("claviger_tls_handshakes_total", "outcome" => "done").increment(1);
    Ok(TlsStream::new(stream, peer, (connection, stranger)).that_ends_after(stay))
}

fn refused(addr: SocketAddr, refusal: &Refusal) {
    counter!("claviger_tls_handshakes_total", "outcome" => refusal.label()).increment(1);
    debug!(%addr, error = %Chain(refusal), "TLS connection refused");
}

/// Why a connection is closed.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("too many connections")]
    Full(#[from] Full),
    #[error("handshake not finished in time")]
    Late(#[from] Elapsed),
    #[error("handshake failed")]
    Failed(#[from] HandshakeError),
    #[error("connection broken")]
    Broken(#[from] io::Error),
    #[error("certificate unusable")]
    Leaf(#[from] LeafError),
}

impl Refusal {
    /// The value of a metric's label.
    fn label(&self) -> &'static str {
        match self {
            Self::Full(full) => full.label(),
            Self::Late(_) => "late",
            Self::Failed(_) | Self::Broken(_) | Self::Leaf(_) => "failed",
        }
    }
}

#[cfg(test)]
mod tests;
