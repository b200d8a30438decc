//! Time where the machine's clock belongs to somebody else: in an enclave, whose host sets it.
//!
//! What is believed instead, in this order:
//!
//! 1. **A floor.** It cannot be earlier than when the image was built, nor than any `not before`
//!    that an authority of the trust domain has signed.
//! 2. **What has passed since**, by the monotonic clock, which nobody can set.
//! 3. The wall clock where it is ahead of both.
//!
//! So the time given here may be *behind* the real one by no more than has passed between the last
//! floor and when it was learned; a clock that is set back does not bring back what has expired
//! since. It may be *ahead*, if the host sets the clock forward: then good certificates look expired
//! and nothing works until it is set right, which is a denial of service, and the host has easier
//! ones. A wall clock that is ahead never raises the floor, so nothing stays broken.
//!
//! A host that stops the processors stops the monotonic clock, too. Nothing inside can notice. What
//! an enclave holds then is older than it believes, and whoever it talks to judges by their own
//! clock: expiry is decided by the server and by peers, never by the enclave alone.

use std::sync::{Arc, Mutex, PoisonError};

use claviger_core::time::{Clock, UnixTime};
use serde::{Deserialize, Deserializer};
use tokio::time::Instant;

/// How far to believe the machine's clock.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Trust {
    /// It is right.
    #[default]
    Clock,
    /// Somebody else sets it; it is no earlier than this.
    Floor(UnixTime),
}

impl Trust {
    /// `clock`, as far as it is believed.
    pub(crate) fn in_clock(self, clock: Arc<dyn Clock>) -> Arc<dyn Clock> {
        match self {
            Self::Clock => clock,
            Self::Floor(floor) => Arc::new(AnchoredClock::new(clock, floor)),
        }
    }
}

/// A clock that no host can set back: see the module.
#[derive(Debug)]
pub(crate) struct AnchoredClock {
    wall: Arc<dyn Clock>,
    anchor: Mutex<Anchor>,
}

/// It was `time` or later at `at`.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    time: UnixTime,
    at: Instant,
}

impl Anchor {
    fn floor(&self) -> UnixTime {
        self.time.after(self.at.elapsed())
    }
}

impl AnchoredClock {
    /// A clock that is never earlier than `floor`, and never earlier than `wall`.
    pub(crate) fn new(wall: Arc<dyn Clock>, floor: UnixTime) -> Self {
        let anchor = Anchor { time: floor, at: Instant::now() };
        Self { wall, anchor: Mutex::new(anchor) }
    }

    fn anchor<T>(&self, read: impl FnOnce(&mut Anchor) -> T) -> T {
        read(&mut self.anchor.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Clock for AnchoredClock {
    fn now(&self) -> UnixTime {
        self.wall.now().max(self.anchor(|anchor| anchor.floor()))
    }

    /// What is genuine and valid from a later time on says that it is later than we know.
    fn judging(&self, not_before: UnixTime) -> UnixTime {
        self.now().max(not_before)
    }

    fn witness(&self, not_before: UnixTime) {
        self.anchor(|anchor| {
            if anchor.floor() < not_before {
                *anchor = Anchor { time: not_before, at: Instant::now() };
            }
        });
    }
}

/// A point in time in a configuration file, as in RFC 3339.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Date(pub(crate) UnixTime);

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let seconds = text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second);
        let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let advice = "write it as `date -u +%FT%TZ` does, such as \"2026-11-21T12:00:00Z\"";
        let time = seconds.map(UnixTime::from_secs);
        time.map(Self).ok_or_else(|| serde::de::Error::custom(advice))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;

    /// When the image was built.
    const BUILT: u64 = 1_000_000;

    #[derive(Debug)]
    struct Wall(AtomicU64);

    impl Clock for Wall {
        fn now(&self) -> UnixTime {
            UnixTime::from_secs(self.0.load(Ordering::Relaxed))
        }
    }

    struct Enclave {
        wall: Arc<Wall>,
        clock: AnchoredClock,
    }

    impl Enclave {
        fn with_wall_at(secs: u64) -> Self {
            let wall = Arc::new(Wall(secs.into()));
            let shared: Arc<dyn Clock> = Arc::<Wall>::clone(&wall);
            Self { wall, clock: AnchoredClock::new(shared, UnixTime::from_secs(BUILT)) }
        }

        fn set(&self, secs: u64) {
            self.wall.0.store(secs, Ordering::Relaxed);
        }

        fn now(&self) -> u64 {
            self.clock.now().as_secs()
        }

        fn witness(&self, secs: u64) {
            self.clock.witness(UnixTime::from_secs(secs));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_never_before_the_image_was_built() {
        let enclave = Enclave::with_wall_at(0);
        assert_eq!(enclave.now(), BUILT);
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(enclave.now(), BUILT + 90, "time passes though the clock stands still");
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_right_is_believed() {
        let enclave = Enclave::with_wall_at(BUILT + 5_000);
        assert_eq!(enclave.now(), BUILT + 5_000);
    }

    #[tokio::test(start_paused = true)]
    async fn setting_the_clock_back_brings_nothing_back() {
        let enclave = Enclave::with_wall_at(BUILT + 5_000);
        enclave.witness(BUILT + 4_990);
        tokio::time::advance(Duration::from_secs(100)).await;
        for back in [BUILT + 4_000, BUILT, 0] {
            enclave.set(back);
            assert_eq!(enclave.now(), BUILT + 5_090, "{back}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn setting_the_clock_forward_lasts_only_while_it_is() {
        let enclave = Enclave::with_wall_at(BUILT);
        enclave.set(BUILT + 1_000_000);
        assert_eq!(enclave.now(), BUILT + 1_000_000);
        enclave.set(BUILT);
        assert_eq!(enclave.now(), BUILT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_jumps_about_never_leads_below_what_is_known() {
        let enclave = Enclave::with_wall_at(BUILT);
        let mut least = BUILT;
        for (wall, signed) in [(7, BUILT + 10), (u64::MAX, 0), (BUILT + 3, BUILT + 50), (0, 3)] {
            enclave.set(wall);
            enclave.witness(signed);
            tokio::time::advance(Duration::from_secs(1)).await;
            least = least.max(signed) + 1;
            assert!(least <= enclave.now(), "{wall}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_signed_later_than_the_clock_knows_is_judged_at_its_own_time() {
        let enclave = Enclave::with_wall_at(0);
        let signed = UnixTime::from_secs(BUILT + 77);
        assert_eq!(enclave.clock.judging(signed), signed);
        assert_eq!(enclave.now(), BUILT, "until it is shown to be genuine");
        enclave.clock.witness(signed);
        assert_eq!(enclave.clock.now(), signed);
        let old = UnixTime::from_secs(BUILT + 5);
        assert_eq!(enclave.clock.judging(old), signed, "and it is not judged earlier than that");
        enclave.clock.witness(old);
        assert_eq!(enclave.clock.now(), signed);
    }

    #[test]
    fn a_date_is_written_as_in_rfc_3339() {
        let read = |text: &str| serde_json::from_value::<Date>(text.into());
        assert_eq!(read("1970-01-01T00:01:40Z").unwrap().0, UnixTime::from_secs(100));
        assert_eq!(read("1970-01-01T01:01:40+01:00").unwrap().0, UnixTime::from_secs(100));
        for bad in ["", "yesterday", "1970-01-01", "1969-12-31T23:59:59Z", "100"] {
            let error = read(bad).unwrap_err();
            assert!(error.to_string().contains("date -u"), "{bad}: {error}");
        }
    }
}
