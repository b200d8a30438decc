//! Two ways to stand between the TLS stack and the connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

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

    /// Whether everything that was read ahead has been given back.
    pub(crate) const fn is_over(&self) -> bool {
        self.ahead.is_empty()
    }

    pub(crate) const fn inner(&self) -> &S {
        &self.inner
    }

    pub(crate) const fn inner_mut(&mut self) -> &mut S {
        &mut self.inner
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
#[derive(Debug)]
pub(crate) struct Flights<S> {
    inner: S,
    /// The flight being written; a handshake's is below 20 KiB, a certificate chain included.
    held: Vec<u8>,
    sent: usize,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// The peer has nothing from us.
    Silent,
    /// The peer has a flight of ours.
    Speaking,
    /// The handshake is over, and what is written goes through.
    Done,
}

impl<S: AsyncWrite + Unpin> Flights<S> {
    pub(crate) const fn new(inner: S) -> Self {
        Self { inner, held: Vec::new(), sent: 0, stage: Stage::Silent }
    }

    /// Sends the last flight, after which nothing was read, and holds nothing back any more.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_send(cx)).await?;
        self.held = Vec::new();
        self.stage = Stage::Done;
        self.inner.flush().await
    }

    /// The connection, and whether the peer has anything from us.
    pub(crate) fn into_inner(self) -> (S, bool) {
        (self.inner, self.stage != Stage::Silent)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.held.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let sent = ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.stage = Stage::Speaking;
            self.sent = self.sent.saturating_add(sent);
        }
        self.held.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Flights<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.stage != Stage::Done {
            ready!(self.poll_send(cx))?;
        }
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Flights<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.stage == Stage::Done {
            return Pin::new(&mut self.inner).poll_write(cx, bytes);
        }
        self.held.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.stage == Stage::Done {
            return Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        }
        let before = self.held.len();
        slices.iter().for_each(|slice| self.held.extend_from_slice(slice));
        Poll::Ready(Ok(self.held.len().saturating_sub(before)))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stage {
            Stage::Done => Pin::new(&mut self.inner).poll_flush(cx),
            Stage::Silent | Stage::Speaking => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.stage == Stage::Done {
            return Pin::new(&mut self.inner).poll_shutdown(cx);
        }
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
