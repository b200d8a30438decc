//! Every registration entry, small enough to keep in memory.
//!
//! An entry is kept as the protobuf message that agents receive; what the rules look for is indexed
//! by digest. That takes about 400 bytes per entry, all included.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use claviger_core::entry::{Entry, EntryId};
use claviger_core::id::SpiffeId;
use claviger_core::selector::Selectors;
use claviger_core::time::UnixTime;
use claviger_proto::spire::types;
use prost::Message as _;

/// The truncated SHA-256 of something that entries are looked up by. Nobody finds two things with
/// the same 128 bits.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Key([u8; 16]);

impl Key {
    /// Of an identity, as the parent or as the identity of an entry.
    pub(super) fn of_id(id: &SpiffeId) -> Self {
        Self::of(&[id.to_string().as_bytes()])
    }

    /// Of what no two entries may share.
    pub(super) fn of_similarity(entry: &Entry) -> Self {
        let (spiffe_id, parent_id, selectors) = entry.similarity();
        let mut parts = vec![spiffe_id.to_string(), parent_id.to_string()];
        parts.extend(selectors.iter().map(ToString::to_string));
        let parts: Vec<_> = parts.iter().map(String::as_bytes).collect();
        Self::of(&parts)
    }

    fn of_hint(parent: &SpiffeId, hint: &str) -> Self {
        Self::of(&[parent.to_string().as_bytes(), hint.as_bytes()])
    }

    fn of(parts: &[&[u8]]) -> Self {
        let mut bytes = Vec::new();
        for part in parts {
            bytes.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        let mut key = [0; 16];
        key.iter_mut().zip(digest(&SHA256, &bytes).as_ref()).for_each(|(to, from)| *to = *from);
        Self(key)
    }
}

/// An entry as the message that agents receive, encoded. Clones share it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Packed(Arc<[u8]>);

impl Packed {
    pub(super) fn new(entry: &Entry) -> Self {
        Self(types::Entry::from(entry).encode_to_vec().into())
    }

    /// The message.
    #[must_use]
    pub fn to_wire(&self) -> types::Entry {
        #[expect(clippy::expect_used, reason = "`new` encoded it, and nothing else makes one")]
        types::Entry::decode(&*self.0).expect("an encoded entry")
    }

    /// The entry.
    #[must_use]
    pub fn to_entry(&self) -> Entry {
        #[expect(clippy::expect_used, reason = "it was an entry when `new` encoded it")]
        self.to_wire().try_into().expect("an entry")
    }
}

/// The place of an entry in memory, as long as it is there.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Handle(u32);

#[derive(Debug)]
struct Slot {
    packed: Packed,
    identity: Key,
    parent: Key,
    /// The first second at which the entry is none any more.
    end: UnixTime,
}

/// What entries are looked up by.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum By {
    Parent,
    Identity,
    Similarity,
    Hint,
}

/// All entries.
#[derive(Debug, Default)]
pub(super) struct Entries {
    slots: Vec<Option<Slot>>,
    free: Vec<Handle>,
    by_id: BTreeMap<EntryId, Handle>,
    index: BTreeSet<(By, Key, Handle)>,
    ending: BTreeSet<(UnixTime, Handle)>,
}

impl Entries {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn find(&self, id: &EntryId) -> Option<Handle> {
        self.by_id.get(id).copied()
    }

    pub(super) fn get(&self, id: &EntryId) -> Option<&Packed> {
        self.packed(self.find(id)?)
    }

    pub(super) fn packed(&self, handle: Handle) -> Option<&Packed> {
        self.slot(handle).map(|slot| &slot.packed)
    }

    pub(super) fn identity(&self, handle: Handle) -> Option<Key> {
        self.slot(handle).map(|slot| slot.identity)
    }

    pub(super) fn parent(&self, handle: Handle) -> Option<Key> {
        self.slot(handle).map(|slot| slot.parent)
    }

