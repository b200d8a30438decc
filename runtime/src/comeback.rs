//! When those who found no room are to come back: one after the other, and slower than room is made, as others
//! come for the first time.
//!
//! If all were told to come back in the same short time, those who wait would soon ask more often than others
//! are served, and whoever stood still for a moment would refuse them for ever.

use std::time::Duration;

use tokio::time::Instant;

/// The least that anybody waits: most requests end sooner.
pub const SHORTEST: Duration = Duration::from_millis(100);

/// The most: those who do not wait at all cannot put off for longer those who do.
pub const LONGEST: Duration = Duration::from_secs(5);

/// Of so many who are served, one has come back.
const SHARE: u32 = 4;

/// What a request counts for in the mean of what requests take: one part in so many.
const WEIGHT: u32 = 16;

/// Who comes back when.
#[derive(Clone, Copy, Debug)]
pub struct Comeback {
    /// How long requests took lately.
    took: Duration,
    /// When the last of those comes back who were refused.
    last: Instant,
}

impl Comeback {
    /// Of a place where nobody was served or refused before `now`.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self { took: Duration::ZERO, last: now }
    }

    /// A request took so long.
    pub fn served(&mut self, took: Duration) {
        self.took = self.took.saturating_sub(self.took / WEIGHT).saturating_add(took / WEIGHT);
    }

    /// How long somebody waits who is refused at `now`, where `at_a_time` are served. From [`SHORTEST`] to
    /// [`LONGEST`].
    pub fn refused(&mut self, now: Instant, at_a_time: usize) -> Duration {
        let served = self.took / u32::try_from(at_a_time).unwrap_or(u32::MAX).max(1);
        let turn = served.saturating_mul(SHARE).min(LONGEST);
        self.last = (self.last.max(now) + turn).min(now + LONGEST);
        self.last.duration_since(now).max(SHORTEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_requests_of(took: Duration) -> Comeback {
        let mut comeback = Comeback::new(Instant::now());
        for _ in 0..200 {
            comeback.served(took);
        }
        comeback
    }

    #[test]
    fn they_come_back_one_after_the_other() {
        let now = Instant::now();
        // Ten at a time, each of which takes 100 ms: one in 10 ms is served, and one in 40 ms comes back.
        let mut comeback = after_requests_of(Duration::from_millis(100));
        let waits: Vec<_> = (0..100).map(|_| comeback.refused(now, 10).as_millis()).collect();
        assert_eq!(waits[0], 100);
        assert!((1_800..=2_000).contains(&waits[49]), "{waits:?}");
        assert!((3_600..=4_000).contains(&waits[99]), "{waits:?}");
        assert_eq!(comeback.refused(now + 2 * LONGEST, 10), SHORTEST, "all have come");
    }

    #[test]
    fn nobody_waits_for_longer_however_many_do_not_wait() {
        let now = Instant::now();
        let mut comeback = after_requests_of(Duration::MAX);
        for _ in 0..10_000 {
            assert!(comeback.refused(now, 1) <= LONGEST);
        }
        assert_eq!(Comeback::new(now).refused(now, 0), SHORTEST, "nothing was ever served");
    }
}
