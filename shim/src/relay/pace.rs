//! How long a connection has been quiet, and how long it has been.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::Ended;
use crate::route::Lifetime;

/// After this long without a byte, a connection gives back what memory it can: long enough that one
/// which is busy never does, and a second's worth of connections is all that holds more than it needs.
const QUIET: Duration = Duration::from_secs(1);

/// One timer for everything that a connection waits for, which is set anew only when it fires, not with
/// every byte.
#[derive(Debug)]
pub(super) struct Pace {
    lifetime: Lifetime,
    born: Instant,
    /// When bytes last moved, and how many there were by then.
    last: Instant,
    moved: u64,
    /// Whether it has given back its memory since.
    rested: bool,
    timer: Pin<Box<Sleep>>,
}

impl Pace {
    pub(super) fn new(lifetime: Lifetime) -> Self {
        let now = Instant::now();
        let mut pace = Self {
            lifetime,
            born: now,
            last: now,
            moved: 0,
            rested: false,
            timer: Box::pin(sleep_until(now)),
        };
        pace.set();
        pace
    }

    /// So many bytes have moved in all.
    pub(super) fn note(&mut self, moved: u64) {
        if self.moved == moved {
            return;
        }
        self.moved = moved;
        self.last = Instant::now();
        if self.rested {
            self.rested = false;
            self.set();
        }
    }

    /// Ready with how the connection ends, or with nothing when it has been quiet for long enough to
    /// give back memory.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ended>> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            if self.lifetime.max_age <= now.duration_since(self.born) {
                return Poll::Ready(Some(Ended::Aged));
            }
            let quiet = now.duration_since(self.last);
            if self.lifetime.idle <= quiet {
                return Poll::Ready(Some(Ended::Idle));
            }
            let rests = !self.rested && QUIET <= quiet;
            self.rested |= rests;
            self.set();
            if rests {
                return Poll::Ready(None);
            }
        }
    }

    /// Sets the timer to what comes next. Lifetimes are bounded by the configuration, far from where
    /// the clock ends.
    fn set(&mut self) {
        let quiet = if self.rested { self.lifetime.idle } else { self.lifetime.idle.min(QUIET) };
        let next = (self.last + quiet).min(self.born + self.lifetime.max_age);
        self.timer.as_mut().reset(next);
    }
}
