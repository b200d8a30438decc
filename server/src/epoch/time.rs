//! Time that does not run backwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use claviger_core::time::{Clock, UnixTime};

/// The clock of the ledger: the wall clock, but never earlier than what was seen before, even
/// before a restart. What has expired stays expired.
#[derive(Debug)]
pub struct LedgerTime {
    clock: Arc<dyn Clock>,
    /// The latest time seen, in seconds.
    latest: AtomicU64,
    /// The latest time in the store, in seconds.
    committed: AtomicU64,
}

impl LedgerTime {
    /// How far the clock may fall behind before it is no longer a correction.
    pub const TOLERANCE: Duration = Duration::from_secs(60);

    /// The ledger's view of `clock`, where the store remembers the time `committed`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, committed: UnixTime) -> Self {
        let (latest, committed) = (committed.as_secs().into(), committed.as_secs().into());
        Self { clock, latest, committed }
    }

    /// The time for every decision about expiry.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        let clock = self.clock.now().as_secs();
        UnixTime::from_secs(self.latest.fetch_max(clock, Ordering::AcqRel).max(clock))
    }

    /// The wall clock, which may be behind.
    #[must_use]
    pub fn clock(&self) -> UnixTime {
        self.clock.now()
    }

    /// How far the clock is behind, if that is more than the tolerance. Waiting for it to catch up
    /// would keep keys alive for as long as it once ran ahead: a new epoch has to begin.
    #[must_use]
    pub fn behind(&self) -> Option<Duration> {
        let latest = UnixTime::from_secs(self.latest.load(Ordering::Acquire));
        Some(latest.since(self.clock.now())).filter(|behind| *behind > Self::TOLERANCE)
    }

    /// `now`, if the store does not remember a time as late.
    pub(crate) fn uncommitted(&self, now: UnixTime) -> Option<UnixTime> {
        (now.as_secs() > self.committed.load(Ordering::Acquire)).then_some(now)
    }

    /// The store remembers `time`.
    pub(crate) fn committed(&self, time: Option<UnixTime>) {
        if let Some(time) = time {
            self.committed.store(time.as_secs(), Ordering::Release);
        }
    }

    /// Another server has seen `time`, and the store remembers it.
    pub(crate) fn learn(&self, time: UnixTime) {
        self.latest.fetch_max(time.as_secs(), Ordering::AcqRel);
        self.committed.store(time.as_secs(), Ordering::Release);
    }

    /// Starts again at `time`; the store remembers it.
    pub(crate) fn reset(&self, time: UnixTime) {
        self.latest.store(time.as_secs(), Ordering::Release);
        self.committed.store(time.as_secs(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::fixture::TestClock;

    #[test]
    fn never_runs_backwards() {
        let clock = TestClock::at(1_000);
        let time = LedgerTime::new(Arc::<TestClock>::clone(&clock), UnixTime::from_secs(900));
        assert_eq!(time.now().as_secs(), 1_000);
        clock.set(950);
        assert_eq!((time.now().as_secs(), time.clock().as_secs()), (1_000, 950));
        assert_eq!(time.behind(), None);
        clock.set(939);
        assert_eq!(time.behind(), Some(Duration::from_secs(61)));
        time.reset(UnixTime::from_secs(939));
        assert_eq!((time.now().as_secs(), time.behind()), (939, None));
    }

    #[test]
    fn remembers_across_a_restart() {
        let time = LedgerTime::new(TestClock::at(1_000), UnixTime::from_secs(1_030));
        assert_eq!(time.now().as_secs(), 1_030);
        assert_eq!(time.uncommitted(time.now()), None);
    }
}
