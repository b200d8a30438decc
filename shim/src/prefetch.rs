//! One-time keys kept in hand, so that connecting does not wait for their issue.
//!
//! There is a shelf for each peer and purpose. A connection that takes a key from it has it filled again
//! in the background; when nobody has come for as long as the keys are good, the shelf is gone, keys and
//! all, and nothing is done until the next connection. So a route that is not used costs nothing, and one
//! that is used less often than that waits for its keys as if there were no shelf.
//!
//! A key is handed out once, and never one that is about to expire. When an acceptor refuses one, or the
//! policies change, the peer's shelf is cleared: the server voids keys too, and does not say which. The
//! connection that was refused is not tried again, because it cannot be: its key may be spent, and what it
//! was to go over is closed. The next one gets a fresh key.
//!
//! A connection that finds its shelf empty asks by itself, and has the real answer at once. Filling a
//! shelf is what backs off after a failure, so the server is asked as often as there are connections, and
//! no more.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::rand;
use claviger_core::id::SpiffeId;
use claviger_core::psk::{PskTtl, Purpose};
use claviger_core::time::Clock;
use claviger_runtime::tasks::Tasks;
use claviger_runtime::telemetry::Chain;
use tokio::sync::{Notify, watch};
use tracing::warn;

use crate::broker::IssueError;
use crate::connector::Issued;
use crate::enforcer::Enforcer;
use crate::keys::Keys;

/// The most keys of one shelf, whatever the route says.
const MAX_KEYS: usize = 256;

/// The most shelves. Beyond it, connections ask by themselves.
const MAX_SHELVES: usize = 1_024;

/// A key that expires sooner than this is not handed out: the handshake has to end before it does.
const MARGIN: Duration = Duration::from_secs(20);

/// Between two attempts to fill a shelf.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// Keys in hand. Clones are handles to the same.
#[derive(Clone, Debug)]
pub(crate) struct Prefetch {
    keys: Arc<dyn Keys>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    shelves: Arc<Mutex<HashMap<To, Shelf>>>,
    enforcer: Option<Enforcer>,
}

/// What a key is for.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct To {
    peer: SpiffeId,
    purpose: Purpose,
}

#[derive(Debug)]
struct Shelf {
    keys: VecDeque<Issued>,
    /// How many there are to be.
    want: usize,
    /// Whether one was asked for since its keeper looked last.
    used: bool,
    /// How often it was cleared: a key that was on its way then is not put here any more.
    cleared: u64,
    /// Wakes its keeper: there is room on it.
    taken: Arc<Notify>,
}

impl Prefetch {
    pub(crate) fn new(keys: Arc<dyn Keys>, clock: Arc<dyn Clock>, tasks: &Tasks) -> Self {
        let (tasks, shelves) = (tasks.clone(), Arc::default());
        Self { keys, clock, tasks, shelves, enforcer: None }
    }

    /// The same, whose keys are thrown away when the policies of `enforcer` change.
    pub(crate) fn enforced_by(self, enforcer: Enforcer) -> Self {
        Self { enforcer: Some(enforcer), ..self }
    }

    /// A key for one connection to `peer`; `want` are to be kept in hand for the next ones.
    pub(crate) async fn take(
        &self,
        peer: &SpiffeId,
        purpose: &Purpose,
        want: usize,
    ) -> Result<Issued, IssueError> {
        if want == 0 {
            return self.keys.issue(peer, purpose, PskTtl::default()).await;
        }
        let to = To { peer: peer.clone(), purpose: purpose.clone() };
        if let Some(issued) = self.pop(to, want.min(MAX_KEYS)) {
            count("hit", 1);
            return Ok(issued);
        }
        count("miss", 1);
        self.keys.issue(peer, purpose, PskTtl::default()).await
    }

    /// Throws away the keys for `peer`: one of them was refused.
    pub(crate) fn void(&self, peer: &SpiffeId) {
        let mut shelves = self.shelves();
        for (_, shelf) in shelves.iter_mut().filter(|(to, _)| to.peer == *peer) {
            shelf.clear();
            shelf.taken.notify_one();
        }
    }

