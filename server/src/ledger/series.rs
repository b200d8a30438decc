//! How far series of PSKs have come.
//!
//! A series is one client's, with one server, for one purpose, and has a name. Its record says which epoch
//! is the newest. A key of a later epoch moves the record on in the write that records the key; a key of an
//! earlier one is not minted, and what was minted before is not redeemed, because the write that would spend
//! it requires the record to be as it was read. So of two epochs there is never a moment in which both work.
//!
//! **Records outlive what they void.** One stays for [`KEPT`] at least after the last key was minted for its
//! series, and no key lives for longer than five minutes: when it is dropped, every key that was ever minted
//! for the series has expired, by the clock of the ledger, which does not run backwards but with an epoch
//! of the ledger that voids everything. So nothing of an old epoch can come back with it. Whoever asks for
//! a key under its name after that begins a series anew, as the policies of that moment permit. A key whose
//! record is gone nevertheless is void.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use claviger_core::psk::{PskBinding, SeriesEpoch};
use claviger_core::time::UnixTime;
use claviger_runtime::slots::{Slot as Place, Slots as Places};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};

use super::{Ledger, LedgerError};
use crate::journal::{Change, CommitError, Require};
use crate::store::{Order, Space, Store, StoreError, Write, json, parse};

/// The most series at a time.
pub const MAX_SERIES: usize = 100_000;

/// The most of one client, so that none takes the places of the others.
pub const MAX_SERIES_PER_CLIENT: usize = 1_000;

/// How long a series is remembered at least, from the last time that a key was minted for it.
pub const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How much longer at most, so that not every key moves the end.
const SLACK: Duration = Duration::from_secs(24 * 60 * 60);

/// How many records the sweeper looks at together.
const PAGE: usize = 256;

/// How far one series has come, as it is stored.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct SeriesRecord {
    newest: NonZeroU64,
    /// The last second at which it is remembered.
    until: UnixTime,
}

/// What stands for a client.
type ClientKey = [u8; 16];

/// What stands for one series.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct SeriesKey {
    client: ClientKey,
    name: [u8; 32],
}

/// The series there are, each in its place.
#[derive(Debug)]
pub(super) struct Roll {
    places: Places<ClientKey>,
    taken: Mutex<HashMap<SeriesKey, Place<ClientKey>>>,
}

/// A key of an epoch of a series is being minted.
#[derive(Debug)]
pub(super) struct Step {
    /// What has to happen with the key.
    pub(super) change: Change,
    /// The place of a series that begins with it.
    begins: Option<(SeriesKey, Place<ClientKey>)>,
}

/// How a key stands to the newest epoch of its series.
#[derive(Debug)]
pub(super) enum Newest {
    /// It is of the newest, as long as this holds; or of no series.
    Own(Option<Require>),
    /// It is of an earlier one than this; or there is no record of the series.
    Later(Option<NonZeroU64>),
}

impl Roll {
    /// The series that `store` has.
    pub(super) async fn open(store: &dyn Store) -> Result<Self, StoreError> {
        let places = Places::new(MAX_SERIES, MAX_SERIES_PER_CLIENT);
        let roll = Self { places, taken: Mutex::default() };
        let mut from = Bound::Unbounded;
        loop {
            let page = store.scan(Space::Series, from, Bound::Unbounded, Order::Ascending, PAGE);
            let page = page.await?;
            let Some((last, _)) = page.last() else { return Ok(roll) };
            from = Bound::Excluded(last.clone());
            for (key, _) in page {
                if let Some(key) = SeriesKey::read(&key)
                    && let Ok(place) = roll.places.take(key.client)
                {
                    roll.taken().insert(key, place);
                }
            }
        }
    }

