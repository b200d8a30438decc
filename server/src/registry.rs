//! Who is registered: entries and agents, in memory and authoritative.
//!
//! Reads never touch the store. Writes go one at a time: check the rules, write to the journal, and
//! only then change what is in memory and tell the agents concerned. A write that fails leaves
//! everything as it was.
//!
//! | to find | look in |
//! |---|---|
//! | entries in memory, and what they are looked up by | `entries` |
//! | which entries an agent may serve | `authorized` |
//! | the rules for new and changed entries | [`draft`] |
//! | the ordered log of changes | `log` |
//! | telling connected agents | [`subscribers`] |
//! | what is known about agents | [`agents`] |
//! | what listings select | [`filter`] |

pub mod agents;
mod authorized;
pub mod draft;
mod entries;
pub mod filter;
#[cfg(test)]
pub(crate) mod fixture;
mod log;
mod state;
pub mod subscribers;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use aws_lc_rs::rand;
use claviger_core::audit::Event;
use claviger_core::entry::{Entry, EntryId};
use claviger_core::grant::Requester;
use claviger_core::id::{SpiffeId, TrustDomain};
use claviger_core::time::{Clock, UnixTime};
use claviger_proto::spire::types;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Limits;
use crate::journal::{Change as Commit, CommitError, Journal};
use crate::store::{Space, StoreError, Write, json, parse};
use agents::{Agent, AgentSvid, NotAnAgent, Shown};
use draft::{Draft, Planned, Refused};
use entries::Key;
pub use entries::Packed;
use state::State;
use subscribers::{Subscription, Waiting};

/// Keys of [`Space::Meta`].
const LOG_ID: &[u8] = b"change_log_id";
const SEQUENCE: &[u8] = b"change_sequence";

/// Entries are read from the store, and removed when they have ended, this many at a time.
const PAGE: usize = 1_000;

/// The registry. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    trust_domain: TrustDomain,
    limits: Limits,
    clock: Arc<dyn Clock>,
    journal: Journal,
    log_id: [u8; 16],
    /// Held from the check to the change.
    writing: Mutex<()>,
    state: RwLock<State>,
    /// Told after every change to entries.
    changed: watch::Sender<u64>,
}

impl Registry {
    /// Reads everything that is stored.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if the store cannot be read, or holds what is no entry or agent.
    pub async fn open(
        trust_domain: TrustDomain,
        limits: Limits,
        journal: Journal,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let store = journal.store();
        let log_id = match store.get(Space::Meta, LOG_ID).await? {
            Some(stored) => stored.try_into().map_err(|_other_length| OpenError::LogId)?,
            None => new_log(&journal).await?,
        };
        let head = match store.get(Space::Meta, SEQUENCE).await? {
            Some(stored) => parse(&stored)?,
            None => 0,
        };
        let server = Key::of_id(&server_id(&trust_domain));
        let state = state::load(&**store, server, head).await?;
        info!(entries = state.entries.len(), agents = state.agents.len(), "registry loaded");
        Ok(Self(Arc::new(Inner {
            trust_domain,
            limits,
            clock,
            log_id,
            writing: Mutex::new(()),
            state: RwLock::new(state),
            changed: watch::Sender::new(head),
            journal,
        })))
    }

