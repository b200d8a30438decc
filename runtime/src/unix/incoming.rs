//! What a caller writes, and nobody else.
//!
//! A descriptor can be inherited and handed on, so who connected need not be who writes. The kernel
//! is asked with every read (SO_PASSCRED and SCM_CREDENTIALS, unix(7)); it never mixes what different
//! processes wrote in one answer. All threads of a process are the same writer; a child is another.
//!
//! The number of the writer is enough. While the caller lives, its number is its own, and what was
//! written under it since the caller connected was written by the caller; when it has ended, nothing
//! is answered any more.

use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use metrics::counter;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg};
use rustix::io::ioctl_fionread;
use tokio::io::{AsyncRead, AsyncWrite as _, Interest, ReadBuf};
use tokio::net::UnixStream;
use tracing::warn;

use super::peer::Peer;

/// The bytes of one connection, all of them by the process that made it.
#[derive(Debug)]
pub(super) struct Incoming {
    stream: UnixStream,
    peer: Peer,
    /// How much of what is still to be read may have been written before the caller was looked at;
    /// none once something newer was read.
    old: Option<u64>,
}

impl Incoming {
    /// The bytes of `stream`, which `peer` connected. Its program has been looked at by now.
    pub(super) fn new(stream: UnixStream, peer: Peer) -> io::Result<Self> {
        let old = Some(ioctl_fionread(&stream)?);
        Ok(Self { stream, peer, old })
    }

    /// Who connected.
    pub(super) const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The way back.
    pub(super) fn outgoing(&mut self) -> Pin<&mut UnixStream> {
        Pin::new(&mut self.stream)
    }

    /// Whether the way back takes several slices at once.
    pub(super) fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Takes note of `count` bytes by `writer`.
    fn heard(&mut self, count: usize, writer: Option<u32>) -> io::Result<()> {
        if writer != Some(self.peer.pid()) {
            return Err(self.refuse(writer));
        }
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        if let Some(old) = self.old {
            self.old = old.checked_sub(count);
            if self.old.is_none() {
                self.peer.has_spoken();
            }
        }
        Ok(())
    }

    /// Ends the connection at once, for both who hold it.
    fn refuse(&self, writer: Option<u32>) -> io::Error {
        counter!("claviger_unix_foreign_writers_total").increment(1);
        warn!(
            pid = self.peer.pid(),
            uid = self.peer.uid(),
            writer,
            "a connection is ended: another process wrote to it than the one that made it"
        );
        if let Err(error) = rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Both) {
            warn!(error = %error, "cannot shut the connection down");
        }
        io::Error::new(io::ErrorKind::PermissionDenied, "another process wrote")
    }
}

impl AsyncRead for Incoming {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            let unfilled = buf.initialize_unfilled();
            let read = self.stream.try_io(Interest::READABLE, || receive(&self.stream, unfilled));
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok((0, _)) => return Poll::Ready(Ok(())),
                Ok((count, writer)) => {
                    self.heard(count, writer)?;
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

/// Room for the credentials of a writer and for nothing else: descriptors that a caller sends along
/// are not taken.
#[derive(Default)]
#[repr(align(8))]
struct Credentials([u8; nix::sys::socket::cmsg_space::<UnixCredentials>()]);

/// Reads what one process wrote: how much, and the process's number, if it has one that we see.
fn receive(stream: &UnixStream, bytes: &mut [u8]) -> io::Result<(usize, Option<u32>)> {
    let mut credentials = Credentials::default();
    let mut bytes = [IoSliceMut::new(bytes)];
    let control = Some(credentials.0.as_mut_slice());
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let received = recvmsg::<()>(stream.as_raw_fd(), &mut bytes, control, flags)?;
    let writer = received.cmsgs().ok().into_iter().flatten().find_map(|message| {
        let ControlMessageOwned::ScmCredentials(credentials) = message else { return None };
        u32::try_from(credentials.pid()).ok()
    });
    Ok((received.bytes, writer.filter(|pid| *pid != 0)))
}

#[cfg(test)]
mod tests;
