//! A connection that a one-time PSK authenticated.

#[cfg(test)]
mod tests;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use claviger_core::id::SpiffeId;
use claviger_core::psk::derive::Psk;
use claviger_core::psk::identity::WireIdentity;
use claviger_core::psk::{Purpose, Run};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::backend::{Backend, ExportError, Handshake, HandshakeError, Io, Outcome, Role, Session};
use crate::io::Flights;

/// Who is at the two ends of a connection, and how it is protected.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PskPeer {
    /// Who dialled.
    pub client: SpiffeId,
    /// Who answered.
    pub server: SpiffeId,
    /// What for.
    pub purpose: Purpose,
    /// Which run of the client dialled, such as one attempt of a CI job, if the key was for one only.
    /// The key cannot have come from another run.
    pub run: Option<Run>,
    /// The key exchange, such as `X25519MLKEM768`.
    pub group: String,
    /// The cipher suite, such as `TLS_AES_128_GCM_SHA256`.
    pub suite: String,
}

/// An authenticated, encrypted stream. Shut it down before dropping it, so that the other end can
/// tell the end from a cut.
#[derive(Debug)]
pub struct PskStream {
    session: Box<dyn Session>,
    peer: PskPeer,
}

/// Who talks to whom and why, as the broker said.
#[derive(Debug)]
pub(crate) struct Parties {
    pub(crate) client: SpiffeId,
    pub(crate) server: SpiffeId,
    pub(crate) purpose: Purpose,
    pub(crate) run: Option<Run>,
}

/// A handshake that was the one we wanted.
#[derive(Debug)]
pub(crate) struct Judged {
    handshake: Box<dyn Handshake>,
    group: String,
    suite: String,
}

impl Judged {
    /// Shakes hands, and requires that it is TLS 1.3 with a Diffie-Hellman exchange, authenticated
    /// by the key named `identity`. Otherwise what is left of our last flight is not sent.
    pub(crate) async fn shake_hands(
        backend: &dyn Backend,
        role: Role,
        (identity, psk): (WireIdentity, &Psk),
        io: &mut dyn Io,
    ) -> Result<Self, HandshakeError> {
        let mut flights = Flights::new(io);
        let handshake = backend.handshake(role, identity, psk, &mut flights).await?;
        let Outcome { tls13, identity: used, group, suite } = handshake.outcome()?;
        let group = group.ok_or(HandshakeError::Unauthenticated)?;
        if !tls13 || used != identity.to_string().as_bytes() {
            return Err(HandshakeError::Unauthenticated);
        }
        flights.finish().await.map_err(HandshakeError::Io)?;
        Ok(Self { handshake, group, suite })
    }
}

impl PskStream {
    /// The stream after `judged`, over the connection that it went over.
    pub(crate) fn open(judged: Judged, parties: Parties, io: impl Io + 'static) -> Self {
        let Judged { handshake, group, suite } = judged;
        let Parties { client, server, purpose, run } = parties;
        let peer = PskPeer { client, server, purpose, run, group, suite };
        Self { session: handshake.open(Box::new(io)), peer }
    }

    /// Who is at the two ends.
    #[must_use]
    pub fn peer(&self) -> &PskPeer {
        &self.peer
    }

    /// Fills `out` with keying material that only the two ends of this connection can compute
    /// (RFC 8446 §7.5), to bind something else to it.
    ///
    /// # Errors
    ///
    /// [`ExportError`] if the TLS stack cannot: the label or the context is too long.
    pub fn export(&self, label: &[u8], context: &[u8], out: &mut [u8]) -> Result<(), ExportError> {
        self.session.export(label, context, out)
    }
}

impl AsyncRead for PskStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.session).poll_read(cx, buf)
    }
}

impl AsyncWrite for PskStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.session).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.session).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.session.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.session).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.session).poll_shutdown(cx)
    }
}
