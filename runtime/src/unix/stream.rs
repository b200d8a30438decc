//! One accepted connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use super::authority::Edited;
use super::incoming::Incoming;
use super::peer::Peer;
use crate::slots::Slot;

/// A connection and who is at its other end.
#[derive(Debug)]
pub struct PeerStream {
    incoming: Incoming,
    /// What clients of HTTP/2 made up is edited, for servers of it.
    edited: Option<Edited>,
    _slot: Slot<u32>,
}

impl PeerStream {
    pub(super) fn new(incoming: Incoming, slot: Slot<u32>) -> Self {
        Self { incoming, edited: Some(Edited::default()), _slot: slot }
    }

    /// The same with the bytes as they were written, for whoever carries them on. Say so before the first
    /// one is read.
    #[must_use]
    pub fn unedited(self) -> Self {
        Self { edited: None, ..self }
    }

    /// Who connected.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.incoming.peer()
    }
}

impl Connected for PeerStream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer().clone()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { incoming, edited, .. } = &mut *self;
        match edited {
            Some(edited) => edited.poll_read(Pin::new(incoming), cx, buf),
            None => Pin::new(incoming).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.incoming.outgoing().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.incoming.outgoing().poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.incoming.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.incoming.outgoing().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.incoming.outgoing().poll_shutdown(cx)
    }
}
