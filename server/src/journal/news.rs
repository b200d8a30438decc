//! What other servers wrote, on its way to those who keep it in memory.
//!
//! The writer learns of it in order and without a gap, at the latest when it is its turn to write, and
//! tells it before it answers. Whoever keeps something in memory takes it in as it is told, and bases on
//! it what it writes next: a change that was based on less conflicts with what its requirements say.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::time::timeout;

use crate::store::Group;

/// How many groups may wait to be taken in. A server that falls so far behind begins anew.
const QUEUE: usize = 16_384;

/// How long whoever wants to know everything waits for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// News, told and taken in.
#[derive(Clone, Debug)]
pub(super) struct News {
    groups: broadcast::Sender<Group>,
    told: Arc<AtomicU64>,
    taken_in: watch::Sender<u64>,
    /// It hears what is told before anybody listens.
    first: Arc<Mutex<Option<broadcast::Receiver<Group>>>>,
}

impl Default for News {
    fn default() -> Self {
        let (groups, first) = broadcast::channel(QUEUE);
        let first = Arc::new(Mutex::new(Some(first)));
        Self { groups, told: Arc::default(), taken_in: watch::Sender::default(), first }
    }
}

/// What is told, to be taken in.
#[derive(Debug)]
pub struct Listener {
    groups: broadcast::Receiver<Group>,
    taken_in: watch::Sender<u64>,
}

impl News {
    /// Tells `group` to whoever listens.
    pub(super) fn tell(&self, group: Group) {
        self.told.fetch_add(1, Ordering::AcqRel);
        // Nobody listens before the server serves, or once it stops.
        drop(self.groups.send(group));
    }

    /// Whoever listens first hears all that was ever told.
    pub(super) fn listen(&self) -> Listener {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let groups = first.unwrap_or_else(|| self.groups.subscribe());
        Listener { groups, taken_in: self.taken_in.clone() }
    }

    /// Waits until all that was told by now is taken in, or for a while.
    pub(super) async fn taken_in(&self) {
        let told = self.told.load(Ordering::Acquire);
        let mut taken_in = self.taken_in.subscribe();
        drop(timeout(PATIENCE, taken_in.wait_for(|taken_in| told <= *taken_in)).await);
    }
}

impl Listener {
    /// The next news; `None` when the journal has ended.
    ///
    /// # Errors
    ///
    /// [`TooFarBehind`] if some were missed.
    pub async fn next(&mut self) -> Result<Option<Group>, TooFarBehind> {
        match self.groups.recv().await {
            Ok(group) => Ok(Some(group)),
            Err(broadcast::error::RecvError::Closed) => Ok(None),
            Err(broadcast::error::RecvError::Lagged(_missed)) => Err(TooFarBehind),
        }
    }

    /// The group that [`Self::next`] gave last is in memory.
    pub fn taken_in(&self) {
        self.taken_in.send_modify(|count| *count = count.saturating_add(1));
    }
}

/// More was written by other servers than this one could take in.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("other servers wrote more than this one could take in; start it again")]
pub struct TooFarBehind;
