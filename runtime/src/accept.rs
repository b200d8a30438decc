//! What all our listeners do alike: survive failing accepts, and count who is connected.

use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::warn;

/// The pause after a failed accept: long enough not to spin while the process has no file
/// descriptors left, short enough to go unnoticed when it has some again.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(10);
    const LAST: Duration = Duration::from_secs(1);

    /// An accept succeeded.
    pub(crate) fn reset(&mut self) {
        self.0 = Self::FIRST;
    }

    /// An accept failed: says so, and waits before the next one unless only that one connection is
    /// concerned.
    pub(crate) async fn pause(&mut self, error: &io::Error) {
        if error.kind() == io::ErrorKind::ConnectionAborted {
            return;
        }
        warn!(%error, pause_ms = self.0.as_millis(), "cannot accept connections");
        tokio::time::sleep(self.0).await;
        self.0 = self.0.saturating_mul(2).min(Self::LAST);
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self(Self::FIRST)
    }
}

/// A bound on how many things are open at a time, overall and for each caller.
#[derive(Clone, Debug)]
pub(crate) struct Slots<K> {
    taken: Arc<Mutex<Taken<K>>>,
    limit: usize,
    limit_per_caller: usize,
}

#[derive(Debug)]
struct Taken<K> {
    total: usize,
    /// Callers with at least one slot, so it has at most `total` entries.
    by_caller: HashMap<K, usize>,
}

impl<K: Clone + Eq + Hash> Slots<K> {
    pub(crate) fn new(limit: usize, limit_per_caller: usize) -> Self {
        let taken = Taken { total: 0, by_caller: HashMap::new() };
        Self { taken: Arc::new(Mutex::new(taken)), limit, limit_per_caller }
    }

    /// A slot for `caller`, given back on drop.
    pub(crate) fn take(&self, caller: K) -> Result<Slot<K>, Full> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if self.limit <= taken.total {
            return Err(Full::Overall(self.limit));
        }
        let own = taken.by_caller.get(&caller).copied().unwrap_or(0);
        if self.limit_per_caller <= own {
            return Err(Full::PerCaller(self.limit_per_caller));
        }
        taken.total = taken.total.saturating_add(1);
        taken.by_caller.insert(caller.clone(), own.saturating_add(1));
        Ok(Slot { taken: Arc::clone(&self.taken), caller })
    }
}

/// One taken slot.
#[derive(Debug)]
pub(crate) struct Slot<K: Eq + Hash> {
    taken: Arc<Mutex<Taken<K>>>,
    caller: K,
}

impl<K: Eq + Hash> Drop for Slot<K> {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total = taken.total.saturating_sub(1);
        if let Some(own) = taken.by_caller.get_mut(&self.caller) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.by_caller.remove(&self.caller);
            }
        }
    }
}

/// No slot is free.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Full {
    /// For anyone.
    #[error("all {0} connections are in use")]
    Overall(usize),
    /// For this caller.
    #[error("this caller already has {0} connections")]
    PerCaller(usize),
}

impl Full {
    /// The value of a metric's label.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Overall(_) => "full",
            Self::PerCaller(_) => "caller-full",
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn a_caller_cannot_take_the_slots_of_another() {
        let slots = Slots::new(3, 2);
        let held = [slots.take('a').unwrap(), slots.take('a').unwrap()];
        assert_eq!(slots.take('a').unwrap_err(), Full::PerCaller(2));
        let _other = slots.take('b').unwrap();
        assert_eq!(slots.take('b').unwrap_err(), Full::Overall(3));
        drop(held);
        let _again = slots.take('a').unwrap();
    }

    #[test]
    fn callers_who_left_take_no_memory() {
        let slots = Slots::new(10, 10);
        drop(slots.take('a').unwrap());
        assert!(slots.taken.lock().unwrap().by_caller.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_a_limit_and_start_over() {
        let mut backoff = Backoff::default();
        let no_descriptors = Errno::MFILE.into();
        let start = Instant::now();
        for _ in 0..10 {
            backoff.pause(&no_descriptors).await;
        }
        // 10 + 20 + … + 640 ms, then three times the limit.
        assert_eq!(start.elapsed().as_millis(), 1_270 + 3_000);

        backoff.reset();
        let start = Instant::now();
        backoff.pause(&no_descriptors).await;
        assert_eq!(start.elapsed(), Backoff::FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_who_hung_up_delays_nobody() {
        let start = Instant::now();
        Backoff::default().pause(&Errno::CONNABORTED.into()).await;
        assert!(start.elapsed().is_zero());
    }
}
