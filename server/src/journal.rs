//! The one task that writes to the store.
//!
//! Everything that changes is a [`Change`]: what must hold, what is written, what the audit log
//! says about it. The journal takes all changes that wait, checks each against the store and the
//! changes before it, and writes those that hold as one batch with one sync: the ledger's records
//! and the audit log's are there together or not at all. At low load a change waits for nobody; at
//! high load a thousand share a sync.
//!
//! | to find | look in |
//! |---|---|
//! | the task | `writer` |
//! | what one group of changes comes to | `group` |
//! | what other servers wrote to a shared store | `news` |
//! | how far the log has come, in a place that no backup restores | `witness` |
//!
//! **How it stops.** Tasks stop in no particular order, and those that are still answering their
//! last request must be able to write. So the journal takes the signal to stop as a hint only: it
//! ends when every handle is gone, or, because an owner may hold one until the drain is over, when
//! nobody has written for a moment after the signal. Whoever comes later is told
//! [`CommitError::Stopped`], and nothing was promised to them.

mod group;
mod news;
pub(crate) mod witness;
mod writer;

use std::sync::Arc;

use claviger_core::audit::tile::Growth;
use claviger_core::audit::{Event, Head};
use claviger_core::grant::{Grant, IssueEar, IssueJwt, IssueWit, IssueX509, IssueX509Ca, Recorded};
use claviger_core::policies::PoliciesContents;
use claviger_core::time::UnixTime;
use claviger_runtime::tasks::Tasks;
use metrics::counter;
use tokio::sync::{mpsc, oneshot, watch};

use crate::audit::record::Prepared;
use crate::ca::issued;
use crate::epoch::LedgerTime;
use crate::metrics as names;
use crate::storage::directory::DataDirectory;
use crate::store::{Space, Store, StoreError, Write};
use news::News;
pub use news::{Listener, TooFarBehind};
use witness::Witness;
use writer::{MAX_GROUP, Writer};

/// What shall happen, all or nothing.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// What must hold when it happens.
    pub require: Vec<Require>,
    /// What is written.
    pub writes: Vec<Write>,
    /// What the audit log says about it.
    pub events: Vec<Event>,
}

impl Change {
    /// Makes what `other` says happen, too, or neither. Its requirements are counted after these.
    pub fn join(&mut self, other: Self) {
        self.require.extend(other.require);
        self.writes.extend(other.writes);
        self.events.extend(other.events);
    }
}

/// A condition: a key has this value, or none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Require {
    /// Where.
    pub space: Space,
    /// Which key.
    pub key: Vec<u8>,
    /// Its value; `None` if there must not be one.
    pub value: Option<Vec<u8>>,
}

impl Require {
    /// `key` must not exist.
    pub fn absent(space: Space, key: impl Into<Vec<u8>>) -> Self {
        Self { space, key: key.into(), value: None }
    }

    /// `key` must have this value.
    pub fn value(space: Space, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self { space, key: key.into(), value: Some(value.into()) }
    }
}

/// A change did not happen, or is not known to have happened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// Something else happened before: look again, and decide again.
    #[error("requirement {unmet} does not hold")]
    Conflict {
        /// Which of the change's requirements does not hold, counted from 0.
        unmet: usize,
    },
    /// Too many changes wait.
    #[error("the journal is overloaded; try again")]
    Overloaded,
    /// The journal has ended: the server is stopping. Whether the change happened is not known.
    #[error("the journal has ended because the server is stopping")]
    Stopped,
    /// The store failed.
    #[error("cannot record the change")]
    Store(#[source] Arc<StoreError>),
}

/// A handle to the journal.
#[derive(Clone, Debug)]
pub struct Journal {
    queue: mpsc::Sender<Pending>,
    head: watch::Receiver<Head>,
    store: Arc<dyn Store>,
    news: News,
}

/// A change, as far as it can be made ready by whoever wants it: the writer has to do the rest for all.
#[derive(Clone, Debug)]
struct Ready {
    require: Vec<Require>,
    writes: Vec<Write>,
    events: Vec<Prepared>,
}