    /// Whether the entry exists and has not ended.
    pub(super) fn is_alive(&self, handle: Handle, now: UnixTime) -> bool {
        self.slot(handle).is_some_and(|slot| now < slot.end)
    }

    pub(super) fn selectors(&self, handle: Handle) -> Selectors {
        self.packed(handle).map(|packed| packed.to_entry().selectors).unwrap_or_default()
    }

    /// The entries under the identity with this key.
    pub(super) fn under(&self, parent: Key) -> impl Iterator<Item = Handle> {
        self.having(By::Parent, parent)
    }

    /// The entries that give the identity with this key.
    pub(super) fn giving(&self, identity: Key) -> impl Iterator<Item = Handle> {
        self.having(By::Identity, identity)
    }

    /// The entry other than `entry` itself that shares with it what no two may share.
    pub(super) fn similar_to(&self, entry: &Entry) -> Option<&Packed> {
        let own = self.find(&entry.id);
        let other = self
            .having(By::Similarity, Key::of_similarity(entry))
            .find(|handle| Some(*handle) != own)?;
        self.packed(other)
    }

    /// The entries other than `entry` itself with its parent and hint.
    pub(super) fn same_hint(&self, entry: &Entry) -> impl Iterator<Item = Entry> {
        let own = self.find(&entry.id);
        self.having(By::Hint, Key::of_hint(&entry.parent_id, &entry.hint))
            .filter(move |handle| Some(*handle) != own)
            .filter_map(|handle| self.packed(handle).map(Packed::to_entry))
    }

    /// The entries whose ids come after `after`, in the order of their ids.
    pub(super) fn following(&self, after: Option<&EntryId>) -> impl Iterator<Item = &Packed> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_id
            .range::<EntryId, _>((from, Bound::Unbounded))
            .filter_map(|(_, handle)| self.packed(*handle))
    }

    /// When the first entry ends; `None` if none does.
    pub(super) fn first_end(&self) -> Option<UnixTime> {
        self.ending.first().map(|(end, _)| *end)
    }

    /// Up to `limit` entries that have ended at `now`.
    pub(super) fn ended(&self, now: UnixTime, limit: usize) -> Vec<EntryId> {
        let ended = self.ending.iter().take_while(|(end, _)| *end <= now).take(limit);
        ended.filter_map(|(_, at)| self.packed(*at).map(|packed| packed.to_entry().id)).collect()
    }

    /// Puts `entry` in the place of the one with its id, if there is one.
    pub(super) fn put(&mut self, entry: &Entry) -> Packed {
        self.remove(&entry.id);
        let packed = Packed::new(entry);
        let slot = Slot {
            packed: packed.clone(),
            identity: Key::of_id(&entry.spiffe_id),
            parent: Key::of_id(&entry.parent_id),
            end: entry.expires_at.unwrap_or(UnixTime::from_secs(u64::MAX)),
        };
        let handle = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            // Far below the limit on entries.
            Handle(u32::try_from(self.slots.len()).unwrap_or(u32::MAX).saturating_sub(1))
        });
        for (by, key) in keys(entry, &slot) {
            self.index.insert((by, key, handle));
        }
        if let Some(end) = entry.expires_at {
            self.ending.insert((end, handle));
        }
        if let Some(place) = self.slots.get_mut(at(handle)) {
            *place = Some(slot);
        }
        self.by_id.insert(entry.id.clone(), handle);
        packed
    }

    /// Takes the entry out.
    pub(super) fn remove(&mut self, id: &EntryId) -> Option<Entry> {
        let handle = self.by_id.remove(id)?;
        let slot = self.slots.get_mut(at(handle)).and_then(Option::take)?;
        let entry = slot.packed.to_entry();
        for (by, key) in keys(&entry, &slot) {
            self.index.remove(&(by, key, handle));
        }
        self.ending.remove(&(slot.end, handle));
        self.free.push(handle);
        Some(entry)
    }

    fn slot(&self, handle: Handle) -> Option<&Slot> {
        self.slots.get(at(handle)).and_then(Option::as_ref)
    }

    fn having(&self, by: By, key: Key) -> impl Iterator<Item = Handle> {
        self.index.range((by, key, Handle(0))..=(by, key, Handle(u32::MAX))).map(|(.., at)| *at)
    }
}

