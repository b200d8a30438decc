//! Entries, agents and who is connected: everything that changes together.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use claviger_core::entry::{Entry, EntryId};
use claviger_core::id::SpiffeId;
use claviger_core::selector::Selectors;
use claviger_core::time::UnixTime;
use serde::de::DeserializeOwned;

use super::agents::{Agent, NotAnAgent};
use super::authorized::{Above, below, earned};
use super::draft::Planned;
use super::entries::{Entries, Key, Packed};
use super::log::{Change, Log};
use super::subscribers::{Handset, Subscribers, Update, Waiting};
use super::{OpenError, PAGE};
use crate::store::{Order, Space, Store};

#[derive(Debug)]
pub(super) struct State {
    pub(super) server: Key,
    pub(super) entries: Entries,
    pub(super) agents: BTreeMap<SpiffeId, Arc<Agent>>,
    pub(super) log: Log,
    pub(super) subscribers: Subscribers,
}

/// Reads what is stored; `head` is the number of the newest change.
pub(super) async fn load(store: &dyn Store, server: Key, head: u64) -> Result<State, OpenError> {
    let mut entries = Entries::default();
    each(store, Space::Entries, |entry: Entry| drop(entries.put(&entry))).await?;
    let mut agents = BTreeMap::new();
    each(store, Space::Agents, |agent: Agent| {
        agents.insert(agent.id.clone(), Arc::new(agent));
    })
    .await?;
    let (log, subscribers) = (Log::after(head), Subscribers::default());
    Ok(State { server, entries, agents, log, subscribers })
}

async fn each<T: DeserializeOwned>(
    store: &dyn Store,
    space: Space,
    mut take: impl FnMut(T),
) -> Result<(), OpenError> {
    let mut from = Bound::Unbounded;
    loop {
        let page = store.scan(space, from, Bound::Unbounded, Order::Ascending, PAGE).await?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        from = Bound::Excluded(last.clone());
        for (key, value) in page {
            let damaged = |source| OpenError::Damaged {
                key: format!("{}/{}", space.name(), String::from_utf8_lossy(&key)),
                source,
            };
            take(serde_json::from_slice(&value).map_err(damaged)?);
        }
    }
}

