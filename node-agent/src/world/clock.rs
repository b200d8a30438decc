//! A clock that tests can put forward.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use claviger_core::time::{Clock, SystemClock, UnixTime};

/// The system's clock, and how far it is put forward, in seconds.
#[derive(Debug, Default)]
pub(crate) struct Ahead(AtomicU64);

impl Ahead {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_secs(), Ordering::Relaxed);
    }
}

impl Clock for Ahead {
    fn now(&self) -> UnixTime {
        SystemClock.now().after(Duration::from_secs(self.0.load(Ordering::Relaxed)))
    }
}
