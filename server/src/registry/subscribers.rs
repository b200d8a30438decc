//! Telling connected agents what changes for them.
//!
//! Each has a bounded queue. One that does not keep up is let go and resumes by its cursor, so a
//! slow agent costs a bounded amount of memory and delays nobody. How identities stand, each stream reads by
//! itself; here is how far each agent has taken it in (`standings`).

mod standings;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use claviger_core::entry::EntryId;
use claviger_core::id::SpiffeId;
use claviger_core::selector::Selectors;
use metrics::{counter, gauge, histogram};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::warn;

use super::authorized::Above;
use super::entries::{Key, Packed};
use super::{Registry, count};
use crate::metrics as names;

/// How many updates may wait for an agent. Each comes from one write, so this is many seconds'
/// worth of writing; entries in them are shared, so it is little memory.
const QUEUE: usize = 64;

/// How many updates that an agent has not acknowledged are timed.
const TIMED: usize = 64;

/// What an agent is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Update {
    /// The number of the newest change in it.
    pub sequence: u64,
    /// The entries replace all that the agent has.
    pub snapshot: bool,
    /// What came or changed, and (`None`) what went.
    pub entries: BTreeMap<EntryId, Option<Packed>>,
    /// When the oldest change in it was made.
    made: Instant,
}

impl Update {
    pub(super) fn nothing(sequence: u64) -> Self {
        Self { sequence, snapshot: false, entries: BTreeMap::new(), made: Instant::now() }
    }

    pub(super) fn snapshot(sequence: u64, entries: Vec<Packed>) -> Self {
        let entries = entries.into_iter().map(|packed| (packed.to_entry().id, Some(packed)));
        Self { snapshot: true, entries: entries.collect(), ..Self::nothing(sequence) }
    }

    pub(super) fn upsert(&mut self, id: &EntryId, packed: &Packed) {
        self.entries.insert(id.clone(), Some(packed.clone()));
    }

    pub(super) fn delete(&mut self, id: &EntryId) {
        self.entries.insert(id.clone(), None);
    }

    fn merge(&mut self, later: Self) {
        self.sequence = later.sequence;
        self.snapshot |= later.snapshot;
        self.entries.extend(later.entries);
    }
}

/// Every connected agent, by the key of its identity.
#[derive(Debug, Default)]
pub(super) struct Subscribers {
    connected: HashMap<Key, Subscriber>,
    /// Those with an update that is still being put together.
    pending: BTreeSet<Key>,
    next_number: u64,
}

#[derive(Debug)]
struct Subscriber {
    number: u64,
    agent: SpiffeId,
    selectors: Selectors,
    queue: mpsc::Sender<Update>,
    pending: Option<Update>,
    /// The newest change that was put into the queue.
    enqueued: u64,
    acked: watch::Sender<u64>,
    /// The newest change to how identities stand that it has taken in.
    standings: watch::Sender<u64>,
}

/// The other end of a subscriber.
#[derive(Debug)]
pub(super) struct Handset {
    number: u64,
    key: Key,
    updates: mpsc::Receiver<Update>,
    acked: watch::Sender<u64>,
    standings: watch::Sender<u64>,
}

impl Subscribers {
    /// Connects an agent that knows, or is about to be told, everything up to `sequence`.
    pub(super) fn add(
        &mut self,
        key: Key,
        agent: SpiffeId,
        selectors: Selectors,
        sequence: u64,
    ) -> Handset {
        let (queue, updates) = mpsc::channel(QUEUE);
        let (acked, standings) = (watch::Sender::new(0), watch::Sender::new(0));
        let number = self.next_number;
        self.next_number = number.saturating_add(1);
        let handset =
            Handset { number, key, updates, acked: acked.clone(), standings: standings.clone() };
        let subscriber = Subscriber {
            number,
            agent,
            selectors,
            queue,
            pending: None,
            enqueued: sequence,
            acked,
            standings,
        };
        self.connected.insert(key, subscriber);
        self.count();
        handset
    }

    /// Ends the subscription of an agent, if it has one.
    pub(super) fn end(&mut self, agent: Key) {
        self.connected.remove(&agent);
        self.count();
    }

    /// Ends this subscription and no later one.
    fn end_number(&mut self, agent: Key, number: u64) {
        if self.connected.get(&agent).is_some_and(|subscriber| subscriber.number == number) {
            self.end(agent);
        }
    }

    fn count(&self) {
        gauge!(names::SUBSCRIBERS).set(count(self.connected.len()));
    }

    /// Those of the connected agents that are `above`.
    pub(super) fn among(&self, above: &Above) -> BTreeSet<Key> {
        if !above.has_aliases() {
            return above.identities().filter(|key| self.connected.contains_key(key)).collect();
        }
        let included =
            |(key, subscriber): &(&Key, &Subscriber)| above.includes(**key, &subscriber.selectors);
        self.connected.iter().filter(included).map(|(key, _)| *key).collect()
    }

