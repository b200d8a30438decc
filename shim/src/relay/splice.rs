//! Bytes from socket to socket that never come up to this process (splice(2)). It needs both ends as they
//! are, without TLS between them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

use super::pump::Snapped;

/// The most bytes that go into a pipe at once: what one has room for.
const ROOM: usize = 64 << 10;

/// A socket of the kernel's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Socket<'a> {
    Tcp(&'a TcpStream),
    Unix(&'a UnixStream),
}

impl Socket<'_> {
    fn poll_read_ready(self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    fn poll_write_ready(self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(cx),
            Self::Unix(stream) => stream.poll_write_ready(cx),
        }
    }

    /// Does `work`, which says that it would block if there is nothing to do after all.
    fn try_io(
        self,
        interest: Interest,
        work: impl FnOnce() -> io::Result<usize>,
    ) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_io(interest, work),
            Self::Unix(stream) => stream.try_io(interest, work),
        }
    }
}

impl AsFd for Socket<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

/// Where bytes are on their way. There is one only while there are some.
#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    filled: usize,
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Self { read, write, filled: 0 })
    }

    /// Takes what `from` has to say; how much that is.
    fn take(&mut self, from: Socket<'_>) -> io::Result<usize> {
        let take = || move_bytes(&from, &self.write, ROOM);
        let taken = from.try_io(Interest::READABLE, take)?;
        self.filled = taken;
        Ok(taken)
    }

    /// Gives what is in it to `to`; how much was given.
    fn give(&mut self, to: Socket<'_>) -> io::Result<usize> {
        let give = || move_bytes(&self.read, &to, self.filled);
        let given = to.try_io(Interest::WRITABLE, give)?;
        self.filled = self.filled.saturating_sub(given);
        Ok(given)
    }
}

/// One direction between two sockets.
#[derive(Debug, Default)]
pub(super) struct Splice {
    pipe: Option<Pipe>,
    /// Whether the kernel does not do this for these sockets, or had no descriptors left.
    unable: bool,
}

/// Why there is nothing more to splice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stopped {
    /// Everything was said.
    End,
    /// The rest has to be copied.
    Unable,
}

impl Splice {
    pub(super) const fn is_able(&self) -> bool {
        !self.unable
    }

    /// Moves what can be moved, and adds to `moved` how much that is.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        (from, to): (Socket<'_>, Socket<'_>),
        moved: &mut u64,
    ) -> Poll<Result<Stopped, Snapped>> {
        loop {
            while let Some(pipe) = self.pipe.as_mut().filter(|pipe| pipe.filled != 0) {
                ready!(to.poll_write_ready(cx)).map_err(Snapped::Writing)?;
                match pipe.give(to) {
                    Ok(given) => *moved = moved.saturating_add(u64::try_from(given).unwrap_or(0)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Poll::Ready(Err(Snapped::Writing(error))),
                }
            }
            if from.poll_read_ready(cx).map_err(Snapped::Reading)?.is_pending() {
                // While nothing moves, nothing is held.
                self.pipe = None;
                return Poll::Pending;
            }
            let Ok(pipe) = self.pipe.take().map_or_else(Pipe::new, Ok) else {
                return Poll::Ready(Ok(self.give_up()));
            };
            match self.pipe.insert(pipe).take(from) {
                Ok(0) => return Poll::Ready(Ok(Stopped::End)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    return Poll::Ready(Ok(self.give_up()));
                }
                Err(error) => return Poll::Ready(Err(Snapped::Reading(error))),
            }
        }
    }

    fn give_up(&mut self) -> Stopped {
        *self = Self { pipe: None, unable: true };
        Stopped::Unable
    }
}

fn move_bytes(from: &impl AsFd, to: &impl AsFd, most: usize) -> io::Result<usize> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    loop {
        match splice(from, None, to, None, most, flags) {
            Err(Errno::INTR) => {}
            moved => return Ok(moved?),
        }
    }
}
