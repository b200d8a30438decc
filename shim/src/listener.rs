//! Where connections come in, and what is done to them whatever they carry.

use std::io;
use std::net::SocketAddr;

use claviger_runtime::accept::Backoff;
use claviger_runtime::place::Dialed;
use claviger_runtime::unix::{self, BindError, PeerStream};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::either::Either;
use tracing::debug;

use crate::callers::LocalPeer;
use crate::io::Replay;
use crate::relay::{End, Socket};
use crate::route::{Callers, Door};
use crate::tunnel::Tunnel;

/// Who may connect to a Unix socket behind which programs are told apart, and to one behind which they
/// are not: the socket's own user and group.
const ATTESTED: u32 = 0o666;
const OPEN: u32 = 0o660;

/// Takes connections of programs on this machine. A failing accept is counted, and tried again after a
/// pause.
#[derive(Debug)]
pub(crate) enum Doorway {
    /// On a port.
    Tcp(Port),
    /// On a Unix socket.
    Unix(unix::Listener),
}

/// A program's connection.
pub(crate) type Near = Either<TcpStream, PeerStream>;

impl Doorway {
    /// Listens at `door`, with room for `most` connections if it is a Unix socket.
    pub(crate) async fn bind(
        door: &Door,
        callers: &Callers,
        most: usize,
    ) -> Result<Self, ListenError> {
        match door {
            Door::Tcp(address) | Door::Socks5(address) | Door::Connect(address) => {
                Ok(Self::Tcp(Port::bind(*address).await?))
            }
            Door::Unix(path) => {
                let mode = match callers {
                    Callers::Known(_) | Callers::Descendants(_) => ATTESTED,
                    Callers::Anybody => OPEN,
                };
                let limits = unix::Limits { connections: most, connections_per_uid: most };
                Ok(Self::Unix(unix::Listener::bind(path, mode, limits)?))
            }
        }
    }

    /// Where it listens, with the port that the operating system chose if 0 was asked for; nowhere if
    /// it is no port.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(port) => port.address(),
            Self::Unix(_) => None,
        }
    }

    /// The next connection.
    pub(crate) async fn accept(&mut self) -> Near {
        match self {
            Self::Tcp(port) => Either::Left(port.accept().await.0),
            Self::Unix(listener) => Either::Right(listener.accept().await.unedited()),
        }
    }
}

/// What the connection shows of the program that made it.
///
/// # Errors
///
/// If it is not connected any more.
pub(crate) fn local_peer(near: &Near) -> io::Result<LocalPeer> {
    match near {
        Either::Left(stream) => LocalPeer::of_tcp(stream),
        Either::Right(stream) => Ok(LocalPeer::from(stream)),
    }
}

/// Takes connections on a port.
#[derive(Debug)]
pub(crate) struct Port {
    listener: TcpListener,
    backoff: Backoff,
}

impl Port {
    pub(crate) async fn bind(address: SocketAddr) -> Result<Self, ListenError> {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| ListenError::Tcp { address, source })?;
        Ok(Self { listener, backoff: Backoff::default() })
    }

    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// The next connection, and where it comes from.
    pub(crate) async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        let at_once =
            |(stream, from): (TcpStream, _)| stream.set_nodelay(true).map(|()| (stream, from));
        loop {
            match self.listener.accept().await.and_then(at_once) {
                Ok(accepted) => {
                    self.backoff.reset();
                    return accepted;
                }
                Err(error) => self.backoff.pause(&error).await,
            }
        }
    }
}

/// A route cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}; stop whoever does, or choose another address")]
    Tcp {
        /// Where.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// The socket cannot be made.
    #[error(transparent)]
    Unix(#[from] BindError),
}

impl End for Near {
    fn rest(&mut self) {}

    fn reset(&self) {
        if let Self::Left(tcp) = self {
            reset(tcp);
        }
    }

    /// Of a Unix socket it is looked at who writes.
    fn socket(&self) -> Option<Socket<'_>> {
        match self {
            Self::Left(tcp) => Some(Socket::Tcp(tcp)),
            Self::Right(_) => None,
        }
    }
}

impl<N: End> End for Replay<N> {
    fn rest(&mut self) {
        self.inner_mut().rest();
    }

    fn reset(&self) {
        self.inner().reset();
    }

    fn socket(&self) -> Option<Socket<'_>> {
        self.inner().socket().filter(|_| self.is_over())
    }
}

impl End for Dialed {
    fn rest(&mut self) {}

    fn reset(&self) {
        if let Self::Left(tcp) = self {
            reset(tcp);
        }
    }

    fn socket(&self) -> Option<Socket<'_>> {
        match self {
            Self::Left(tcp) => Some(Socket::Tcp(tcp)),
            Self::Right(Either::Left(unix)) => Some(Socket::Unix(unix)),
            Self::Right(Either::Right(_)) => None,
        }
    }
}

impl End for Tunnel {
    fn rest(&mut self) {
        Self::rest(self);
    }

    /// Without the last word of TLS, nobody takes it for complete.
    fn reset(&self) {}

    fn socket(&self) -> Option<Socket<'_>> {
        None
    }
}

/// Has the connection reset when it is dropped, so that nobody takes it for complete.
pub(crate) fn reset(tcp: &TcpStream) {
    if let Err(error) = tcp.set_zero_linger() {
        debug!(%error, "a connection will seem complete");
    }
}