    fn pop(&self, to: To, want: usize) -> Option<Issued> {
        let mut shelves = self.shelves();
        if let Some(shelf) = shelves.get_mut(&to) {
            shelf.want = want;
            shelf.used = true;
            shelf.throw_away_what_expires(&*self.clock);
            shelf.taken.notify_one();
            return shelf.keys.pop_front();
        }
        if shelves.len() < MAX_SHELVES {
            let taken = Arc::new(Notify::new());
            shelves.insert(to.clone(), Shelf::new(want, Arc::clone(&taken)));
            drop(shelves);
            let keeper = self.clone();
            self.tasks.spawn("one-time keys", |stop| async move {
                if stop.run_until_cancelled(keeper.keep(&to, &taken)).await.is_none() {
                    keeper.shelves().remove(&to);
                }
                Ok(())
            });
        }
        None
    }

    /// Keeps a shelf filled until nobody has come for its keys as long as they are good.
    async fn keep(&self, to: &To, taken: &Notify) {
        let mut policies = self.enforcer.as_ref().map(Enforcer::changes);
        let mut pause = FIRST_PAUSE;
        loop {
            match self.fill(to).await {
                Ok(()) => pause = FIRST_PAUSE,
                Err(error) => {
                    let To { peer, purpose } = to;
                    warn!(error = %Chain(&error), %peer, %purpose, "no one-time keys in advance");
                    let told = error.wait().unwrap_or_default().min(LAST_PAUSE);
                    tokio::time::sleep(told.max(jittered(pause))).await;
                    pause = pause.saturating_mul(2).min(LAST_PAUSE);
                }
            }
            let good = PskTtl::default().duration().saturating_sub(MARGIN);
            tokio::select! {
                () = taken.notified() => {}
                () = changed(policies.as_mut()) => self.void(&to.peer),
                () = tokio::time::sleep(good) => {
                    if self.give_up(to) {
                        return;
                    }
                }
            }
        }
    }

    /// Has keys issued until there are enough.
    async fn fill(&self, to: &To) -> Result<(), IssueError> {
        loop {
            let Some(before) = self.shelves().get_mut(to).and_then(Shelf::wanting) else {
                return Ok(());
            };
            let issued = self.keys.issue(&to.peer, &to.purpose, PskTtl::default()).await?;
            match self.shelves().get_mut(to) {
                Some(shelf) if shelf.cleared == before => shelf.keys.push_back(issued),
                Some(_) | None => count("discarded", 1),
            }
        }
    }

    /// Gives the shelf up, unless somebody has come meanwhile.
    fn give_up(&self, to: &To) -> bool {
        let mut shelves = self.shelves();
        let unused = shelves.get(to).is_none_or(|shelf| !shelf.used);
        if unused && let Some(mut shelf) = shelves.remove(to) {
            shelf.clear();
        }
        unused
    }

    fn shelves(&self) -> MutexGuard<'_, HashMap<To, Shelf>> {
        // What is done under it is whole before anything can fail.
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    const fn new(want: usize, taken: Arc<Notify>) -> Self {
        Self { keys: VecDeque::new(), want, used: true, cleared: 0, taken }
    }

    /// If it wants a key, how often it was cleared before.
    fn wanting(&mut self) -> Option<u64> {
        self.used = false;
        (self.keys.len() < self.want).then_some(self.cleared)
    }

    fn throw_away_what_expires(&mut self, clock: &dyn Clock) {
        let (soon, before) = (clock.now().after(MARGIN), self.keys.len());
        self.keys.retain(|issued| soon <= issued.not_after);
        count("discarded", before.saturating_sub(self.keys.len()));
    }

    fn clear(&mut self) {
        count("discarded", self.keys.len());
        self.keys.clear();
        self.cleared = self.cleared.wrapping_add(1);
    }
}

/// Waits until the policies change; for ever, if nobody says so.
async fn changed(policies: Option<&mut watch::Receiver<()>>) {
    let Some(policies) = policies else { return std::future::pending().await };
    if policies.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn count(outcome: &'static str, keys: usize) {
    let keys = u64::try_from(keys).unwrap_or(u64::MAX);
    metrics::counter!("claviger_shim_prefetch_total", "outcome" => outcome).increment(keys);
}

/// `full`, shortened by up to a half: shims that were refused together do not come back together.
fn jittered(full: Duration) -> Duration {
    let mut step = [0];
    // Without randomness it is the whole.
    let step = rand::fill(&mut step).map_or(0, |()| step[0]);
    full.saturating_sub(full / 2 * step.into() / 256)
}
