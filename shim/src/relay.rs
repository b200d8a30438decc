//! Carries bytes both ways between a program on this machine and whoever is at the other end, until
//! both are done or somebody says that it is over.
//!
//! Either direction may end first, and the other goes on. Whoever does not read holds up whoever
//! writes, and fills no memory: a direction holds at most one buffer, and only while there is something
//! in it. A connection on which nothing moves has no buffers at all.

mod buffers;
mod pace;
mod pump;
mod splice;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::enforcer::Denied;
use crate::route::Lifetime;
pub(crate) use buffers::Buffers;
use pace::Pace;
use pump::Pump;
pub(crate) use splice::Socket;

/// One of the two ends of a relay.
pub(crate) trait End: AsyncRead + AsyncWrite + Unpin {
    /// Gives back the memory that is needed only while bytes move.
    fn rest(&mut self);

    /// Has it end, when it is dropped, so that who is there cannot take it for complete. A Unix socket
    /// has no way to say that.
    fn reset(&self);

    /// The socket that it is, if what the kernel moves there need not be looked at here.
    fn socket(&self) -> Option<Socket<'_>>;
}

/// Which end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    /// The program on this machine.
    Local,
    /// The other end of the tunnel.
    Remote,
}

/// How a connection ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Both ends are done; this one was done first.
    Done(Side),
    /// This end broke off.
    Broken(Side, io::Error),
    /// The policies permit it no more, or one end is in quarantine.
    Denied(Denied),
    /// Nothing moved for too long.
    Idle,
    /// It reached its greatest age.
    Aged,
    /// The shim stops.
    Stopped,
}

impl Ended {
    /// The value of a metric's label, and of `ended` in records.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::Done(Side::Local) => "done-local",
            Self::Done(Side::Remote) => "done-remote",
            Self::Broken(Side::Local, _) => "broken-local",
            Self::Broken(Side::Remote, _) => "broken-remote",
            Self::Denied(_) => "denied",
            Self::Idle => "idle",
            Self::Aged => "max-age",
            Self::Stopped => "stopped",
        }
    }

    /// Whether each end was told everything that the other one said.
    pub(crate) const fn is_complete(&self) -> bool {
        matches!(self, Self::Done(_))
    }

    fn broken(side: Side, error: io::Error) -> Self {
        let denied = error.get_ref().and_then(|inner| inner.downcast_ref::<Denied>()).cloned();
        match denied {
            Some(denied) => Self::Denied(denied),
            None => Self::Broken(side, error),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(_, error) => write!(f, "{}: {error}", self.label()),
            Self::Denied(denied) => denied.fmt(f),
            Self::Done(_) | Self::Idle | Self::Aged | Self::Stopped => f.write_str(self.label()),
        }
    }
}

/// How many bytes have moved.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Moved {
    /// From the program on this machine.
    pub(crate) sent: u64,
    /// To it.
    pub(crate) received: u64,
}

/// How long a connection may last.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// By its route.
    pub(crate) lifetime: Lifetime,
    /// Fires when the shim stops.
    pub(crate) stop: CancellationToken,
    /// How long it may go on then.
    pub(crate) grace: Duration,
}

/// Carries bytes between `near` and `far`, with `buffers`, for as long as `terms` allow.
pub(crate) async fn carry<N: End, F: End>(
    near: &mut N,
    far: &mut F,
    buffers: &Buffers,
    terms: &Terms,
) -> (Ended, Moved) {
    let mut relay = Relay {
        near,
        far,
        out: Pump::default(),
        back: Pump::default(),
        first: None,
        pace: Pace::new(terms.lifetime),
    };
    let stopped = async {
        terms.stop.cancelled().await;
        tokio::time::sleep(terms.grace).await;
    };
    let ended = tokio::select! {
        ended = poll_fn(|cx| relay.poll(cx, buffers)) => ended,
        () = stopped => Ended::Stopped,
    };
    (ended, Moved { sent: relay.out.moved(), received: relay.back.moved() })
}

struct Relay<'a, N, F> {
    near: &'a mut N,
    far: &'a mut F,
    out: Pump,
    back: Pump,
    /// Who was done first.
    first: Option<Side>,
    pace: Pace,
}

impl<N: End, F: End> Relay<'_, N, F> {
    fn poll(&mut self, cx: &mut Context<'_>, buffers: &Buffers) -> Poll<Ended> {
        match self.poll_pumps(cx, buffers) {
            Poll::Ready(Ok(first)) => Poll::Ready(Ended::Done(first)),
            Poll::Ready(Err(ended)) => Poll::Ready(ended),
            Poll::Pending => self.poll_pace(cx),
        }
    }

    /// Moves what can be moved; ready with who was done first once both are.
    fn poll_pumps(&mut self, cx: &mut Context<'_>, buffers: &Buffers) -> Poll<Result<Side, Ended>> {
        let out = self.out.poll(cx, self.near, self.far, buffers);
        let out = out.map_err(|snapped| snapped.between(Side::Local, Side::Remote))?;
        if out.is_ready() {
            self.first.get_or_insert(Side::Local);
        }
        let back = self.back.poll(cx, self.far, self.near, buffers);
        let back = back.map_err(|snapped| snapped.between(Side::Remote, Side::Local))?;
        if back.is_ready() {
            self.first.get_or_insert(Side::Remote);
        }
        match self.first {
            Some(first) if out.is_ready() && back.is_ready() => Poll::Ready(Ok(first)),
            Some(_) | None => Poll::Pending,
        }
    }

    /// Whether it has lasted long enough; gives memory back on the way there.
    fn poll_pace(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        self.pace.note(self.out.moved().wrapping_add(self.back.moved()));
        loop {
            match ready!(self.pace.poll(cx)) {
                Some(ended) => return Poll::Ready(ended),
                None => {
                    self.near.rest();
                    self.far.rest();
                }
            }
        }
    }
}
