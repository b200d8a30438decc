//! The rules for new and changed entries, applied to a batch before any of it is written.

use std::collections::{BTreeMap, HashMap};

use claviger_core::audit::Event;
use claviger_core::entry::{Entry, EntryError, EntryId};
use claviger_core::grant::Requester;
use claviger_core::id::TrustDomain;
use claviger_proto::convert::{FieldError, entries as convert};
use claviger_proto::spire::types;

use super::SEQUENCE;
use super::entries::{Entries, Key, Packed};
use crate::journal::Change as Commit;
use crate::store::{Space, Write, json};

/// Changes that were checked, on top of the entries as they are. Later items of a batch see the
/// earlier ones.
#[derive(Debug)]
pub(super) struct Draft<'s> {
    entries: &'s Entries,
    trust_domain: &'s TrustDomain,
    limit: usize,
    requester: &'s Requester,
    /// What each changed entry will be; `None` for one that goes.
    changed: BTreeMap<EntryId, Option<Entry>>,
    similar: HashMap<Key, EntryId>,
    hinted: Vec<EntryId>,
    /// How many entries there will be.
    count: usize,
    events: Vec<Event>,
}

impl<'s> Draft<'s> {
    pub(super) fn new(
        entries: &'s Entries,
        trust_domain: &'s TrustDomain,
        limit: usize,
        requester: &'s Requester,
    ) -> Self {
        Self {
            entries,
            trust_domain,
            limit,
            requester,
            changed: BTreeMap::new(),
            similar: HashMap::new(),
            hinted: Vec::new(),
            count: entries.len(),
            events: Vec::new(),
        }
    }

    pub(super) fn create(&mut self, entry: Entry) -> Result<Packed, Refused> {
        if self.limit <= self.count {
            return Err(Refused::Full(self.limit));
        }
        self.check(&entry)?;
        if let Some(there) = self.current(&entry.id) {
            return Err(Refused::IdTaken(Packed::new(&there)));
        }
        self.count = self.count.saturating_add(1);
        let event = Event::EntryCreated {
            entry: Box::new(entry.clone()),
            requester: self.requester.clone(),
        };
        Ok(self.put(entry, event))
    }

    pub(super) fn update(
        &mut self,
        wire: types::Entry,
        mask: Option<&types::EntryMask>,
    ) -> Result<Packed, Refused> {
        let id: EntryId = wire.id.parse()?;
        let current = self.current(&id).ok_or(Refused::Unknown(id))?;
        let entry = convert::update(&current, wire, mask)?;
        self.check(&entry)?;
        let event = Event::EntryUpdated {
            entry: Box::new(entry.clone()),
            requester: self.requester.clone(),
        };
        Ok(self.put(entry, event))
    }

    pub(super) fn delete(&mut self, id: &EntryId) -> Result<(), Refused> {
        let entry = self.current(id).ok_or_else(|| Refused::Unknown(id.clone()))?;
        self.count = self.count.saturating_sub(1);
        self.events.push(Event::EntryDeleted {
            id: id.clone(),
            spiffe_id: entry.spiffe_id,
            requester: self.requester.clone(),
        });
        self.changed.insert(id.clone(), None);
        Ok(())
    }

    /// The entry no longer federates with `trust_domain`. It obeyed the rules before, and less of it
    /// does so too.
    pub(super) fn dissociate(&mut self, id: &EntryId, trust_domain: &TrustDomain) {
        let Some(mut entry) = self.current(id) else { return };
        if entry.federates_with.remove(trust_domain) {
            entry.revision = entry.revision.saturating_add(1);
            let event = Event::EntryUpdated {
                entry: Box::new(entry.clone()),
                requester: self.requester.clone(),
            };
            self.put(entry, event);
        }
    }

    /// What is to be written after the change with number `head`.
    pub(super) fn finish(self, head: u64) -> Planned {
        let changed = u64::try_from(self.changed.len()).unwrap_or(u64::MAX);
        Planned {
            changed: self.changed,
            events: self.events,
            sequence: head.saturating_add(changed),
        }
    }

    fn put(&mut self, entry: Entry, event: Event) -> Packed {
        let packed = Packed::new(&entry);
        self.similar.insert(Key::of_similarity(&entry), entry.id.clone());
        if !entry.hint.is_empty() {
            self.hinted.push(entry.id.clone());
        }
        self.events.push(event);
        self.changed.insert(entry.id.clone(), Some(entry));
        packed
    }