    /// The series of `step` has begun, if it begins with it.
    pub(super) fn keep(&self, step: Step) {
        if let Some((key, place)) = step.begins {
            self.taken().insert(key, place);
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.taken().len()
    }

    /// Nobody panics while holding the lock; if somebody does, the map is still whole.
    fn taken(&self) -> MutexGuard<'_, HashMap<SeriesKey, Place<ClientKey>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// What has to happen with a key that is bound to `binding`, if it is of a series.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Superseded`] if a later epoch has begun, [`LedgerError::TooManySeries`] if one more
    /// would begin with it, and [`LedgerError::Store`].
    pub(super) async fn step(&self, binding: &PskBinding) -> Result<Option<Step>, LedgerError> {
        let Some(series) = &binding.series else { return Ok(None) };
        let (key, now) = (SeriesKey::of(binding, series), self.now());
        let stored = self.0.journal.store().get(Space::Series, &key.bytes()).await?;
        let record: Option<SeriesRecord> = stored.as_deref().map(parse).transpose()?;
        if let Some(SeriesRecord { newest, .. }) = record
            && series.epoch < newest
        {
            return Err(LedgerError::Superseded { newest });
        }

        let begins = match record {
            None => {
                let place = self.0.series.places.take(key.client);
                Some((key, place.map_err(LedgerError::TooManySeries)?))
            }
            Some(_) => None,
        };
        let stays = record
            .is_some_and(|record| record.newest == series.epoch && now.after(KEPT) <= record.until);
        let moved = SeriesRecord { newest: series.epoch, until: now.after(KEPT + SLACK) };
        let writes = (!stays).then(|| Write::put(Space::Series, key.bytes(), json(&moved)));
        let change = Change {
            require: vec![Require { space: Space::Series, key: key.bytes(), value: stored }],
            writes: writes.into_iter().collect(),
            events: Vec::new(),
        };
        Ok(Some(Step { change, begins }))
    }

    /// How a key that is bound to `binding` stands to the newest epoch of its series.
    pub(super) async fn newest(&self, binding: &PskBinding) -> Result<Newest, StoreError> {
        let Some(series) = &binding.series else { return Ok(Newest::Own(None)) };
        let key = SeriesKey::of(binding, series).bytes();
        let Some(stored) = self.0.journal.store().get(Space::Series, &key).await? else {
            return Ok(Newest::Later(None));
        };
        let SeriesRecord { newest, until: _ } = parse(&stored)?;
        if newest == series.epoch {
            Ok(Newest::Own(Some(Require::value(Space::Series, key, stored))))
        } else {
            Ok(Newest::Later(Some(newest)))
        }
    }

    /// Drops what nobody has used for long enough, unless somebody uses it at this moment.
    pub(super) async fn drop_series(&self, now: UnixTime) -> Result<(), SweepSeriesError> {
        let mut from = Bound::Unbounded;
        loop {
            let store = self.0.journal.store();
            let page =
                store.scan(Space::Series, from, Bound::Unbounded, Order::Ascending, PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            from = Bound::Excluded(last.clone());
            let mut ended = Vec::new();
            for (key, stored) in page {
                let record: SeriesRecord = parse(&stored)?;
                if record.until < now {
                    ended.push(self.drop_one(key, stored));
                }
            }
            try_join_all(ended).await?;
        }
    }

    async fn drop_one(&self, key: Vec<u8>, stored: Vec<u8>) -> Result<(), CommitError> {
        let change = Change {
            require: vec![Require::value(Space::Series, key.clone(), stored)],
            writes: vec![Write::delete(Space::Series, key.clone())],
            events: Vec::new(),
        };
        match self.0.journal.commit(change).await {
            Ok(_head) => {
                if let Some(key) = SeriesKey::read(&key) {
                    self.0.series.taken().remove(&key);
                }
                Ok(())
            }
            Err(CommitError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Series could not be swept.
#[derive(Debug, thiserror::Error)]
pub(super) enum SweepSeriesError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl SeriesKey {
    fn of(binding: &PskBinding, series: &SeriesEpoch) -> Self {
        let PskBinding { client, server, purpose, .. } = binding;
        let mut owner = ClientKey::default();
        let digest = hash(&[&client.to_string()]);
        owner.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        let names = [&server.to_string(), purpose.as_str(), series.name.as_str()];
        Self { client: owner, name: hash(&names) }
    }

    fn bytes(&self) -> Vec<u8> {
        [&self.client[..], &self.name[..]].concat()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (client, name) = bytes.split_first_chunk()?;
        Some(Self { client: *client, name: name.try_into().ok()? })
    }
}

fn hash(parts: &[&str]) -> [u8; 32] {
    // No part has a line break in it: identities, purposes and series are printable.
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, parts.join("\n").as_bytes()).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::fixture::binding;

    #[test]
    fn whatever_names_a_series_makes_another() {
        let of = |name: &str, change: fn(&mut PskBinding)| {
            let mut binding = binding(60);
            binding.series = SeriesEpoch::from_wire(name, 1).unwrap();
            change(&mut binding);
            SeriesKey::of(&binding, binding.series.as_ref().unwrap())
        };
        let first = of("a", |_| {});
        assert_eq!(first, of("a", |b| b.series.as_mut().unwrap().epoch = NonZeroU64::MAX));
        assert_eq!(first, of("a", |b| b.not_after = UnixTime::default()));
        let others = [
            of("b", |_| {}),
            of("a", |b| b.client = "spiffe://example.org/x".parse().unwrap()),
            of("a", |b| b.server = "spiffe://example.org/x".parse().unwrap()),
            of("a", |b| b.purpose = "x".parse().unwrap()),
        ];
        for other in others {
            assert_ne!(first, other);
        }
        assert_eq!(first.client, of("b", |_| {}).client);
        assert_eq!(SeriesKey::read(&first.bytes()), Some(first));
        assert_eq!(SeriesKey::read(b"short"), None);
    }
}