    /// Names the log of changes: 16 random bytes made with the store.
    #[must_use]
    pub fn log_id(&self) -> [u8; 16] {
        self.0.log_id
    }

    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.0.trust_domain
    }

    /// How many entries there are.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.read().entries.len()
    }

    /// How many agents there are.
    #[must_use]
    pub fn agent_count(&self) -> usize {
        self.read().agents.len()
    }

    /// The entry with this id.
    #[must_use]
    pub fn entry(&self, id: &EntryId) -> Option<Packed> {
        self.read().entries.get(id).cloned()
    }

    /// Up to `limit` entries that `wanted` selects, in the order of their ids, after `after`.
    #[must_use]
    pub fn entries(
        &self,
        after: Option<&EntryId>,
        limit: usize,
        wanted: impl Fn(&types::Entry) -> bool,
    ) -> Vec<types::Entry> {
        let state = self.read();
        let all = state.entries.following(after).map(Packed::to_wire);
        all.filter(wanted).take(limit).collect()
    }

    /// The entries that the agent may serve now; none for one that is unknown or banned.
    #[must_use]
    pub fn authorized(&self, agent: &SpiffeId) -> Vec<Packed> {
        self.read().authorized(agent, self.0.clock.now())
    }

    /// The entry, if it exists and the agent may serve it now.
    #[must_use]
    pub fn authorized_entry(&self, agent: &SpiffeId, id: &EntryId) -> Option<Packed> {
        self.read().authorized_entry(agent, id, self.0.clock.now())
    }

    /// Whether the agent may serve an entry that gives the identity, now.
    #[must_use]
    pub fn is_entitled(&self, agent: &SpiffeId, identity: &SpiffeId) -> bool {
        self.read().is_entitled(agent, identity, self.0.clock.now())
    }

    /// Whether some entry gives the identity now.
    #[must_use]
    pub fn is_registered(&self, identity: &SpiffeId) -> bool {
        let (state, now) = (self.read(), self.0.clock.now());
        let mut givers = state.entries.giving(Key::of_id(identity));
        givers.any(|giver| state.entries.is_alive(giver, now))
    }

    /// Creates entries. Each succeeds or is refused by itself; those that succeed do so together.
    ///
    /// # Errors
    ///
    /// [`CommitError`] if nothing was written.
    pub async fn create(
        &self,
        entries: Vec<Entry>,
        requester: &Requester,
    ) -> Result<Vec<Result<Packed, Refused>>, CommitError> {
        let create = |draft: &mut Draft<'_>| -> Vec<_> {
            entries.into_iter().map(|entry| draft.create(entry)).collect()
        };
        self.change(requester, create).await
    }

    /// Creates one entry by a commit of the caller's, which it joins.
    ///
    /// # Errors
    ///
    /// [`CreateWithError`] if the entry is refused, or the commit fails.
    pub async fn create_with<T, E>(
        &self,
        entry: Entry,
        requester: &Requester,
        commit: impl AsyncFnOnce(Commit) -> Result<T, E>,
    ) -> Result<T, CreateWithError<E>> {
        let _writing = self.0.writing.lock().await;
        let planned = {
            let state = self.read();
            let mut draft = self.draft(&state, requester);
            draft.create(entry).map_err(|refused| CreateWithError::Refused(Box::new(refused)))?;
            draft.finish(state.log.head())
        };
        let change = planned.to_commit();
        // The caller's own record says who gets which identity. This entry's parent may hold a
        // secret that is not spent yet, and an event of its own would write it down.
        let done = commit(Commit { events: Vec::new(), ..change });
        let done = done.await.map_err(CreateWithError::Commit)?;
        self.apply(planned);
        Ok(done)
    }

    /// Changes those fields of entries that `mask` selects, or all of them without a mask.
    ///
    /// # Errors
    ///
    /// [`CommitError`] if nothing was written.
    pub async fn update(
        &self,
        wire: Vec<types::Entry>,
        mask: Option<&types::EntryMask>,
        requester: &Requester,
    ) -> Result<Vec<Result<Packed, Refused>>, CommitError> {
        let update = |draft: &mut Draft<'_>| -> Vec<_> {
            wire.into_iter().map(|entry| draft.update(entry, mask)).collect()
        };
        self.change(requester, update).await
    }

    /// Deletes entries.
    ///
    /// # Errors
    ///
    /// [`CommitError`] if nothing was written.
    pub async fn delete(
        &self,
        ids: Vec<EntryId>,
        requester: &Requester,
    ) -> Result<Vec<Result<(), Refused>>, CommitError> {
        let delete = |draft: &mut Draft<'_>| -> Vec<_> {
            ids.into_iter().map(|id| draft.delete(&id)).collect()
        };
        self.change(requester, delete).await
    }

    async fn change<T>(
        &self,
        requester: &Requester,
        edit: impl FnOnce(&mut Draft<'_>) -> T,
    ) -> Result<T, CommitError> {
        let _writing = self.0.writing.lock().await;
        let (outcome, planned) = {
            let state = self.read();
            let mut draft = self.draft(&state, requester);
            (edit(&mut draft), draft.finish(state.log.head()))
        };
        if !planned.is_empty() {
            self.0.journal.commit(planned.to_commit()).await?;
            self.apply(planned);
        }
        Ok(outcome)
    }

    fn draft<'s>(&'s self, state: &'s State, requester: &'s Requester) -> Draft<'s> {
        Draft::new(&state.entries, &self.0.trust_domain, self.0.limits.entries, requester)
    }

    /// Makes true in memory what is true in the store, and tells the agents concerned.
    fn apply(&self, planned: Planned) {
        let mut state = self.write();
        state.apply(planned, self.0.clock.now());
        self.0.changed.send_replace(state.log.head());
        metrics::gauge!(crate::metrics::ENTRIES).set(count(state.entries.len()));
    }

    /// Removes entries as they end, for as long as the server runs.
    ///
    /// # Errors
    ///
    /// None: what fails is tried again, and said in the log. Ended entries admit nobody meanwhile.
    pub async fn prune(self, stop: CancellationToken) -> anyhow::Result<()> {
        /// A clock that was set forward is noticed this late at most.
        const LONGEST_SLEEP: Duration = Duration::from_secs(60);
        let mut changed = self.0.changed.subscribe();
        while !stop.is_cancelled() {
            let now = self.0.clock.now();
            let ended = self.read().entries.ended(now, PAGE);
            if ended.is_empty() {
                let next = self.read().entries.first_end();
                let sleep = async {
                    match next {
                        Some(end) => tokio::time::sleep(end.since(now).min(LONGEST_SLEEP)).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = sleep => {}
                    // `self` holds the sender.
                    _ = changed.changed() => {}
                }
            } else if let Err(error) = self.delete(ended, &Requester::Server).await {
                warn!(%error, "cannot remove entries that have ended; trying again in a minute");
                stop.run_until_cancelled(tokio::time::sleep(LONGEST_SLEEP)).await;
            }
        }
        Ok(())
    }

    /// The agent with this identity.
    #[must_use]
    pub fn agent(&self, id: &SpiffeId) -> Option<Arc<Agent>> {
        self.read().agents.get(id).cloned()
    }

    /// Up to `limit` agents that `wanted` selects, in the order of their identities, after `after`.
    #[must_use]
    pub fn agents(
        &self,
        after: Option<&SpiffeId>,
        limit: usize,
        wanted: impl Fn(&Agent) -> bool,
    ) -> Vec<Arc<Agent>> {
        self.read().agents_after(after).filter(|agent| wanted(agent)).take(limit).cloned().collect()
    }

    /// The agent that shows the SVID with this serial number. Its newest SVID replaces the one
    /// before when it is first shown.
    ///
    /// # Errors
    ///
    /// [`AuthenticateError`] if it is not the SVID of an agent that may act, or if that cannot be
    /// written down.
    pub async fn authenticate(
        &self,
        id: &SpiffeId,
        serial: &[u8],
    ) -> Result<Arc<Agent>, AuthenticateError> {
        let (agent, shown) = self.known(id, serial)?;
        match shown {
            Shown::Current => Ok(agent),
            Shown::Next => self.promote(id, serial).await,
        }
    }

    fn known(&self, id: &SpiffeId, serial: &[u8]) -> Result<(Arc<Agent>, Shown), NotAnAgent> {
        let agent = self.agent(id).ok_or(NotAnAgent::Unknown)?;
        if agent.banned {
            return Err(NotAnAgent::Banned);
        }
        let shown = agent.shows(serial).ok_or(NotAnAgent::NotActive)?;
        Ok((agent, shown))
    }

    async fn promote(&self, id: &SpiffeId, serial: &[u8]) -> Result<Arc<Agent>, AuthenticateError> {
        let _writing = self.0.writing.lock().await;
        let (agent, _shown) = self.known(id, serial)?;
        let Some(svid) = agent.next.clone().filter(|next| next.serial == serial) else {
            return Ok(agent); // Another call was faster.
        };
        let agent = Agent { svid, next: None, ..(*agent).clone() };
        Ok(self.put_agent(agent, Vec::new()).await?)
    }

    /// Whether a node may become this agent.
    ///
    /// # Errors
    ///
    /// [`AdmitError`] if it is banned, or if there are too many agents.
    pub fn check_admissible(&self, id: &SpiffeId) -> Result<(), AdmitError> {
        let state = self.read();
        match state.agents.get(id) {
            Some(agent) if agent.banned => Err(AdmitError::Banned),
            None if self.0.limits.agents <= state.agents.len() => {
                Err(AdmitError::Full(self.0.limits.agents))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Admits an agent whose evidence was verified. One that was there before is replaced, and its
    /// stream of changes ends.
    ///
    /// # Errors
    ///
    /// [`AdmitError`] if it may not be admitted, or if that cannot be written down.
    pub async fn admit(&self, agent: Agent) -> Result<Arc<Agent>, AdmitError> {
        let _writing = self.0.writing.lock().await;
        self.check_admissible(&agent.id)?;
        let event = Event::AgentAttested {
            agent: agent.id.clone(),
            kind: agent.kind.clone(),
            selectors: agent.selectors.clone(),
            key: agent.svid.key,
        };
        let head = {
            let mut state = self.write();
            state.subscribers.end(Key::of_id(&agent.id));
            let before = state.agents.get(&agent.id).map(|before| &before.selectors);
            (before != Some(&agent.selectors)).then(|| state.log.head().saturating_add(1))
        };
        let moved = head.map(|head| Write::put(Space::Meta, SEQUENCE, json(&head)));
        let key = Key::of_id(&agent.id);
        let agent = self.commit_agent(agent, vec![event], moved).await?;
        if head.is_some() {
            self.write().log.push(log::Change::Agent(key));
        }
        Ok(agent)
    }

    /// Keeps the SVID that an agent has renewed to.
    ///
    /// # Errors
    ///
    /// [`AuthenticateError`] if it is no agent any more, or if that cannot be written down.
    pub async fn renew(&self, id: &SpiffeId, next: AgentSvid) -> Result<(), AuthenticateError> {
        let _writing = self.0.writing.lock().await;
        let agent = self.agent(id).ok_or(NotAnAgent::Unknown)?;
        if agent.banned {
            return Err(NotAnAgent::Banned.into());
        }
        let agent = Agent { next: Some(next), ..(*agent).clone() };
        self.put_agent(agent, Vec::new()).await?;
        Ok(())
    }

    /// Throws an agent out until it is evicted.
    ///
    /// # Errors
    ///
    /// [`AuthenticateError`] if there is no such agent, or if that cannot be written down.
    pub async fn ban(&self, id: &SpiffeId, requester: Requester) -> Result<(), AuthenticateError> {
        let _writing = self.0.writing.lock().await;
        let agent = self.agent(id).ok_or(NotAnAgent::Unknown)?;
        let event = Event::AgentBanned { agent: id.clone(), requester };
        self.put_agent(Agent { banned: true, ..(*agent).clone() }, vec![event]).await?;
        self.write().subscribers.end(Key::of_id(id));
        Ok(())
    }

    /// Forgets an agent, banned or not; it may attest again.
    ///
    /// # Errors
    ///
    /// [`AuthenticateError`] if there is no such agent, or if that cannot be written down.
    pub async fn evict(
        &self,
        id: &SpiffeId,
        requester: Requester,
    ) -> Result<(), AuthenticateError> {
        let _writing = self.0.writing.lock().await;
        self.agent(id).ok_or(NotAnAgent::Unknown)?;
        let key = id.to_string().into_bytes();
        let commit = Commit {
            require: Vec::new(),
            writes: vec![Write::Delete { space: Space::Agents, key }],
            events: vec![Event::AgentEvicted { agent: id.clone(), requester }],
        };
        self.0.journal.commit(commit).await?;
        let mut state = self.write();
        state.agents.remove(id);
        state.subscribers.end(Key::of_id(id));
        metrics::gauge!(crate::metrics::AGENTS).set(count(state.agents.len()));
        Ok(())
    }

    async fn put_agent(&self, agent: Agent, events: Vec<Event>) -> Result<Arc<Agent>, CommitError> {
        self.commit_agent(agent, events, None).await
    }

    /// The caller holds `writing`.
    async fn commit_agent(
        &self,
        agent: Agent,
        events: Vec<Event>,
        more: Option<Write>,
    ) -> Result<Arc<Agent>, CommitError> {
        let put = Write::put(Space::Agents, agent.id.to_string().into_bytes(), json(&agent));
        let writes = std::iter::once(put).chain(more).collect();
        self.0.journal.commit(Commit { require: Vec::new(), writes, events }).await?;
        let agent = Arc::new(agent);
        let mut state = self.write();
        state.agents.insert(agent.id.clone(), Arc::clone(&agent));
        metrics::gauge!(crate::metrics::AGENTS).set(count(state.agents.len()));
        Ok(agent)
    }

    /// Tells the agent from now on what changes for it. `cursor` is the newest change it knows of
    /// in this log. An earlier subscription of the same agent ends.
    ///
    /// # Errors
    ///
    /// [`NotAnAgent`] if it is none, or banned.
    pub fn subscribe(
        &self,
        agent: &SpiffeId,
        cursor: Option<u64>,
    ) -> Result<Subscription, NotAnAgent> {
        let mut state = self.write();
        let (first, subscriber) = state.subscribe(agent, cursor, self.0.clock.now())?;
        Ok(Subscription::new(self.clone(), agent.clone(), first, subscriber))
    }

    /// Which connected agents have or had these entries, and how far each has come.
    #[must_use]
    pub fn waiting(&self, entries: &[EntryId]) -> Vec<Waiting> {
        self.read().waiting(entries, self.0.clock.now())
    }

    fn now(&self) -> UnixTime {
        self.0.clock.now()
    }

    /// Nobody panics while holding the lock; if somebody does, the state is still whole, because
    /// each change to it is.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The identity of a trust domain's server, which is the parent of node aliases.
#[must_use]
pub fn server_id(trust_domain: &TrustDomain) -> SpiffeId {
    #[expect(clippy::expect_used, reason = "fourteen characters of path are never too many")]
    trust_domain.join("/spire/server").expect("a fixed path")
}

async fn new_log(journal: &Journal) -> Result<[u8; 16], OpenError> {
    let mut id = [0; 16];
    rand::fill(&mut id).map_err(|_unspecified| OpenError::NoRandomness)?;
    let writes = vec![Write::put(Space::Meta, LOG_ID, id.to_vec())];
    journal.commit(Commit { writes, ..Commit::default() }).await?;
    Ok(id)
}

/// Numbers of things in memory are far below 2^52.
#[expect(clippy::cast_precision_loss, reason = "a count in memory, for a graph")]
fn count(number: usize) -> f64 {
    number as f64
}

/// Why the registry cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store cannot be written to.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// What is stored is no entry or agent.
    #[error("the record `{key}` in the store is damaged")]
    Damaged {
        /// Its key.
        key: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// What is stored is no name of a log.
    #[error("the name of the change log in the store is damaged")]
    LogId,
    /// The operating system gives no random bytes.
    #[error("no random bytes to name the change log with")]
    NoRandomness,
}

/// Why a caller is not let through as an agent.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticateError {
    /// It is none.
    #[error(transparent)]
    NotAnAgent(#[from] NotAnAgent),
    /// What follows from it cannot be written down.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Why a node does not become an agent.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// The agent is thrown out.
    #[error("the agent is banned")]
    Banned,
    /// There are as many as the configuration allows.
    #[error("there are {0} agents already; raise `limits.agents` or evict some")]
    Full(usize),
    /// It cannot be written down.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Why an entry that joins another commit was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateWithError<E> {
    /// The entry breaks a rule.
    #[error(transparent)]
    Refused(Box<Refused>),
    /// The commit failed.
    #[error("not committed")]
    Commit(E),
}