    fn current(&self, id: &EntryId) -> Option<Entry> {
        match self.changed.get(id) {
            Some(changed) => changed.clone(),
            None => self.entries.get(id).map(Packed::to_entry),
        }
    }

    fn check(&self, entry: &Entry) -> Result<(), Refused> {
        entry.check(self.trust_domain)?;
        self.check_similar(entry)?;
        self.check_hint(entry)
    }

    fn check_similar(&self, entry: &Entry) -> Result<(), Refused> {
        let here = self.similar.get(&Key::of_similarity(entry)).and_then(|id| self.current(id));
        let there = self.entries.similar_to(entry).map(Packed::to_entry);
        let there = there.filter(|there| !self.changed.contains_key(&there.id));
        let mut both = here.into_iter().chain(there);
        match both.find(|other| other.id != entry.id && other.similarity() == entry.similarity()) {
            Some(other) => Err(Refused::Exists(Packed::new(&other))),
            None => Ok(()),
        }
    }

    /// Two entries with one hint are no use to a workload that has both: it could not tell them
    /// apart (SPIFFE Workload API §8). Where the selectors of one include those of the other, every
    /// workload of the first has both.
    fn check_hint(&self, entry: &Entry) -> Result<(), Refused> {
        if entry.hint.is_empty() {
            return Ok(());
        }
        let here = self.hinted.iter().filter_map(|id| self.current(id));
        let there = self.entries.same_hint(entry);
        let there = there.filter(|there| !self.changed.contains_key(&there.id));
        let clashes = |other: &Entry| {
            other.id != entry.id
                && other.parent_id == entry.parent_id
                && other.hint == entry.hint
                && (other.selectors.is_subset(&entry.selectors)
                    || entry.selectors.is_subset(&other.selectors))
        };
        match here.chain(there).find(clashes) {
            Some(other) => Err(Refused::Hint { hint: entry.hint.clone(), other: other.id }),
            None => Ok(()),
        }
    }
}

/// Changes that were checked and are to be written.
#[derive(Debug)]
pub(super) struct Planned {
    /// What each changed entry will be; `None` for one that goes.
    pub(super) changed: BTreeMap<EntryId, Option<Entry>>,
    events: Vec<Event>,
    /// The number of the last of these changes.
    sequence: u64,
}

impl Planned {
    /// What another server has planned and done.
    pub(super) fn of_another(changed: BTreeMap<EntryId, Option<Entry>>, sequence: u64) -> Self {
        Self { changed, events: Vec::new(), sequence }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changed.is_empty()
    }

    pub(super) fn to_commit(&self) -> Commit {
        let entries = self.changed.iter().map(|(id, entry)| {
            let key = id.as_str().as_bytes().to_vec();
            match entry {
                Some(entry) => Write::put(Space::Entries, key, json(entry)),
                None => Write::Delete { space: Space::Entries, key },
            }
        });
        let sequence = Write::put(Space::Meta, SEQUENCE, json(&self.sequence));
        Commit {
            require: Vec::new(),
            writes: entries.chain([sequence]).collect(),
            events: self.events.clone(),
        }
    }
}

/// Why one item of a batch was refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refused {
    /// There is such an entry already.
    #[error("an entry with this SPIFFE ID, parent and selectors exists already")]
    Exists(Packed),
    /// The name belongs to another entry.
    #[error("an entry with this id exists already")]
    IdTaken(Packed),
    /// There is no such entry.
    #[error("no entry has the id `{0}`")]
    Unknown(EntryId),
    /// A workload would have two identities with one hint.
    #[error(
        "entry `{other}` has the hint `{hint}` too, and every workload with the selectors of the one \
         has the other; choose another hint"
    )]
    Hint {
        /// The hint.
        hint: String,
        /// The entry that has it.
        other: EntryId,
    },
    /// A field is malformed.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// A rule between fields is broken.
    #[error(transparent)]
    Rule(#[from] EntryError),
    /// There are as many as the configuration allows.
    #[error("there are {0} entries already; raise `limits.entries` or delete some")]
    Full(usize),
}

#[cfg(test)]
mod tests {
    use super::super::fixture::entry;
    use super::*;

