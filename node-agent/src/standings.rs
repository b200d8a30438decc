//! How identities stand, as the server says: how much each is risked, and which are in quarantine.
//!
//! | to find | look in |
//! |---|---|
//! | from messages to records and back; no I/O | `pages` |
//! | what outlives a restart | `stored` |
//!
//! What the server said last counts until it says something else: an agent that has lost it, or that
//! starts without it, still knows who is in quarantine.

mod pages;
mod stored;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use claviger_core::id::SpiffeId;
use claviger_core::standing::Standing;
use tokio::sync::watch;

pub(crate) use pages::{Pages, TooManyStandings, Update};
pub use stored::LoadStandingsError;
pub(crate) use stored::keep;

/// The most identities of which something is known.
pub(crate) const MAX: usize = 100_000;

/// How identities stand. Clones are handles to the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standings(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    known: RwLock<Known>,
    edition: watch::Sender<Edition>,
}

#[derive(Debug, Default)]
struct Known {
    of: HashMap<SpiffeId, Standing>,
    /// The same, by the change that made it so.
    by_version: BTreeMap<u64, BTreeSet<SpiffeId>>,
}

/// Up to where something is known.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Edition {
    /// How often all of it was replaced. Between two such times, what is new has a higher number.
    pub(crate) replaced: u64,
    /// The number of the newest change, as the server counts.
    pub(crate) version: u64,
}

/// What is new since an edition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Changes {
    /// What it brings whoever takes it in to.
    pub(crate) edition: Edition,
    /// Whether the records are all there is, and of every other identity nothing is known.
    pub(crate) all: bool,
    /// How some identities stand, in the order in which it came to be.
    pub(crate) records: Vec<(SpiffeId, Standing)>,
}

impl Standings {
    /// How `id` stands.
    pub(crate) fn of(&self, id: &SpiffeId) -> Standing {
        self.known().of.get(id).copied().unwrap_or_default()
    }

    /// The edition of the moment, and every later one.
    pub(crate) fn watch(&self) -> watch::Receiver<Edition> {
        self.0.edition.subscribe()
    }

    /// The number of the newest change; 0 if there was none yet.
    pub(crate) fn version(&self) -> u64 {
        self.0.edition.borrow().version
    }

    /// What is new since `seen`; everything, for those who have seen nothing.
    pub(crate) fn since(&self, seen: Option<Edition>) -> Changes {
        let known = self.known();
        let edition = *self.0.edition.borrow();
        let seen = seen.filter(|seen| seen.replaced == edition.replaced);
        let from = seen.map_or(0, |seen| seen.version.saturating_add(1));
        let newer = known.by_version.range(from..).flat_map(|(_, ids)| ids);
        let records = newer.filter_map(|id| Some((id.clone(), *known.of.get(id)?)));
        Changes { edition, all: seen.is_none(), records: records.collect() }
    }

    /// Takes in what the server says; all of it, or nothing.
    ///
    /// # Errors
    ///
    /// [`TooManyStandings`] if there is no room for it.
    pub(crate) fn apply(&self, update: Update) -> Result<(), TooManyStandings> {
        let Update { all, records, version } = update;
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        let before = if all { 0 } else { known.of.len() };
        let new = records.iter().filter(|(id, _)| all || !known.of.contains_key(id)).count();
        if MAX < before.saturating_add(new) {
            return Err(TooManyStandings);
        }
        if all {
            *known = Known::default();
        }
        for (id, standing) in records {
            known.insert(id, standing);
        }
        self.0.edition.send_if_modified(|edition| {
            let before = *edition;
            if all {
                *edition = Edition { replaced: before.replaced.wrapping_add(1), version: 0 };
            }
            edition.version = edition.version.max(version);
            *edition != before
        });
        Ok(())
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        // What is inserted below is whole before anything can fail.
        self.0.known.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// What is older than what is known says nothing new.
    fn insert(&mut self, id: SpiffeId, standing: Standing) {
        let before = self.of.get(&id).map(|before| before.version);
        if before.is_some_and(|before| standing.version < before) {
            return;
        }
        if let Some(before) = before
            && let Some(ids) = self.by_version.get_mut(&before)
        {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_version.remove(&before);
            }
        }
        self.by_version.entry(standing.version).or_default().insert(id.clone());
        self.of.insert(id, standing);
    }
}

#[cfg(test)]
mod tests;
