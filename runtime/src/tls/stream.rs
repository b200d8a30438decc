//! One TLS connection that we accepted, over whatever it came.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use claviger_core::id::SpiffeId;
use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_rustls::server;
use tonic::transport::server::Connected;

use super::leaf::{Leaf, LeafError};
use crate::slots::Slot;

/// Who is at the other end of a TLS connection, as of its handshake.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsPeer {
    addr: SocketAddr,
    leaf: Option<Arc<Leaf>>,
}

impl TlsPeer {
    pub(super) fn new(addr: SocketAddr, leaf: Option<Leaf>) -> Self {
        Self { addr, leaf: leaf.map(Arc::new) }
    }

    /// Where it connected from.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its identity; `None` for a client without a certificate.
    #[must_use]
    pub fn id(&self) -> Option<&SpiffeId> {
        self.leaf().map(Leaf::id)
    }

    /// What its certificate says. It was valid at the handshake; on a connection that lives longer
    /// than a certificate, compare [`Leaf::not_after`] with the time of the request.
    #[must_use]
    pub fn leaf(&self) -> Option<&Leaf> {
        self.leaf.as_deref()
    }
}

/// A connection over the network, with its place among all of them and, of strangers, among those.
pub type TlsStream = Accepted<TcpStream, TlsPeer, (Slot<IpAddr>, Option<Slot<IpAddr>>)>;

/// A TLS connection over `S` and who is at its other end. It keeps `G`, its room, until it ends.
#[derive(Debug)]
pub struct Accepted<S, P, G = ()> {
    stream: server::TlsStream<S>,
    peer: P,
    /// Rings when the connection has to end, if it has to.
    end: Option<Pin<Box<Sleep>>>,
    _room: G,
}

impl<S, P, G> Accepted<S, P, G> {
    pub(super) fn new(stream: server::TlsStream<S>, peer: P, room: G) -> Self {
        Self { stream, peer, end: None, _room: room }
    }

    /// The same, if `stay` is given for that long: from then on it can neither be read nor written.
    pub(super) fn that_ends_after(self, stay: Option<Duration>) -> Self {
        Self { end: stay.map(|stay| Box::pin(sleep(stay))), ..self }
    }

    fn check_end(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().map(|end| end.as_mut().poll(cx)) {
            Some(Poll::Ready(())) => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "the caller stayed for too long"))
            }
            Some(Poll::Pending) | None => Ok(()),
        }
    }

    /// Who connected.
    #[must_use]
    pub fn peer(&self) -> &P {
        &self.peer
    }

    /// What was negotiated.
    #[must_use]
    pub fn connection(&self) -> &ServerConnection {
        self.stream.get_ref().1
    }
}

/// What the certificate says that the other end presented, if it presented one. The verifier has
/// accepted it; this only reads it once more.
pub(super) fn leaf_of<S>(stream: &server::TlsStream<S>) -> Result<Option<Leaf>, LeafError> {
    match stream.get_ref().1.peer_certificates() {
        Some([leaf, ..]) => Leaf::parse(leaf).map(Some),
        Some([]) | None => Ok(None),
    }
}

impl<S, P: Clone + Send + Sync + 'static, G> Connected for Accepted<S, P, G> {
    type ConnectInfo = P;

    fn connect_info(&self) -> P {
        self.peer.clone()
    }
}

impl<S, P, G> AsyncRead for Accepted<S, P, G>
where
    S: AsyncRead + AsyncWrite + Unpin,
    P: Unpin,
    G: Unpin,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_end(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S, P, G> AsyncWrite for Accepted<S, P, G>
where
    S: AsyncRead + AsyncWrite + Unpin,
    P: Unpin,
    G: Unpin,
{
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_end(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_end(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