    fn run<T>(entries: &Entries, edit: impl FnOnce(&mut Draft<'_>) -> T) -> (T, Planned) {
        let domain: TrustDomain = "example.org".parse().unwrap();
        let mut draft = Draft::new(entries, &domain, 3, &Requester::Server);
        let outcome = edit(&mut draft);
        (outcome, draft.finish(10))
    }

    fn one() -> Entry {
        entry("one", "/spire/agent/a", "/web", "unix:uid:1")
    }

    #[test]
    fn no_two_entries_share_identity_parent_and_selectors() {
        let mut entries = Entries::default();
        entries.put(&one());
        let twin = Entry { id: "two".parse().unwrap(), ..one() };
        let (outcome, planned) = run(&entries, |draft| draft.create(twin.clone()));
        let Err(Refused::Exists(existing)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(existing.to_entry(), one());
        assert!(planned.is_empty());

        // Within one batch, too, and not once the other is gone.
        let (outcome, planned) = run(&entries, |draft| {
            draft.delete(&one().id).unwrap();
            [draft.create(twin), draft.create(Entry { id: "three".parse().unwrap(), ..one() })]
        });
        assert!(matches!(outcome, [Ok(_), Err(Refused::Exists(_))]), "{outcome:?}");
        assert_eq!(planned.changed.len(), 2);
        assert_eq!(planned.sequence, 12);
        assert_eq!(planned.events.len(), 2);
    }

    #[test]
    fn an_update_obeys_the_rules_for_new_entries() {
        let mut entries = Entries::default();
        entries.put(&one());
        let two = entry("two", "/spire/agent/a", "/web", "unix:uid:2");
        entries.put(&two);
        let selectors = types::EntryMask { selectors: true, ..types::EntryMask::default() };
        let like_one = types::Entry { id: "two".into(), ..types::Entry::from(&one()) };
        let (outcome, _) = run(&entries, |draft| draft.update(like_one, Some(&selectors)));
        assert!(matches!(outcome, Err(Refused::Exists(_))), "{outcome:?}");

        let (outcome, _) = run(&entries, |draft| draft.update((&two).into(), None));
        assert_eq!(outcome.unwrap().to_entry().revision, 1, "the same again is a new revision");
        let (outcome, _) = run(&entries, |draft| {
            draft.update(types::Entry { id: "none".into(), ..types::Entry::default() }, None)
        });
        assert!(matches!(outcome, Err(Refused::Unknown(_))), "{outcome:?}");
    }

    #[test]
    fn a_workload_never_has_one_hint_twice() {
        let mut entries = Entries::default();
        entries.put(&Entry { hint: "main".into(), ..one() });
        let mut narrow = entry("two", "/spire/agent/a", "/db", "unix:uid:1");
        narrow.hint = "main".into();
        narrow.selectors.insert("unix:gid:1".parse().unwrap());
        let (outcome, _) = run(&entries, |draft| draft.create(narrow.clone()));
        assert!(matches!(outcome, Err(Refused::Hint { .. })), "{outcome:?}");

        let mut disjoint = narrow.clone();
        disjoint.selectors = ["unix:uid:2".parse().unwrap()].into();
        let elsewhere =
            Entry { parent_id: "spiffe://example.org/b".parse().unwrap(), ..narrow.clone() };
        for fine in [disjoint, elsewhere, Entry { hint: "other".into(), ..narrow }] {
            run(&entries, |draft| draft.create(fine)).0.unwrap();
        }
    }

    #[test]
    fn full_is_full() {
        let entries = Entries::default();
        let (outcome, _) = run(&entries, |draft| {
            (0..4)
                .map(|n| {
                    draft.create(entry(&format!("e{n}"), "/a", "/w", &format!("unix:uid:{n}")))
                })
                .collect::<Vec<_>>()
        });
        assert!(matches!(outcome[3], Err(Refused::Full(3))), "{outcome:?}");
        assert_eq!(outcome.iter().filter(|outcome| outcome.is_ok()).count(), 3);
    }

    #[test]
    fn names_are_taken_once_and_rules_hold() {
        let mut entries = Entries::default();
        entries.put(&one());
        let same_id = entry("one", "/spire/agent/a", "/db", "unix:uid:1");
        let (outcome, _) = run(&entries, |draft| draft.create(same_id));
        assert!(matches!(outcome, Err(Refused::IdTaken(_))), "{outcome:?}");
        let foreign = Entry { spiffe_id: "spiffe://other/web".parse().unwrap(), ..one() };
        let (outcome, _) = run(&entries, |draft| draft.create(foreign));
        assert!(matches!(outcome, Err(Refused::Rule(_))), "{outcome:?}");
    }
}
