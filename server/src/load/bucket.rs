//! Token buckets: so many turns in a second, and up to twice as many in one that comes after a quiet one.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// How many turns a full bucket holds, in the time that they take to come back.
pub(super) const FULL: Duration = Duration::from_secs(2);

/// The most callers of whom each has a bucket, each some 100 bytes.
const MAX_BUCKETS: usize = 131_072;

/// How often those that are full again are thrown away, at most.
const SWEEP: Duration = Duration::from_secs(1);

/// Turns, which come back with time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// When it is full again. Each turn that is taken puts this off by as long as one takes to come
    /// back.
    full_at: Instant,
}

impl Bucket {
    /// One that is full.
    pub(super) const fn full(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Takes a turn, of which there are `rate` in a second, and leaves those that come back in
    /// `reserve`, at most half of them.
    ///
    /// # Errors
    ///
    /// How long it takes until there is one.
    pub(super) fn take(
        &mut self,
        rate: u32,
        reserve: Duration,
        now: Instant,
    ) -> Result<(), Duration> {
        let turn = Duration::from_secs(1) / rate.max(1);
        let full_at = self.full_at.max(now) + turn;
        let missing = full_at.duration_since(now);
        match missing.checked_sub(FULL.saturating_sub(reserve)) {
            None | Some(Duration::ZERO) => {
                self.full_at = full_at;
                Ok(())
            }
            Some(wait) => Err(wait),
        }
    }
}

/// A bucket for each caller.
#[derive(Debug)]
pub(super) struct Buckets<K> {
    /// How many turns there are in a second.
    rate: u32,
    /// Those that are not full, and some that are full again.
    buckets: HashMap<K, Bucket>,
    swept: Instant,
}

impl<K: Eq + Hash> Buckets<K> {
    /// For everybody one that holds `rate` turns a second.
    pub(super) fn new(rate: u32, now: Instant) -> Self {
        Self { rate, buckets: HashMap::new(), swept: now }
    }

    /// Takes a turn of `caller`, as [`Bucket::take`] does.
    ///
    /// # Errors
    ///
    /// How long it takes until there is one, or room for one more caller.
    pub(super) fn take(
        &mut self,
        caller: K,
        reserve: Duration,
        now: Instant,
    ) -> Result<(), Duration> {
        if MAX_BUCKETS <= self.buckets.len() && !self.buckets.contains_key(&caller) {
            self.sweep(now)?;
        }
        let bucket = self.buckets.entry(caller).or_insert_with(|| Bucket::full(now));
        bucket.take(self.rate, reserve, now)
    }

    /// Makes room, if there is any to be made.
    fn sweep(&mut self, now: Instant) -> Result<(), Duration> {
        if now < self.swept + SWEEP {
            return Err(SWEEP);
        }
        self.swept = now;
        self.buckets.retain(|_caller, bucket| now < bucket.full_at);
        if self.buckets.len() < MAX_BUCKETS { Ok(()) } else { Err(SWEEP) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// How many turns there are at `now`.
    fn turns(bucket: &mut Bucket, rate: u32, reserve: Duration, now: Instant) -> usize {
        (0..10_000).take_while(|_| bucket.take(rate, reserve, now).is_ok()).count()
    }

    #[test]
    fn turns_come_back_with_time() {
        let now = Instant::now();
        let mut bucket = Bucket::full(now);
        assert_eq!(turns(&mut bucket, 100, Duration::ZERO, now), 200);
        let wait = bucket.take(100, Duration::ZERO, now).unwrap_err();
        assert_eq!(wait, Duration::from_millis(10));
        assert_eq!(turns(&mut bucket, 100, Duration::ZERO, now + SECOND / 2), 50);
        assert_eq!(turns(&mut bucket, 100, Duration::ZERO, now + 100 * SECOND), 200);
    }

    #[test]
    fn what_is_reserved_stays_for_others() {
        let now = Instant::now();
        let mut bucket = Bucket::full(now);
        assert_eq!(turns(&mut bucket, 10, SECOND, now), 10);
        assert_eq!(turns(&mut bucket, 10, SECOND / 2, now), 5);
        assert_eq!(turns(&mut bucket, 10, Duration::ZERO, now), 5);
        assert_eq!(
            turns(&mut bucket, 1, SECOND, now + 3 * SECOND),
            1,
            "the slowest rate has a turn"
        );
    }

    #[test]
    fn callers_have_turns_of_their_own_and_who_is_quiet_takes_no_room() {
        let now = Instant::now();
        let mut buckets = Buckets::new(1, now);
        for caller in 0..MAX_BUCKETS {
            buckets.take(caller, Duration::ZERO, now).unwrap();
        }
        buckets.take(0, Duration::ZERO, now).unwrap();
        buckets.take(0, Duration::ZERO, now).unwrap_err();
        assert_eq!(buckets.take(MAX_BUCKETS, Duration::ZERO, now), Err(SWEEP), "full is full");
        let later = now + SECOND;
        buckets.take(MAX_BUCKETS, Duration::ZERO, later).unwrap();
        assert_eq!(buckets.buckets.len(), 2, "the busy one and the new one");
    }

    proptest! {
        /// However somebody asks, no span holds more than twice a second's turns and what comes back in it.
        #[test]
        fn nobody_gets_more(
            waits in prop::collection::vec(0..300_u64, 1..300),
            rate in 1..50_u32,
        ) {
            let begin = Instant::now();
            let (mut bucket, mut at, mut taken) = (Bucket::full(begin), 0, Vec::new());
            for wait in waits {
                at += wait;
                if bucket.take(rate, Duration::ZERO, begin + Duration::from_millis(at)).is_ok() {
                    taken.push(at);
                }
            }
            for (index, first) in taken.iter().enumerate() {
                for (more, last) in taken.iter().skip(index).enumerate() {
                    let most = u64::from(rate) * (2_000 + last - first) / 1_000 + 1;
                    prop_assert!(u64::try_from(more).unwrap() < most);
                }
            }
        }
    }
}
