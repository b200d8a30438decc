//! A wire that is tapped: somebody on the way records what is sent first.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection whose first flight is recorded: all that is written before anything is read.
#[derive(Debug)]
pub(super) struct Tap<S> {
    io: S,
    answered: bool,
    recording: Recording,
}

/// What was recorded.
#[derive(Clone, Debug, Default)]
pub(super) struct Recording(Arc<Mutex<Vec<u8>>>);

impl Recording {
    pub(super) fn first_flight(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<S> Tap<S> {
    pub(super) fn new(io: S) -> (Self, Recording) {
        let recording = Recording::default();
        (Self { io, answered: false, recording: recording.clone() }, recording)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.answered |= before < buf.filled().len();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
        if !self.answered {
            let mut recorded = self.recording.0.lock().unwrap_or_else(PoisonError::into_inner);
            recorded.extend(bytes.iter().take(written));
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn only_what_is_sent_before_the_answer_is_recorded() {
        let (near, mut far) = duplex(64);
        let (mut tap, recording) = Tap::new(near);
        tap.write_all(b"hel").await.unwrap();
        tap.write_all(b"lo").await.unwrap();
        far.write_all(b"!").await.unwrap();
        tap.read_u8().await.unwrap();
        tap.write_all(b"rest").await.unwrap();
        assert_eq!(recording.first_flight(), b"hello");
    }
}