impl From<Change> for Ready {
    fn from(change: Change) -> Self {
        let Change { require, writes, events } = change;
        Self { require, writes, events: events.into_iter().map(Prepared::from).collect() }
    }
}

/// A change, and who waits for it.
#[derive(Debug)]
struct Pending {
    change: Ready,
    answer: oneshot::Sender<Result<Head, CommitError>>,
}

/// How many changes may wait. The disk takes at least a few hundred groups per second and a group
/// is up to [`MAX_GROUP`] changes, so the last in a full queue waits for some 10 ms. A
/// change is about 2 KiB: a full queue is 8 MiB.
const QUEUE: usize = 4 * MAX_GROUP;

impl Journal {
    /// Starts the task. `tree` is that of the log in `store`; nobody else has the `directory`
    /// until the task has ended.
    pub(crate) fn start(
        store: Arc<dyn Store>,
        tree: Growth,
        time: Arc<LedgerTime>,
        (witness, directory): (Witness, DataDirectory),
        tasks: &Tasks,
    ) -> Self {
        let (queue, pending) = mpsc::channel(QUEUE);
        let (announce, head) = watch::channel(tree.head());
        let writer = Writer {
            pending,
            store: Arc::clone(&store),
            time,
            witness,
            tree,
            announce,
            news: News::default(),
            grouped: false,
            _directory: directory,
        };
        let news = writer.news.clone();
        tasks.spawn("journal", |stop| writer.run(stop));
        Self { queue, head, store, news }
    }

