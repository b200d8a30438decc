//! Entries that nobody is served by, kept for those who ask why.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use claviger_core::entry::{Entry, EntryId};
use claviger_core::reason::Reason;

/// The most of them; beyond, the answer is "no such entry".
const MAX: usize = 1_000;

/// An entry that nobody is served by.
#[derive(Clone, Debug)]
pub(crate) struct LeftOut {
    /// The entry.
    pub(crate) entry: Arc<Entry>,
    /// Why.
    pub(crate) reason: Reason,
}

/// Those there are.
#[derive(Debug, Default)]
pub(super) struct AllLeftOut {
    by_id: BTreeMap<EntryId, LeftOut>,
    /// The same, as snapshots share them; made when it is asked for.
    list: Option<Arc<[LeftOut]>>,
}

impl AllLeftOut {
    pub(super) fn insert(&mut self, entry: Arc<Entry>, reason: Reason) {
        if self.by_id.len() < MAX || self.by_id.contains_key(&entry.id) {
            self.list = None;
            self.by_id.insert(entry.id.clone(), LeftOut { entry, reason });
        }
    }

    pub(super) fn remove(&mut self, id: &EntryId) {
        if self.by_id.remove(id).is_some() {
            self.list = None;
        }
    }

    pub(super) fn retain(&mut self, ids: &BTreeSet<&EntryId>) {
        self.list = None;
        self.by_id.retain(|id, _| ids.contains(id));
    }

    pub(super) fn list(&mut self) -> Arc<[LeftOut]> {
        let by_id = &self.by_id;
        Arc::clone(self.list.get_or_insert_with(|| by_id.values().cloned().collect()))
    }
}
