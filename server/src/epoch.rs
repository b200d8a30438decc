//! Epochs: the spans of time for which the ledger is known to be complete.
//!
//! A one-time key is safe only as long as the server remembers every use of it. When that can't be
//! proved, a new epoch begins: a new root secret, a higher number, and every PSK and join token of
//! earlier epochs is void. When in doubt, void.
//!
//! | to find | look in |
//! |---|---|
//! | why the ledger may not be complete | [`Doubt`] |
//! | the proof when a store is opened | `proof` |
//! | the root secrets, on disk or wrapped in a shared store | `root` |
//! | time that does not run backwards | [`LedgerTime`] |

mod doubt;
pub(crate) mod proof;
pub(crate) mod root;
mod time;

pub use doubt::Doubt;
pub use time::LedgerTime;

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use claviger_core::audit::Event;
use claviger_core::psk::derive::{EpochKeys, EpochRoot};
use claviger_core::time::UnixTime;
use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::journal::{Change, CommitError, Journal, Require};
use crate::store::{Space, StoreError, Write, json, meta, parse};
use root::Roots;

/// One epoch.
#[derive(Debug)]
pub struct Epoch {
    /// Its number; later epochs have higher ones.
    pub number: u64,
    /// When it began. Of what was used before, the ledger may have forgotten something.
    pub since: UnixTime,
    /// The keys under its root.
    pub keys: EpochKeys,
}

impl Epoch {
    fn new(number: u64, since: UnixTime, root: EpochRoot) -> Arc<Self> {
        Arc::new(Self { number, since, keys: EpochKeys::new(root) })
    }

    /// What a change has to require so that it happens in this epoch or not at all.
    #[must_use]
    pub fn in_force(&self) -> Require {
        Require::value(Space::Meta, meta::EPOCH, json(&self.number))
    }
}

/// A new epoch could not begin. The old one stays in force.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// Its root could not be read or written.
    #[error("cannot read or write the root of epoch {epoch}")]
    Root {
        /// The epoch that could not begin or go on.
        epoch: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its beginning could not be recorded.
    #[error("cannot record the beginning of epoch {epoch}")]
    Commit {
        /// The epoch that could not begin.
        epoch: u64,
        /// Why.
        #[source]
        source: CommitError,
    },
    /// The number in force could not be read.
    #[error("cannot read the number of the epoch")]
    Store(#[from] StoreError),
}

/// The epoch in force, and the way to the next.
#[derive(Clone, Debug)]
pub struct Epochs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    current: ArcSwap<Epoch>,
    /// One new epoch at a time.
    fencing: Mutex<Fencing>,
    time: Arc<LedgerTime>,
}

#[derive(Debug)]
struct Fencing {
    journal: Journal,
    roots: Roots,
    time: Arc<LedgerTime>,
}

impl Epochs {
    /// Continues the epoch that the store names, or begins the next one if there is a `doubt`.
    ///
    /// # Errors
    ///
    /// [`FenceError`] if a new epoch is needed and can't begin.
    pub(crate) async fn open(
        journal: Journal,
        roots: Roots,
        time: Arc<LedgerTime>,
        doubt: Option<Doubt>,
    ) -> Result<Self, FenceError> {
        let (number, kept) = in_force(&journal, &roots).await?;
        let fencing = Fencing { journal, roots, time: Arc::clone(&time) };
        let current = match (doubt, kept) {
            (None, Some(root)) => {
                let since = beginning(&fencing.journal, number, fencing.time.now()).await?;
                Epoch::new(number, since, root)
            }
            (None, None) => {
                fencing.begin_or_adopt(number, &Doubt::NoRoot { epoch: number }).await?
            }
            // Where nothing was when it was looked at, another server may have begun since.
            (Some(doubt @ Doubt::FirstStart), _) => fencing.begin_or_adopt(0, &doubt).await?,
            (Some(doubt), _) => fencing.begin_or_adopt(number, &doubt).await?,
        };
        let (current, fencing) = (ArcSwap::new(current), Mutex::new(fencing));
        Ok(Self(Arc::new(Inner { current, fencing, time })))
    }

    /// The epoch in force.
    #[must_use]
    pub fn current(&self) -> Arc<Epoch> {
        self.0.current.load_full()
    }

    /// The clock of the ledger.
    #[must_use]
    pub fn time(&self) -> &LedgerTime {
        &self.0.time
    }

    /// Sees to it that an epoch later than `epoch` is in force, and gives the one that is. It
    /// begins a new one unless another caller has done so already.
    ///
    /// # Errors
    ///
    /// [`FenceError`]; then nothing has changed.
    pub async fn fence(&self, epoch: u64, doubt: &Doubt) -> Result<Arc<Epoch>, FenceError> {
        let fencing = self.0.fencing.lock().await;
        let current = self.current();
        if current.number > epoch {
            return Ok(current);
        }
        let next = match fencing.later_than(epoch).await? {
            Some(begun) => begun,
            None => fencing.begin_or_adopt(epoch, doubt).await?,
        };
        self.0.current.store(Arc::clone(&next));
        Ok(next)
    }

