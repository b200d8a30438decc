//! A clock that tests can set.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use claviger_core::time::{Clock, SystemClock, UnixTime};

/// The system's clock, and how far it is ahead of it, in seconds.
#[derive(Debug, Default)]
pub(crate) struct Ahead(AtomicI64);

impl Ahead {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_secs().try_into().unwrap(), Ordering::Relaxed);
    }

    pub(crate) fn set_back(&self, by: Duration) {
        self.0.fetch_sub(by.as_secs().try_into().unwrap(), Ordering::Relaxed);
    }
}

impl Clock for Ahead {
    fn now(&self) -> UnixTime {
        let (now, ahead) = (SystemClock.now(), self.0.load(Ordering::Relaxed));
        let span = Duration::from_secs(ahead.unsigned_abs());
        if ahead < 0 { now.before(span) } else { now.after(span) }
    }
}