impl State {
    pub(super) fn agents_after(
        &self,
        after: Option<&SpiffeId>,
    ) -> impl Iterator<Item = &Arc<Agent>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.agents.range::<SpiffeId, _>((from, Bound::Unbounded)).map(|(_, agent)| agent)
    }

    pub(super) fn active(&self, agent: &SpiffeId) -> Result<&Agent, NotAnAgent> {
        let agent = self.agents.get(agent).ok_or(NotAnAgent::Unknown)?;
        if agent.banned { Err(NotAnAgent::Banned) } else { Ok(agent) }
    }

    pub(super) fn authorized(&self, agent: &SpiffeId, now: UnixTime) -> Vec<Packed> {
        let Ok(agent) = self.active(agent) else { return Vec::new() };
        let key = Key::of_id(&agent.id);
        let found = below(&self.entries, key, &agent.selectors, self.server, now);
        found.into_iter().filter_map(|entry| self.entries.packed(entry).cloned()).collect()
    }

    pub(super) fn earned(&self, selectors: &Selectors, now: UnixTime) -> Vec<Entry> {
        let found = earned(&self.entries, selectors, self.server, now);
        found.filter_map(|entry| self.entries.packed(entry)).map(Packed::to_entry).collect()
    }

    pub(super) fn authorized_entry(
        &self,
        agent: &SpiffeId,
        id: &EntryId,
        now: UnixTime,
    ) -> Option<Packed> {
        let agent = self.active(agent).ok()?;
        let handle = self.entries.find(id).filter(|handle| self.entries.is_alive(*handle, now))?;
        let above = self.above(self.entries.parent(handle)?, now);
        let served = above.includes(Key::of_id(&agent.id), &agent.selectors);
        if served { self.entries.packed(handle).cloned() } else { None }
    }

    pub(super) fn is_entitled(&self, agent: &SpiffeId, identity: &SpiffeId, now: UnixTime) -> bool {
        let Ok(agent) = self.active(agent) else { return false };
        let key = Key::of_id(&agent.id);
        self.entries
            .giving(Key::of_id(identity))
            .filter(|giver| self.entries.is_alive(*giver, now))
            .filter_map(|giver| self.entries.parent(giver))
            .any(|parent| self.above(parent, now).includes(key, &agent.selectors))
    }

    pub(super) fn above(&self, parent: Key, now: UnixTime) -> Above {
        Above::parent(&self.entries, parent, self.server, now)
    }

    /// Makes the changes, appends them to the log, and tells the connected agents that they
    /// concern. A change that moves others along with it makes a new snapshot for its agents.
    pub(super) fn apply(&mut self, planned: Planned, now: UnixTime) {
        let mut memo = HashMap::new();
        for (id, after) in planned.changed {
            let had = self.concerned_by(&id, now, &mut memo);
            let before = self.entries.remove(&id);
            let was_structural = before.as_ref().is_some_and(|entry| self.is_structural(entry));
            if was_structural {
                memo.clear();
            }
            let packed = after.as_ref().map(|entry| self.entries.put(entry));
            let is_structural = after.as_ref().is_some_and(|entry| self.is_structural(entry));
            if is_structural {
                memo.clear();
            }
            let structural = was_structural || is_structural;
            let has = self.concerned_by(&id, now, &mut memo);
            let parent = |entry: Option<&Entry>| entry.map(|entry| Key::of_id(&entry.parent_id));
            let (before, after) = (parent(before.as_ref()), parent(after.as_ref()));
            let change = Change::Entry { id: id.clone(), before, after, structural };
            let sequence = self.log.push(change);
            for agent in had.union(&has) {
                match &packed {
                    _ if structural => self.subscribers.resend(*agent, sequence),
                    Some(packed) if has.contains(agent) => {
                        self.subscribers.upsert(*agent, sequence, &id, packed);
                    }
                    Some(_) | None => self.subscribers.delete(*agent, sequence, &id),
                }
            }
        }
        self.subscribers.flush();
    }

    /// The connected agents that have the entry `id`, as things are.
    fn concerned_by(
        &self,
        id: &EntryId,
        now: UnixTime,
        memo: &mut HashMap<Key, BTreeSet<Key>>,
    ) -> BTreeSet<Key> {
        let Some(handle) = self.entries.find(id) else { return BTreeSet::new() };
        if !self.entries.is_alive(handle, now) {
            // Nobody has it any more; whoever still thinks so is told again, which does no harm.
            return self.connected_above(handle, now);
        }
        match self.entries.parent(handle) {
            Some(parent) if parent != self.server => {
                memo.entry(parent).or_insert_with(|| self.connected_above(handle, now)).clone()
            }
            Some(_) | None => self.connected_above(handle, now),
        }
    }

    fn connected_above(&self, handle: super::entries::Handle, now: UnixTime) -> BTreeSet<Key> {
        let above = match self.entries.parent(handle) {
            Some(parent) if parent == self.server => Above::alias(self.entries.selectors(handle)),
            Some(parent) => self.above(parent, now),
            None => return BTreeSet::new(),
        };
        self.subscribers.among(&above)
    }

    /// Whether agents gain or lose more than the entry itself: it is a node alias, or others hang
    /// under the identity that it gives.
    fn is_structural(&self, entry: &Entry) -> bool {
        Key::of_id(&entry.parent_id) == self.server
            || self.entries.under(Key::of_id(&entry.spiffe_id)).next().is_some()
    }

    pub(super) fn subscribe(
        &mut self,
        id: &SpiffeId,
        cursor: Option<u64>,
        now: UnixTime,
    ) -> Result<(Update, Handset), NotAnAgent> {
        let agent = self.active(id)?;
        let missed = cursor.and_then(|cursor| self.missed(agent, cursor, now));
        let first = missed.unwrap_or_else(|| self.snapshot(id, now));
        let (key, selectors) = (Key::of_id(id), agent.selectors.clone());
        let handset = self.subscribers.add(key, id.clone(), selectors, self.log.head());
        Ok((first, handset))
    }

    /// Everything that the agent may serve.
    pub(super) fn snapshot(&self, agent: &SpiffeId, now: UnixTime) -> Update {
        metrics::counter!(crate::metrics::SNAPSHOTS).increment(1);
        Update::snapshot(self.log.head(), self.authorized(agent, now))
    }

    /// What has changed for the agent after change number `cursor`; `None` if that is not known, or
    /// more than single entries.
    fn missed(&self, agent: &Agent, cursor: u64, now: UnixTime) -> Option<Update> {
        let own = Key::of_id(&agent.id);
        let mut update = Update::nothing(self.log.head());
        let mut memo: HashMap<Key, bool> = HashMap::new();
        let mut has = |parent: Option<Key>| {
            parent.is_some_and(|parent| {
                *memo
                    .entry(parent)
                    .or_insert_with(|| self.above(parent, now).includes(own, &agent.selectors))
            })
        };
        for change in self.log.since(cursor)? {
            match change {
                Change::Agent(changed) if *changed == own => return None,
                Change::Agent(_) => {}
                // A node alias that is gone cannot be asked any more whose it was.
                Change::Entry { structural: true, before, after, .. }
                    if [before, after].iter().any(|parent| **parent == Some(self.server)) =>
                {
                    return None;
                }
                Change::Entry { id, before, after, structural } => {
                    let (had, has) = (has(*before), has(*after));
                    if *structural && (had || has) {
                        return None;
                    }
                    // As it is now, which later changes in the log may have made it.
                    let alive = self.entries.find(id);
                    let alive = alive.filter(|entry| has && self.entries.is_alive(*entry, now));
                    match alive.and_then(|entry| self.entries.packed(entry)) {
                        Some(packed) => update.upsert(id, packed),
                        None if had || has => update.delete(id),
                        None => {}
                    }
                }
            }
        }
        Some(update)
    }

    pub(super) fn waiting(&self, entries: &[EntryId], now: UnixTime) -> Vec<Waiting> {
        let concerned = entries.iter().flat_map(|id| match self.entries.find(id) {
            Some(handle) => self.connected_above(handle, now),
            None => self.once_concerned(id, now),
        });
        let concerned: BTreeSet<Key> = concerned.collect();
        concerned.into_iter().filter_map(|agent| self.subscribers.waiting(agent)).collect()
    }

    /// The connected agents that had an entry which is gone.
    fn once_concerned(&self, id: &EntryId, now: UnixTime) -> BTreeSet<Key> {
        let Some(Change::Entry { before: Some(parent), .. }) = self.log.newest(id) else {
            return BTreeSet::new();
        };
        self.subscribers.among(&self.above(*parent, now))
    }
}
