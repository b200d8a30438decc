//! How identities stand: how much each is risked, and which are in quarantine.
//!
//! Changes go one at a time: look how the identity stands, write it down with its audit event, and only
//! then change what is in memory and tell those who watch. They are numbered in that order, so that
//! whoever knows everything up to a number knows what came after it, and no clock has to be asked.
//!
//! | to find | look in |
//! |---|---|
//! | what can be changed, and changing it | [`change`] |
//! | what is known, in memory | `known` |

pub mod change;
mod known;
#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use claviger_core::grant::Requester;
use claviger_core::id::{SpiffeId, TrustDomain};
use claviger_core::standing::{Reason, Standing};
use claviger_runtime::tasks::Tasks;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use crate::epoch::LedgerTime;
use crate::journal::{CommitError, Journal, Require};
use crate::registry::server_id;
use crate::store::{Space, StoreError, Write, json, meta, parse};
pub use change::{Change, Changed, StandingError};
use known::Known;

/// The most identities of which something is said. A record is some 500 bytes.
pub const MAX_STANDINGS: usize = 100_000;

/// How identities stand. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Standings(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    journal: Journal,
    time: Arc<LedgerTime>,
    tasks: Tasks,
    /// The identity of this server, which judges others.
    own: SpiffeId,
    /// Held from the check to the change.
    changing: Mutex<()>,
    known: RwLock<Known>,
    version: watch::Sender<u64>,
}

/// What was said of one identity, as it is stored.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Of which.
    pub id: SpiffeId,
    /// How it stands.
    pub standing: Standing,
    /// The number of the change by which its quarantine last began or ended; 0 if it never was in any.
    /// What was permitted to it before is void.
    pub voided: u64,
    /// Why it stands so.
    pub reason: Reason,
    /// Who said so.
    pub requester: Requester,
}

impl Standings {
    /// Takes up what is stored.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if the store cannot be read or written, or holds what is no record.
    pub(crate) async fn open(
        journal: Journal,
        time: Arc<LedgerTime>,
        trust_domain: &TrustDomain,
        tasks: &Tasks,
    ) -> Result<Self, OpenError> {
        let number = parse(&journal.settle(meta::STANDINGS, json(&0_u64)).await?)?;
        let known = known::load(&**journal.store(), number).await?;
        known.measure();
        let inner = Inner {
            journal,
            time,
            tasks: tasks.clone(),
            own: server_id(trust_domain),
            changing: Mutex::new(()),
            known: RwLock::new(known),
            version: watch::Sender::new(number),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// How `id` stands.
    #[must_use]
    pub fn of(&self, id: &SpiffeId) -> Standing {
        self.known().get(id).map(|record| record.standing).unwrap_or_default()
    }

    /// What was said of `id`, if anything was.
    #[must_use]
    pub fn record(&self, id: &SpiffeId) -> Option<Arc<Record>> {
        self.known().get(id).cloned()
    }

    /// All of whom something was said, in the order in which it was.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Record>> {
        self.since(0).0
    }

    /// What was said after change number `version`, in that order, and the number of the newest.
    #[must_use]
    pub fn since(&self, version: u64) -> (Vec<Arc<Record>>, u64) {
        let known = self.known();
        (known.since(version).cloned().collect(), known.number())
    }

    /// The number of the newest change; 0 if there was none yet.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.known().number()
    }

    /// The number of the newest change, now and later.
    #[must_use]
    pub fn version(&self) -> watch::Receiver<u64> {
        self.0.version.subscribe()
    }

    /// Whether a quarantine of `id` began or ended after change number `seen`: what was permitted to it
    /// by then is void.
    #[must_use]
    pub fn is_void(&self, id: &SpiffeId, seen: u64) -> bool {
        self.known().get(id).is_some_and(|record| seen < record.voided)
    }

    /// What must hold of the store for a decision that was made when change number `seen` was the
    /// newest to be still the one that would be made.
    pub(crate) fn require(seen: u64) -> Require {
        Require::value(Space::Meta, meta::STANDINGS, json(&seen))
    }

    /// Takes in what another server has changed, if `group` says so.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if what it says is no record.
    pub(crate) async fn take_in(&self, group: &[Write]) -> Result<(), StoreError> {
        let mut newest = None;
        let (mut records, mut forgotten) = (Vec::<Record>::new(), Vec::<SpiffeId>::new());
        for write in group {
            match write {
                Write::Put { space: Space::Standings, value, .. } => records.push(parse(value)?),
                Write::Delete { space: Space::Standings, key } => {
                    forgotten.extend(std::str::from_utf8(key).ok().and_then(|id| id.parse().ok()));
                }
                Write::Put { space: Space::Meta, key, value } if key == meta::STANDINGS => {
                    newest = Some(parse::<u64>(value)?);
                }
                Write::Put { .. } | Write::Delete { .. } | Write::DeleteBelow { .. } => {}
            }
        }
        let Some(newest) = newest else { return Ok(()) };
        let _changing = self.0.changing.lock().await;
        if newest <= self.number() {
            return Ok(()); // It was there when the store was opened.
        }
        {
            let mut known = self.known_mut();
            forgotten.iter().for_each(|id| known.forget(id));
            for record in records {
                known.put(record);
            }
            known.measure();
        }
        self.0.version.send_replace(newest);
        Ok(())
    }

    /// Waits until what is known here is newer than change number `seen`, or for a moment: a change
    /// that is in the store comes here next, unless the server stops.
    pub(crate) async fn newer_than(&self, seen: u64) {
        const MOMENT: Duration = Duration::from_secs(1);
        let mut version = self.version();
        drop(timeout(MOMENT, version.wait_for(|version| seen < *version)).await);
    }

    /// Nobody panics while holding the lock; if somebody does, what is known is still whole, because
    /// each change to it is.
    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.0.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, Known> {
        self.0.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How identities stand cannot be taken up.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store cannot be read, or holds what is no record.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store cannot be written to.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Nobody of whom anything was said, for tests of what only asks.
#[cfg(test)]
impl Default for Standings {
    fn default() -> Self {
        use crate::storage::fixture::TestClock;
        let domain = "example.org".parse().unwrap();
        let inner = Inner {
            journal: Journal::ended(),
            time: Arc::new(LedgerTime::new(TestClock::at(0), Default::default())),
            tasks: Tasks::default(),
            own: server_id(&domain),
            changing: Mutex::default(),
            known: RwLock::default(),
            version: watch::Sender::default(),
        };
        Self(Arc::new(inner))
    }
}