    /// Makes `change` happen. It is durable when this returns; the head covers its events and
    /// those of the changes that were written with it.
    ///
    /// The change may happen even if the caller stops waiting.
    ///
    /// # Errors
    ///
    /// [`CommitError`]; after `Conflict` and `Overloaded` it is certain that nothing happened.
    pub async fn commit(&self, change: Change) -> Result<Head, CommitError> {
        let (answer, answered) = oneshot::channel();
        let change = Ready::from(change);
        self.queue.try_send(Pending { change, answer }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => CommitError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => CommitError::Stopped,
        })?;
        answered.await.unwrap_or(Err(CommitError::Stopped))
    }

    /// Records that `grants` were given, as `change` says: all or none.
    ///
    /// # Errors
    ///
    /// As [`Self::commit`]; the grants are lost, so that they can't be acted upon.
    pub async fn record<T>(
        &self,
        grants: Vec<Grant<T>>,
        change: Change,
    ) -> Result<Vec<Recorded<Grant<T>>>, CommitError> {
        self.commit(change).await?;
        let count = grants.len().try_into().unwrap_or(u64::MAX);
        counter!(names::ISSUED_WITH_DECISION).increment(count);
        Ok(grants.into_iter().map(Recorded::assertion).collect())
    }

    /// Records that these certificates are about to be signed, as of `now`, and notes which they are.
    ///
    /// # Errors
    ///
    /// As [`Self::record`].
    pub async fn record_x509(
        &self,
        grants: Vec<Grant<IssueX509>>,
        now: UnixTime,
    ) -> Result<Vec<Recorded<Grant<IssueX509>>>, CommitError> {
        let writes = grants.iter().map(|grant| issued::note(grant.act(), now)).collect();
        self.record_with(grants, Event::of_x509, writes).await
    }

    /// Records that these authorities of downstream servers are about to be signed.
    ///
    /// # Errors
    ///
    /// As [`Self::record`].
    pub async fn record_x509_ca(
        &self,
        grants: Vec<Grant<IssueX509Ca>>,
    ) -> Result<Vec<Recorded<Grant<IssueX509Ca>>>, CommitError> {
        self.record_all(grants, Event::of_x509_ca).await
    }

    /// Records that these JWT-SVIDs are about to be signed.
    ///
    /// # Errors
    ///
    /// As [`Self::record`].
    pub async fn record_jwt(
        &self,
        grants: Vec<Grant<IssueJwt>>,
    ) -> Result<Vec<Recorded<Grant<IssueJwt>>>, CommitError> {
        self.record_all(grants, Event::of_jwt).await
    }

    /// Records that these WIT-SVIDs are about to be signed.
    ///
    /// # Errors
    ///
    /// As [`Self::record`].
    pub async fn record_wit(
        &self,
        grants: Vec<Grant<IssueWit>>,
    ) -> Result<Vec<Recorded<Grant<IssueWit>>>, CommitError> {
        self.record_all(grants, Event::of_wit).await
    }

    /// Records that these attestation results are about to be signed.
    ///
    /// # Errors
    ///
    /// As [`Self::record`].
    pub async fn record_ear(
        &self,
        grants: Vec<Grant<IssueEar>>,
    ) -> Result<Vec<Recorded<Grant<IssueEar>>>, CommitError> {
        self.record_all(grants, Event::of_ear).await
    }

    /// Records, as `change` says, that these policies are about to be announced. No policy permits
    /// that: it is the server's own word on what decides.
    ///
    /// # Errors
    ///
    /// As [`Self::commit`].
    pub async fn record_policies(
        &self,
        contents: PoliciesContents,
        change: Change,
    ) -> Result<Recorded<PoliciesContents>, CommitError> {
        self.commit(change).await?;
        Ok(Recorded::assertion(contents))
    }

    /// One record for each grant, one write for all.
    async fn record_all<T>(
        &self,
        grants: Vec<Grant<T>>,
        event: fn(&Grant<T>) -> Event,
    ) -> Result<Vec<Recorded<Grant<T>>>, CommitError> {
        self.record_with(grants, event, Vec::new()).await
    }

    /// The same, with what is written beside.
    async fn record_with<T>(
        &self,
        grants: Vec<Grant<T>>,
        event: fn(&Grant<T>) -> Event,
        writes: Vec<Write>,
    ) -> Result<Vec<Recorded<Grant<T>>>, CommitError> {
        let events = grants.iter().map(event).collect();
        self.record(grants, Change { writes, events, ..Change::default() }).await
    }

    /// What the store says of `key`: `value`, unless somebody has said something else before.
    ///
    /// # Errors
    ///
    /// [`CommitError`] if it can't be read or written.
    pub(crate) async fn settle(&self, key: &[u8], value: Vec<u8>) -> Result<Vec<u8>, CommitError> {
        loop {
            let stored = self.store.get(Space::Meta, key).await;
            if let Some(stored) = stored.map_err(|error| CommitError::Store(Arc::new(error)))? {
                return Ok(stored);
            }
            let change = Change {
                require: vec![Require::absent(Space::Meta, key)],
                writes: vec![Write::put(Space::Meta, key, value.clone())],
                events: Vec::new(),
            };
            match self.commit(change).await {
                Ok(_head) => return Ok(value),
                Err(CommitError::Conflict { .. }) => {} // Somebody was faster.
                Err(error) => return Err(error),
            }
        }
    }

    /// What other servers write, for those who keep it in memory: for whoever asks first, all since the
    /// journal began; for others, from now on.
    #[must_use]
    pub fn listen(&self) -> Listener {
        self.news.listen()
    }

    /// Waits until what other servers wrote by now is in memory here, or for a while.
    pub async fn catch_up(&self) {
        if self.store.is_shared() {
            // It looks for news on the way; whatever becomes of it, waiting for those that are known helps.
            drop(self.commit(Change::default()).await);
            self.news.taken_in().await;
        }
    }

    /// The end of the log, as it moves.
    #[must_use]
    pub fn head(&self) -> watch::Receiver<Head> {
        self.head.clone()
    }

    /// One that has ended, over an empty store.
    #[cfg(test)]
    pub(crate) fn ended() -> Self {
        let (queue, head) = (mpsc::channel(1).0, watch::channel(Head::default()).1);
        let store = Arc::new(crate::store::memory::MemoryStore::default());
        Self { queue, head, store, news: News::default() }
    }

    /// The store, to read from.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }
}

#[cfg(test)]
mod tests;