    pub(super) fn upsert(&mut self, agent: Key, sequence: u64, id: &EntryId, packed: &Packed) {
        self.edit(agent, sequence, |update| update.upsert(id, packed));
    }

    pub(super) fn delete(&mut self, agent: Key, sequence: u64, id: &EntryId) {
        self.edit(agent, sequence, |update| update.delete(id));
    }

    /// The agent is to be sent everything anew.
    pub(super) fn resend(&mut self, agent: Key, sequence: u64) {
        self.edit(agent, sequence, |update| update.snapshot = true);
    }

    fn edit(&mut self, agent: Key, sequence: u64, edit: impl FnOnce(&mut Update)) {
        if let Some(subscriber) = self.connected.get_mut(&agent) {
            let update = subscriber.pending.get_or_insert_with(|| Update::nothing(sequence));
            update.sequence = sequence;
            edit(update);
            self.pending.insert(agent);
        }
    }

    /// Puts into the queues what was put together.
    pub(super) fn flush(&mut self) {
        for agent in std::mem::take(&mut self.pending) {
            let Some(subscriber) = self.connected.get_mut(&agent) else { continue };
            let Some(update) = subscriber.pending.take() else { continue };
            subscriber.enqueued = update.sequence;
            match subscriber.queue.try_send(update) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => {
                    warn!(agent = %subscriber.agent, "agent does not keep up; it may resume");
                    counter!(names::SUBSCRIBERS_TOO_SLOW).increment(1);
                    self.end(agent);
                }
                Err(mpsc::error::TrySendError::Closed(_)) => self.end(agent),
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.connected.is_empty()
    }

    pub(super) fn is_connected(&self, agent: Key) -> bool {
        self.connected.contains_key(&agent)
    }

    pub(super) fn waiting(&self, agent: Key) -> Option<Waiting> {
        let subscriber = self.connected.get(&agent)?;
        Some(Waiting {
            agent: subscriber.agent.clone(),
            sequence: subscriber.enqueued,
            acked: subscriber.acked.subscribe(),
        })
    }
}

/// An agent that is to acknowledge a change.
#[derive(Debug)]
pub struct Waiting {
    /// Which.
    pub agent: SpiffeId,
    sequence: u64,
    acked: watch::Receiver<u64>,
}

impl Waiting {
    /// Waits until the agent has acknowledged; `false` if its subscription ends before.
    pub async fn reached(&mut self) -> bool {
        let sequence = self.sequence;
        self.acked.wait_for(|acked| sequence <= *acked).await.is_ok()
    }
}

/// What an agent is told, from now until it ends.
#[derive(Debug)]
pub struct Subscription {
    registry: Registry,
    agent: SpiffeId,
    first: Option<Update>,
    handset: Handset,
    cursor: u64,
    /// When the updates that are not acknowledged yet were made.
    unacked: VecDeque<(u64, Instant)>,
    /// Up to which change it was told last how identities stand, and when.
    told: Option<(u64, Instant)>,
}

impl Subscription {
    pub(super) fn new(
        registry: Registry,
        agent: SpiffeId,
        first: Update,
        handset: Handset,
    ) -> Self {
        let cursor = first.sequence;
        let (first, unacked, told) = (Some(first), VecDeque::new(), None);
        Self { registry, agent, first, handset, cursor, unacked, told }
    }

    /// The next update: at once the first, then one for every time that something has changed, with
    /// everything that has. `None` when the subscription is over: the agent was evicted or banned,
    /// subscribed again, or did not keep up.
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Update> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            let mut update = self.handset.updates.recv().await?;
            while let Ok(later) = self.handset.updates.try_recv() {
                update.merge(later);
            }
            if update.sequence <= self.cursor {
                continue; // A snapshot was taken after these changes.
            }
            if update.snapshot {
                let made = update.made;
                let now = self.registry.now();
                update = Update { made, ..self.registry.read().snapshot(&self.agent, now) };
            }
            self.cursor = update.sequence;
            self.time(&update);
            return Some(update);
        }
    }

    /// The newest change that the agent was told of.
    #[must_use]
    pub const fn cursor(&self) -> u64 {
        self.cursor
    }

    fn time(&mut self, update: &Update) {
        if self.unacked.len() == TIMED {
            self.unacked.pop_front();
        }
        self.unacked.push_back((update.sequence, update.made));
    }

    /// The agent has applied everything up to `sequence`. What it was not told, it cannot have.
    pub fn ack(&mut self, sequence: u64) {
        let sequence = sequence.min(self.cursor);
        while let Some((_, made)) = self.unacked.pop_front_if(|(sent, _)| *sent <= sequence) {
            histogram!(names::PROPAGATION_SECONDS).record(made.elapsed());
        }
        self.handset.acked.send_if_modified(|acked| {
            let later = *acked < sequence;
            *acked = sequence.max(*acked);
            later
        });
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let Handset { key, number, .. } = self.handset;
        self.registry.write().subscribers.end_number(key, number);
    }
}