fn keys(entry: &Entry, slot: &Slot) -> impl Iterator<Item = (By, Key)> {
    let hint =
        (!entry.hint.is_empty()).then(|| (By::Hint, Key::of_hint(&entry.parent_id, &entry.hint)));
    [
        (By::Parent, slot.parent),
        (By::Identity, slot.identity),
        (By::Similarity, Key::of_similarity(entry)),
    ]
    .into_iter()
    .chain(hint)
}

fn at(handle: Handle) -> usize {
    usize::try_from(handle.0).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::entry;
    use super::*;

    #[test]
    fn an_entry_comes_back_as_it_went() {
        let mut entries = Entries::default();
        let one = Entry {
            hint: "main".into(),
            expires_at: Some(UnixTime::from_secs(9)),
            ..entry("one", "/agent", "/web", "unix:uid:1")
        };
        assert_eq!(entries.put(&one).to_entry(), one);
        assert_eq!(entries.get(&one.id).map(Packed::to_entry), Some(one.clone()));
        assert_eq!(entries.remove(&one.id), Some(one));
        assert_eq!((entries.len(), entries.index.len(), entries.ending.len()), (0, 0, 0));
    }

    #[test]
    fn replacing_leaves_no_trace_of_the_old() {
        let mut entries = Entries::default();
        let old = entry("one", "/agent", "/web", "unix:uid:1");
        entries.put(&old);
        let new = Entry { parent_id: "spiffe://example.org/b".parse().unwrap(), ..old.clone() };
        entries.put(&new);
        assert_eq!(entries.under(Key::of_id(&old.parent_id)).count(), 0);
        assert_eq!(entries.under(Key::of_id(&new.parent_id)).count(), 1);
        assert_eq!((entries.len(), entries.slots.len()), (1, 1));
    }

    #[test]
    fn entries_are_found_by_what_they_share() {
        let mut entries = Entries::default();
        let one = Entry { hint: "h".into(), ..entry("one", "/agent", "/web", "unix:uid:1") };
        entries.put(&one);
        let other_id = Entry { id: "two".parse().unwrap(), ..one.clone() };
        assert!(entries.similar_to(&one).is_none(), "an entry is not similar to itself");
        assert_eq!(entries.similar_to(&other_id).map(Packed::to_entry), Some(one.clone()));
        assert_eq!(entries.same_hint(&one).count(), 0);
        assert_eq!(entries.same_hint(&other_id).count(), 1);
        assert_eq!(entries.giving(Key::of_id(&one.spiffe_id)).count(), 1);
    }

    #[test]
    fn ended_entries_come_first() {
        let mut entries = Entries::default();
        for (id, end) in [("a", 30), ("b", 10), ("c", 20)] {
            let end = Some(UnixTime::from_secs(end));
            let uid = format!("unix:user:{id}");
            entries.put(&Entry { expires_at: end, ..entry(id, "/agent", "/web", &uid) });
        }
        assert_eq!(entries.first_end(), Some(UnixTime::from_secs(10)));
        let ended = entries.ended(UnixTime::from_secs(20), 9);
        assert_eq!(ended.iter().map(EntryId::as_str).collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(entries.ended(UnixTime::from_secs(20), 1).len(), 1);
        let b = entries.find(&"b".parse().unwrap()).unwrap();
        assert!(entries.is_alive(b, UnixTime::from_secs(9)));
        assert!(!entries.is_alive(b, UnixTime::from_secs(10)));
    }
}
