//! What is known of how identities stand.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use claviger_core::id::SpiffeId;
use claviger_core::standing::Risk;
use claviger_core::time::UnixTime;
use metrics::gauge;

use super::Record;
use crate::metrics as names;
use crate::store::{Order, Space, Store, StoreError, parse};

/// How long it is remembered of an identity that it stood otherwise. Far longer than a one-time key
/// lasts that a quarantine has voided, and than an agent needs to hear of it.
const MEMORY: Duration = Duration::from_secs(3_600);

/// Records are read from the store this many at a time.
const PAGE: usize = 1_000;

/// The records, and the number of the newest change.
#[derive(Debug, Default)]
pub(super) struct Known {
    of: HashMap<SpiffeId, Arc<Record>>,
    /// The same, in the order of their changes.
    by_version: BTreeMap<u64, Arc<Record>>,
    number: u64,
    /// When the newest change was made.
    changed_at: UnixTime,
}

/// Reads what is stored; `number` is that of the newest change.
pub(super) async fn load(store: &dyn Store, number: u64) -> Result<Known, StoreError> {
    let mut known = Known { number, ..Known::default() };
    let mut from = Bound::Unbounded;
    loop {
        let page =
            store.scan(Space::Standings, from, Bound::Unbounded, Order::Ascending, PAGE).await?;
        let Some((last, _)) = page.last() else { return Ok(known) };
        from = Bound::Excluded(last.clone());
        for (_, stored) in page {
            known.put(parse(&stored)?);
        }
    }
}

impl Known {
    pub(super) fn get(&self, id: &SpiffeId) -> Option<&Arc<Record>> {
        self.of.get(id)
    }

    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    pub(super) const fn changed_at(&self) -> UnixTime {
        self.changed_at
    }

    /// What was said after change number `version`, in that order.
    pub(super) fn since(&self, version: u64) -> impl Iterator<Item = &Arc<Record>> {
        let after = (Bound::Excluded(version), Bound::Unbounded);
        self.by_version.range(after).map(|(_, record)| record)
    }

    /// Puts a record in the place of the one before.
    pub(super) fn put(&mut self, record: Record) -> Arc<Record> {
        let record = Arc::new(record);
        let version = record.standing.version;
        if let Some(before) = self.of.insert(record.id.clone(), Arc::clone(&record)) {
            self.by_version.remove(&before.standing.version);
        }
        self.by_version.insert(version, Arc::clone(&record));
        self.number = self.number.max(version);
        self.changed_at = self.changed_at.max(record.standing.changed_at);
        record
    }

    pub(super) fn forget(&mut self, id: &SpiffeId) {
        if let Some(record) = self.of.remove(id) {
            self.by_version.remove(&record.standing.version);
        }
    }

    /// Up to `limit` identities of which there is nothing to say any more at `now`.
    pub(super) fn forgettable(&self, now: UnixTime, limit: usize) -> Vec<SpiffeId> {
        let old = |record: &&Arc<Record>| record.standing.changed_at.after(MEMORY) < now;
        let calm = |record: &&Arc<Record>| {
            !record.standing.quarantined && record.standing.risk == Risk::NONE
        };
        let records = self.by_version.values().take_while(old).filter(calm);
        records.take(limit).map(|record| record.id.clone()).collect()
    }

    /// Shows how many there are.
    pub(super) fn measure(&self) {
        let quarantined = self.of.values().filter(|record| record.standing.quarantined).count();
        gauge!(names::STANDINGS).set(count(self.of.len()));
        gauge!(names::QUARANTINED).set(count(quarantined));
    }
}

/// There are [`super::MAX_STANDINGS`] of them at most.
fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}