    /// Takes up the epoch that another server has begun, if it is later than the one in force.
    ///
    /// # Errors
    ///
    /// [`FenceError`] if there is one and it can't be taken up.
    pub(crate) async fn catch_up(&self) -> Result<(), FenceError> {
        let fencing = self.0.fencing.lock().await;
        if let Some(next) = fencing.later_than(self.current().number).await? {
            self.0.current.store(next);
        }
        Ok(())
    }
}

async fn stored_number(journal: &Journal) -> Result<u64, StoreError> {
    let stored = journal.store().get(Space::Meta, meta::EPOCH).await?;
    stored.map_or(Ok(0), |stored| parse(&stored))
}

/// How often the root of an epoch is looked for that another server may have ended meanwhile.
const LOOKS: usize = 16;

/// The number of the epoch in force, and its root, if it has one.
async fn in_force(
    journal: &Journal,
    roots: &Roots,
) -> Result<(u64, Option<EpochRoot>), FenceError> {
    let mut number = stored_number(journal).await?;
    for _look in 0..LOOKS {
        let failed = |source| FenceError::Root { epoch: number, source };
        let root = roots.load(number, &**journal.store()).await.map_err(failed)?;
        let now = stored_number(journal).await?;
        if root.is_some() || now == number {
            return Ok((number, root));
        }
        // It was destroyed between the two looks, because the next epoch has begun.
        number = now;
    }
    Ok((number, None))
}

/// When epoch `number` began. A store of the first version does not say; then it counts from `now`
/// on, and says so.
async fn beginning(journal: &Journal, number: u64, now: UnixTime) -> Result<UnixTime, FenceError> {
    if let Some(stored) = journal.store().get(Space::Meta, meta::SINCE).await? {
        return Ok(parse(&stored)?);
    }
    let writes = vec![Write::put(Space::Meta, meta::SINCE, json(&now))];
    let committed = journal.commit(Change { writes, ..Change::default() }).await;
    committed.map_err(|source| FenceError::Commit { epoch: number, source })?;
    Ok(now)
}

impl Fencing {
    /// The epoch that another server has begun, if it is later than `epoch`.
    async fn later_than(&self, epoch: u64) -> Result<Option<Arc<Epoch>>, FenceError> {
        let store = self.journal.store();
        if !store.is_shared() {
            return Ok(None);
        }
        if stored_number(&self.journal).await? <= epoch {
            return Ok(None);
        }
        let (number, root) = in_force(&self.journal, &self.roots).await?;
        let failed = |source| FenceError::Root { epoch: number, source };
        let root = root.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        let since = store.get(Space::Meta, meta::SINCE).await?;
        let since = since.as_deref().map_or(Ok(UnixTime::default()), parse)?;
        self.time.reset(since);
        info!(epoch = number, "another server has begun a new epoch");
        Ok(Some(Epoch::new(number, since, root)))
    }

    /// Begins an epoch, unless another server does so at this moment.
    async fn begin_or_adopt(&self, least: u64, doubt: &Doubt) -> Result<Arc<Epoch>, FenceError> {
        if let Some(begun) = self.later_than(least).await? {
            return Ok(begun);
        }
        match self.begin(least, doubt).await {
            Err(error @ FenceError::Commit { source: CommitError::Conflict { .. }, .. }) => {
                self.later_than(least).await?.ok_or(error)
            }
            begun => begun,
        }
    }

    /// Begins an epoch whose number is above `least` and above every number ever used here.
    async fn begin(&self, least: u64, doubt: &Doubt) -> Result<Arc<Epoch>, FenceError> {
        let before = self.journal.store().get(Space::Meta, meta::EPOCH).await?;
        let stored = before.as_deref().map_or(Ok(0), parse)?;
        if least < stored && self.journal.store().is_shared() {
            // Another server has begun one since this one looked.
            let source = CommitError::Conflict { unmet: 0 };
            return Err(FenceError::Commit { epoch: stored, source });
        }
        let failed = |source| FenceError::Root { epoch: stored, source };
        let newest = self.roots.newest().await.map_err(failed)?;
        let epoch = least.max(stored).max(newest).saturating_add(1);
        if matches!(doubt, Doubt::FirstStart) {
            info!(epoch, "the first epoch begins");
        } else {
            warn!(epoch, reason = %doubt, "a new epoch begins; every earlier PSK and join token is void");
        }
        let failed = |source| FenceError::Root { epoch, source };
        let root::NewRoot { root, mut writes } = self.roots.create(epoch).await.map_err(failed)?;
        let now = self.time.clock();
        writes.extend([
            Write::put(Space::Meta, meta::EPOCH, json(&epoch)),
            Write::put(Space::Meta, meta::SINCE, json(&now)),
            Write::put(Space::Meta, meta::TIME, json(&now)),
        ]);
        let change = Change {
            require: vec![Require { space: Space::Meta, key: meta::EPOCH.to_vec(), value: before }],
            writes,
            events: vec![Event::EpochFenced { epoch, reason: doubt.to_string() }],
        };
        let committed = self.journal.commit(change).await;
        committed.map_err(|source| FenceError::Commit { epoch, source })?;
        // Nothing that the old mark protected is valid any more.
        self.time.reset(now);
        if let Err(error) = self.roots.destroy_below(epoch).await {
            // It opens nothing any more; that it is gone is for whoever steals the disk later.
            warn!(%error, epoch, "cannot destroy the roots of earlier epochs");
        }
        Ok(Epoch::new(epoch, now, root))
    }
}
