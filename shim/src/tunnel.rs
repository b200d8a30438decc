//! An authenticated, encrypted connection between two identities, however they proved themselves.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use claviger_core::id::SpiffeId;
use claviger_core::psk::{Purpose, Run};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::backend::{ExportError, Session};
use crate::enforcer::{Admitted, Denied};

/// Who is at the two ends of a connection, and how it is protected.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ends {
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
pub struct Tunnel {
    /// None once it has been cut.
    session: Option<Box<dyn Session>>,
    ends: Ends,
    hold: Option<Hold>,
}

/// What a stream is open by. Reading and writing may wait in two tasks, and each is woken.
#[derive(Debug)]
struct Hold {
    admitted: Admitted,
    over: [Pin<Box<WaitForCancellationFutureOwned>>; 2],
}

#[derive(Clone, Copy, Debug)]
enum Direction {
    Read,
    Write,
}

impl Hold {
    fn new(admitted: Admitted) -> Self {
        let over = || Box::pin(admitted.token().clone().cancelled_owned());
        Self { over: [over(), over()], admitted }
    }

    /// Why the stream may not go on, if it may not; otherwise whoever asks is woken when that is so.
    fn poll_over(&mut self, cx: &mut Context<'_>, direction: Direction) -> Option<Denied> {
        let [read, write] = &mut self.over;
        let over = match direction {
            Direction::Read => read,
            Direction::Write => write,
        };
        if over.as_mut().poll(cx).is_pending() {
            return None;
        }
        // It is said why before anybody is told to end.
        self.admitted.over().cloned()
    }
}

impl Tunnel {
    /// The stream over `session`, for as long as it is `admitted`.
    pub(crate) fn new(session: Box<dyn Session>, ends: Ends, admitted: Option<Admitted>) -> Self {
        Self { session: Some(session), ends, hold: admitted.map(Hold::new) }
    }

    /// Who is at the two ends.
    #[must_use]
    pub fn ends(&self) -> &Ends {
        &self.ends
    }

    /// Fills `out` with keying material that only the two ends of this connection can compute
    /// (RFC 8446 §7.5), to bind something else to it.
    ///
    /// # Errors
    ///
    /// [`ExportError`] if the TLS stack cannot: the label or the context is too long.
    pub fn export(&self, label: &[u8], context: &[u8], out: &mut [u8]) -> Result<(), ExportError> {
        let cut = || ExportError(Box::new(io::Error::from(io::ErrorKind::NotConnected)));
        self.session.as_ref().ok_or_else(cut)?.export(label, context, out)
    }

    /// Gives back the memory that is needed only while bytes move. It is taken again when they do.
    pub fn rest(&mut self) {
        if let Some(session) = &mut self.session {
            session.rest();
        }
    }

    /// The open session. If it may not go on, it ends here: the connection is closed, without the
    /// word by which the other end would take it for complete.
    fn session(
        &mut self,
        cx: &mut Context<'_>,
        direction: Direction,
    ) -> io::Result<Pin<&mut dyn Session>> {
        if let Some(why) = self.hold.as_mut().and_then(|hold| hold.poll_over(cx, direction)) {
            self.session = None;
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, why));
        }
        let session = self.session.as_deref_mut().ok_or(io::ErrorKind::NotConnected)?;
        Ok(Pin::new(session))
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.session(cx, Direction::Read)?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.session(cx, Direction::Write)?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.session(cx, Direction::Write)?.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_write_vectored())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session(cx, Direction::Write)?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session(cx, Direction::Write)?.poll_shutdown(cx)
    }
}
