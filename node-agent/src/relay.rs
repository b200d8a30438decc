//! A byte relay from the enclaves on this machine to the agent's own servers, and to nowhere else.
//!
//! An enclave has no network. It connects here, and what it sends is carried to the server as it is,
//! and back: TLS ends inside the enclave. The relay parses nothing and holds no secret; all that it
//! could do to a connection is end it.
//!
//! One that is slow slows down the other end and fills no memory; one that shut down its direction
//! still gets the answer; one on which nothing moves is ended.

mod carry;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use claviger_runtime::place::{LocalDoor, ServerAddrs};
use claviger_runtime::slots::Slots;
use claviger_runtime::tasks::Tasks;
use claviger_runtime::unix::{BindError, PlainListener};
use claviger_runtime::vsock;
use tokio::net::UnixStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tokio_vsock::VsockStream;
use tracing::{info, warn};

use crate::metrics;
use carry::Carrier;

/// Who may connect to a Unix socket of the relay's: its own user, as which the virtual machines run,
/// and that user's group.
const SOCKET_MODE: u32 = 0o660;

/// How a relay works.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Where enclaves connect.
    pub listen: LocalDoor,
    /// How much of everything there may be.
    pub limits: Limits,
}

/// How much of everything there may be; beyond it, the relay refuses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Connections at a time. Each takes two file descriptors and 16 kB.
    pub connections: usize,
    /// Of any one enclave, by its CID; on a Unix socket, of any one user.
    pub connections_per_peer: usize,
    /// A connection on which nothing moved for this long is ended, up to as much later.
    pub idle: Duration,
}

impl Default for Limits {
    /// An agent needs one connection, and for a moment a second one.
    fn default() -> Self {
        Self { connections: 256, connections_per_peer: 16, idle: Duration::from_secs(90) }
    }
}

/// Starts a relay to `servers`, which runs until `tasks` stop. Each connection goes to the next of them that
/// takes it.
///
/// # Errors
///
/// [`OpenRelayError`] if it can't listen.
pub fn open(
    settings: &Settings,
    servers: &ServerAddrs,
    tasks: &Tasks,
) -> Result<(), OpenRelayError> {
    let listener = Listener::bind(&settings.listen)?;
    info!(listen = %settings.listen, servers = %servers, "relaying");
    let Limits { connections, connections_per_peer, idle } = settings.limits;
    let slots = Slots::new(connections, connections_per_peer);
    let carrier = Arc::new(Carrier::new(servers.clone(), idle));
    let relay = Relay { listener, slots, carrier, tasks: tasks.clone() };
    tasks.spawn("relay", |stop| relay.run(stop));
    Ok(())
}

/// Whoever accepts.
struct Relay {
    listener: Listener,
    slots: Slots<u32>,
    carrier: Arc<Carrier>,
    tasks: Tasks,
}

impl Relay {
    async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        while let Some((near, peer)) = stop.run_until_cancelled(self.listener.accept()).await {
            match self.slots.take(peer) {
                Ok(slot) => {
                    let carrier = Arc::clone(&self.carrier);
                    self.tasks.spawn("relay connection", |stop| async move {
                        carrier.carry(near, peer, stop).await;
                        drop(slot);
                        Ok(())
                    });
                }
                Err(full) => {
                    metrics::relay_refused(full.label());
                    warn!(peer, error = %full, "too many connections; one was closed");
                }
            }
        }
        Ok(())
    }
}

/// A connection of an enclave's.
type Near = Either<UnixStream, VsockStream>;

enum Listener {
    Unix(PlainListener),
    Vsock(vsock::Listener),
}

impl Listener {
    fn bind(door: &LocalDoor) -> Result<Self, OpenRelayError> {
        match door {
            LocalDoor::Unix(path) => Ok(Self::Unix(PlainListener::bind(path, SOCKET_MODE)?)),
            LocalDoor::Vsock(port) => vsock::Listener::bind(*port)
                .map(Self::Vsock)
                .map_err(|source| OpenRelayError::Vsock { port: *port, source }),
        }
    }

    /// The next connection, and the CID or the user id that it came from.
    async fn accept(&mut self) -> (Near, u32) {
        match self {
            Self::Unix(listener) => {
                let (stream, uid) = listener.accept().await;
                (Either::Left(stream), uid)
            }
            Self::Vsock(listener) => {
                let (stream, cid) = listener.accept().await;
                (Either::Right(stream), cid)
            }
        }
    }
}

/// A relay can't start.
#[derive(Debug, thiserror::Error)]
pub enum OpenRelayError {
    /// Its Unix socket can't be made.
    #[error(transparent)]
    Unix(#[from] BindError),
    /// Its port can't be had.
    #[error(
        "cannot listen on port {port} of vsock; another process may have it, or this machine has \
         no vsock: `modprobe vhost_vsock` on a host of virtual machines"
    )]
    Vsock {
        /// The port.
        port: u32,
        /// What the operating system says.
        source: io::Error,
    },
}
