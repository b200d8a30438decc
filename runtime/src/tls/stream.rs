//! One TLS connection that we accepted.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use claviger_core::id::SpiffeId;
use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server;
use tonic::transport::server::Connected;

use super::leaf::Leaf;
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

/// A connection and who is at its other end.
#[derive(Debug)]
pub struct TlsStream {
    stream: server::TlsStream<TcpStream>,
    peer: TlsPeer,
    _slot: Slot<IpAddr>,
}

impl TlsStream {
    pub(super) fn new(
        stream: server::TlsStream<TcpStream>,
        peer: TlsPeer,
        slot: Slot<IpAddr>,
    ) -> Self {
        Self { stream, peer, _slot: slot }
    }

    /// Who connected.
    #[must_use]
    pub fn peer(&self) -> &TlsPeer {
        &self.peer
    }

    /// What was negotiated.
    #[must_use]
    pub fn connection(&self) -> &ServerConnection {
        self.stream.get_ref().1
    }
}

impl Connected for TlsStream {
    type ConnectInfo = TlsPeer;

    fn connect_info(&self) -> TlsPeer {
        self.peer.clone()
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
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
