//! Two ways to stand between the TLS stack and the connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::backend::Io;

/// Gives back bytes that were read ahead, then goes on with the connection.
#[derive(Debug)]
pub(crate) struct Replay<S> {
    ahead: Vec<u8>,
    given: usize,
    inner: S,
}

impl<S> Replay<S> {
    pub(crate) const fn new(ahead: Vec<u8>, inner: S) -> Self {
        Self { ahead, given: 0, inner }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Replay<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = self.ahead.get(self.given..).unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let (now, later) = rest.split_at(rest.len().min(buf.remaining()));
        buf.put_slice(now);
        let given = self.ahead.len().saturating_sub(later.len());
        if later.is_empty() {
            self.ahead = Vec::new();
        } else {
            self.given = given;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Replay<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Lets a TLS stack shake hands, but keeps what it writes until it waits for the peer.
///
/// A stack that gives up writes its own alert, then shuts down: that alert is still here, and is
/// dropped. So what the peer learns of a failure is decided in one place, and not by the stack.
pub(crate) struct Flights<'a> {
    inner: &'a mut dyn Io,
    /// The flight being written; a handshake's is below 20 KiB, a certificate chain included.
    held: Vec<u8>,
    sent: usize,
}

impl<'a> Flights<'a> {
    pub(crate) fn new(inner: &'a mut dyn Io) -> Self {
        Self { inner, held: Vec::new(), sent: 0 }
    }

    /// Sends the last flight, after which nothing was read.
    pub(crate) async fn finish(mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_send(cx)).await?;
        self.inner.flush().await
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.held.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let sent = ready!(Pin::new(&mut *self.inner).poll_write(cx, rest))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent = self.sent.saturating_add(sent);
        }
        self.held.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Flights<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut *self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Flights<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.held.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.held.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    #[tokio::test]
    async fn what_was_read_ahead_comes_first_and_once() {
        let (mut near, far) = duplex(64);
        near.write_all(b"later").await.unwrap();
        near.shutdown().await.unwrap();
        let mut replay = Replay::new(b"first ".to_vec(), far);
        let mut small = [0; 2];
        replay.read_exact(&mut small).await.unwrap();
        assert_eq!(&small, b"fi");
        let mut rest = String::new();
        replay.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "rst later");
    }

    #[tokio::test]
    async fn a_flight_leaves_when_its_writer_waits() {
        let (mut near, mut far) = duplex(64);
        let mut flights = Flights::new(&mut far);
        flights.write_all(b"hel").await.unwrap();
        flights.write_all(b"lo").await.unwrap();
        flights.flush().await.unwrap();
        near.write_all(b"!").await.unwrap();
        assert_eq!(flights.read_u8().await.unwrap(), b'!');
        let mut got = [0; 5];
        near.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello");

        flights.write_all(b"bye").await.unwrap();
        flights.finish().await.unwrap();
        near.read_exact(&mut got[..3]).await.unwrap();
        assert_eq!(&got[..3], b"bye");
    }

    #[tokio::test]
    async fn what_a_stack_writes_before_it_shuts_down_is_dropped() {
        let (mut near, mut far) = duplex(64);
        let mut flights = Flights::new(&mut far);
        flights.write_all(b"alert").await.unwrap();
        flights.shutdown().await.unwrap();
        flights.finish().await.unwrap();
        far.write_all(b"ours").await.unwrap();
        drop(far);
        let mut got = String::new();
        near.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "ours");
    }
}
