//! Calls that wait for the server: as many as it answers soon.
//!
//! How many that is depends on the server, the way there and what else it has to do, so it is found out: while
//! answers come soon there may be more of them, and when one takes long, or the server has too much to do, there
//! may be fewer (additive increase, multiplicative decrease, as TCP does it). Who finds no room is refused at once, instead of waiting until the
//! deadline of everybody has passed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use claviger_runtime::comeback::{Comeback, SHORTEST};
use claviger_runtime::slots::{Full, Slot, Slots};
use tokio::time::Instant;

/// How many may wait at least, at first, and at most.
const LEAST: usize = 32;
const FIRST: usize = 256;
const MOST: usize = 2_048;

/// The most of them of one user.
const MOST_OF_A_USER: usize = 1_024;

/// There is one more at most in this time, however fast the answers come.
const GROWTH: Duration = Duration::from_millis(10);

/// Room for calls of one kind. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    slots: Slots<u32>,
    pace: Arc<Mutex<Pace>>,
}

#[derive(Debug)]
struct Pace {
    /// An answer that takes longer comes late.
    soon: Duration,
    /// How many may wait.
    most: usize,
    waiting: usize,
    /// When there last came to be fewer, and more.
    cut: Instant,
    grown: Instant,
    comeback: Comeback,
}

/// There is no place. Nothing was done, so it can be tried again.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{full}; try again in {} ms", .wait.as_millis())]
pub(super) struct Crowded {
    full: Full,
    /// How long it makes no sense to ask again.
    pub(super) wait: Duration,
}

/// A place in a queue, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    pace: Arc<Mutex<Pace>>,
    since: Instant,
    _slot: Slot<u32>,
}

impl Queue {
    /// One for calls whose answers should not take longer than `soon`.
    pub(super) fn new(soon: Duration) -> Self {
        let now = Instant::now();
        let comeback = Comeback::new(now);
        let pace = Pace { soon, most: FIRST, waiting: 0, cut: now, grown: now, comeback };
        Self { slots: Slots::new(MOST, MOST_OF_A_USER), pace: Arc::new(Mutex::new(pace)) }
    }

    /// A place for a call of the user `uid`.
    ///
    /// # Errors
    ///
    /// [`Crowded`] if there is none.
    pub(super) fn enter(&self, uid: u32) -> Result<Place, Crowded> {
        let mut pace = lock(&self.pace);
        let (now, most) = (Instant::now(), pace.most);
        if most <= pace.waiting {
            let wait = pace.comeback.refused(now, most);
            return Err(Crowded { full: Full::Overall(most), wait });
        }
        let slot = self.slots.take(uid).map_err(|full| Crowded { full, wait: SHORTEST })?;
        pace.waiting = pace.waiting.saturating_add(1);
        Ok(Place { pace: Arc::clone(&self.pace), since: now, _slot: slot })
    }

    /// Fewer may wait: the server has too much to do.
    pub(super) fn shorten(&self) {
        lock(&self.pace).shorten(Instant::now());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut pace = lock(&self.pace);
        let (now, was_full) = (Instant::now(), pace.most <= pace.waiting);
        pace.waiting = pace.waiting.saturating_sub(1);
        let took = now.duration_since(self.since);
        pace.comeback.served(took);
        if pace.soon < took {
            pace.shorten(now);
        } else if was_full && GROWTH <= now.duration_since(pace.grown) {
            pace.most = pace.most.saturating_add(1).min(MOST);
            pace.grown = now;
        }
    }
}

impl Pace {
    /// Once for all who waited together.
    fn shorten(&mut self, now: Instant) {
        if self.soon <= now.duration_since(self.cut) {
            self.most = (self.most / 4).saturating_mul(3).max(LEAST);
            self.cut = now;
        }
    }
}

/// What is done under it is whole before anything can fail.
fn lock(pace: &Mutex<Pace>) -> MutexGuard<'_, Pace> {
    pace.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SOON: Duration = Duration::from_millis(500);

    /// As many as get in, of many users.
    fn fill(queue: &Queue) -> Vec<Place> {
        (0..).map_while(|uid| queue.enter(uid).ok()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn fewer_wait_when_answers_come_late_and_more_when_they_come_soon() {
        let queue = Queue::new(SOON);
        assert_eq!(fill(&queue).len(), FIRST);
        assert_eq!(fill(&queue).len(), FIRST, "not so fast");
        advance(GROWTH).await;
        drop(fill(&queue));
        assert_eq!(fill(&queue).len(), FIRST + 1, "the queue was full, and moved on");

        let mut before = FIRST;
        for _ in 0..20 {
            let late = fill(&queue);
            advance(2 * SOON).await;
            drop(late);
            let after = lock(&queue.pace).most;
            assert!(after < before || after == LEAST, "{before} to {after}");
            before = after;
        }
        assert_eq!(before, LEAST);

        for _ in 0..10 {
            advance(GROWTH).await;
            drop(fill(&queue));
        }
        assert_eq!(lock(&queue.pace).most, LEAST + 10);
        lock(&queue.pace).most = MOST;
        drop(fill(&queue));
        assert_eq!(lock(&queue.pace).most, MOST);
        assert_eq!(lock(&queue.pace).waiting, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn fewer_wait_when_the_server_has_too_much_to_do() {
        let queue = Queue::new(SOON);
        advance(SOON).await;
        for _ in 0..100 {
            queue.shorten();
        }
        assert_eq!(fill(&queue).len(), FIRST / 4 * 3, "it said so to all who asked together");
    }

    #[tokio::test(start_paused = true)]
    async fn one_late_answer_is_no_reason_to_refuse_again_and_again() {
        let queue = Queue::new(SOON);
        let late = fill(&queue);
        advance(2 * SOON).await;
        drop(late);
        assert_eq!(lock(&queue.pace).most, FIRST / 4 * 3, "cut once, not once for each");
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_leaves_room_to_others() {
        let queue = Queue::new(SOON);
        lock(&queue.pace).most = MOST;
        let one: Vec<_> = std::iter::from_fn(|| queue.enter(1).ok()).collect();
        assert_eq!(one.len(), MOST_OF_A_USER);
        queue.enter(2).unwrap();
    }
}
