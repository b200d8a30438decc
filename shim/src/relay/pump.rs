//! One direction of a relay.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffers::{Buffer, Buffers};
use super::splice::{Splice, Stopped};
use super::{End, Ended, Side};

/// Moves bytes one way, until the one end has said everything and the other was told so.
#[derive(Debug, Default)]
pub(super) struct Pump {
    held: Option<Held>,
    splice: Splice,
    phase: Phase,
    /// What broke after the last bytes that were read. It is told once they are written; who reads
    /// again is told that the end was an orderly one.
    broken: Option<io::Error>,
    /// Whether something was written that may still be on its way.
    unflushed: bool,
    moved: u64,
}

/// Bytes that were read and are to be written.
#[derive(Debug)]
struct Held {
    buffer: Buffer,
    written: usize,
    filled: usize,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Phase {
    /// There may be more to read.
    #[default]
    Open,
    /// There is not; who reads has to be told.
    Ending,
    /// They were told.
    Over,
}

/// Where a direction broke.
#[derive(Debug)]
pub(super) enum Snapped {
    Reading(io::Error),
    Writing(io::Error),
}

impl Snapped {
    /// Who broke off, where `from` is read and `to` is written.
    pub(super) fn between(self, from: Side, to: Side) -> Ended {
        match self {
            Self::Reading(error) => Ended::broken(from, error),
            Self::Writing(error) => Ended::broken(to, error),
        }
    }
}

impl Held {
    fn rest(&self) -> &[u8] {
        self.buffer.bytes().get(self.written..self.filled).unwrap_or_default()
    }
}

impl Pump {
    /// How many bytes were written.
    pub(super) const fn moved(&self) -> u64 {
        self.moved
    }

    /// Moves what can be moved. Ready, again and again, once the direction has ended.
    pub(super) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        buffers: &Buffers,
    ) -> Poll<Result<(), Snapped>>
    where
        R: End,
        W: End,
    {
        loop {
            ready!(self.poll_write(cx, to)).map_err(Snapped::Writing)?;
            if let (Some(from), Some(to)) = (from.socket(), to.socket())
                && self.phase == Phase::Open
                && self.splice.is_able()
            {
                match ready!(self.splice.poll(cx, (from, to), &mut self.moved))? {
                    Stopped::End => self.phase = Phase::Ending,
                    Stopped::Unable => {}
                }
            }
            if let Some(error) = self.broken.take() {
                return Poll::Ready(Err(Snapped::Reading(error)));
            }
            match self.phase {
                Phase::Open => match self.poll_read(cx, from, buffers) {
                    Poll::Ready(read) => read.map_err(Snapped::Reading)?,
                    Poll::Pending => {
                        if self.unflushed {
                            ready!(Pin::new(to).poll_flush(cx)).map_err(Snapped::Writing)?;
                            self.unflushed = false;
                        }
                        return Poll::Pending;
                    }
                },
                Phase::Ending => {
                    ready!(poll_shutdown(cx, to)).map_err(Snapped::Writing)?;
                    self.phase = Phase::Over;
                }
                Phase::Over => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Writes everything that was read.
    fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        while let Some(held) = self.held.as_mut().filter(|held| !held.rest().is_empty()) {
            let written = ready!(Pin::new(&mut *to).poll_write(cx, held.rest()))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            held.written = held.written.saturating_add(written);
            self.unflushed = true;
            self.moved = self.moved.saturating_add(u64::try_from(written).unwrap_or(u64::MAX));
        }
        self.held = None;
        Poll::Ready(Ok(()))
    }

    /// Reads all there is, as far as there is room, or that nothing follows. What was read before
    /// something broke is still written.
    fn poll_read<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        buffers: &Buffers,
    ) -> Poll<io::Result<()>> {
        let mut buffer = buffers.take();
        let mut room = ReadBuf::new(buffer.bytes_mut());
        while room.remaining() != 0 {
            let before = room.filled().len();
            match Pin::new(&mut *from).poll_read(cx, &mut room) {
                Poll::Ready(Ok(())) if room.filled().len() == before => {
                    self.phase = Phase::Ending;
                    break;
                }
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) if before == 0 => return Poll::Ready(Err(error)),
                Poll::Ready(Err(error)) => {
                    self.broken = Some(error);
                    break;
                }
                Poll::Pending if before == 0 => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        let filled = room.filled().len();
        self.held = Some(Held { buffer, written: 0, filled });
        Poll::Ready(Ok(()))
    }
}

/// Tells who reads that nothing follows. If they are gone altogether, they need not be told.
fn poll_shutdown<W: AsyncWrite + Unpin>(cx: &mut Context<'_>, to: &mut W) -> Poll<io::Result<()>> {
    match ready!(Pin::new(to).poll_shutdown(cx)) {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
        shut => Poll::Ready(shut),
    }
}
