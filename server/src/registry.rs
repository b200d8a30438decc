//! Who is registered: entries and agents, in memory and authoritative.
//!
//! Reads never touch the store. Writes go one at a time: check the rules, write to the journal, and
//! only then change what is in memory and tell the agents concerned. A write that fails leaves
//! everything as it was. One that has begun is seen through even if whoever asked for it has gone:
//! otherwise the store could know what memory does not.
//!
//! | to find | look in |
//! |---|---|
//! | entries in memory, and what they are looked up by | `entries` |
//! | which entries an agent may serve | `authorized` |
//! | the rules for new and changed entries | [`draft`] |
//! | what a workload matches or nearly matches, and on which agent | [`explain`] |
//! | the ordered log of changes | `log` |
//! | telling connected agents | [`subscribers`] |
//! | what is known about agents | [`agents`] |
//! | what other servers change | `abroad` |
//! | letting agents in, knowing them again, throwing them out | `admission` |
//! | what listings select | [`filter`] |
//! | bundles of other trust domains | [`federation`] |

mod abroad;
mod admission;
pub mod agents;
mod authorized;
pub mod draft;
mod entries;
pub mod explain;
pub mod federation;
pub mod filter;
#[cfg(test)]
pub(crate) mod fixture;
mod log;
mod state;
pub mod subscribers;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use aws_lc_rs::rand;
use claviger_core::entry::{Entry, EntryId};
use claviger_core::grant::Requester;
use claviger_core::id::{SpiffeId, TrustDomain};
use claviger_core::selector::Selectors;
use claviger_core::time::{Clock, UnixTime};
use claviger_proto::spire::types;
use claviger_runtime::tasks::Tasks;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Limits;
use crate::journal::{Change as Commit, CommitError, Journal};
use crate::store::{Space, StoreError, json, parse};
pub use admission::{AdmitError, AuthenticateError};
use agents::{Agent, NotAnAgent};
use draft::{Draft, Planned, Refused};
use entries::Key;
pub use entries::Packed;
use federation::Federated;
use state::State;
use subscribers::{Subscription, Waiting};

/// Keys of [`Space::Meta`].
const LOG_ID: &[u8] = b"change_log_id";
const SEQUENCE: &[u8] = b"change_sequence";
/// Rises with every change to an entry, an agent or a bundle, so that no server changes what another has
/// changed before it knows of that.
const REVISION: &[u8] = b"registry_revision";

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
    tasks: Tasks,
    log_id: [u8; 16],
    /// Held from the check to the change; the number of the newest change to anything.
    writing: Mutex<u64>,
    state: RwLock<State>,
    /// Told after every change to entries.
    changed: watch::Sender<u64>,
    federated: watch::Sender<Arc<Federated>>,
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
        tasks: &Tasks,
    ) -> Result<Self, OpenError> {
        let store = journal.store();
        let log_id = journal.settle(LOG_ID, new_id()?.to_vec()).await?;
        let log_id = log_id.try_into().map_err(|_other_length| OpenError::LogId)?;
        // Before what it counts: what changes meanwhile comes as news.
        let revision = parse(&journal.settle(REVISION, json(&0_u64)).await?)?;
        let head = match store.get(Space::Meta, SEQUENCE).await? {
            Some(stored) => parse(&stored)?,
            None => 0,
        };
        let server = Key::of_id(&server_id(&trust_domain));
        let state = state::load(&**store, server, head).await?;
        let federated = federation::load(&**store).await?;
        info!(
            entries = state.entries.len(),
            agents = state.agents.len(),
            bundles = federated.len(),
            "registry loaded"
        );
        Ok(Self(Arc::new(Inner {
            trust_domain,
            limits,
            clock,
            tasks: tasks.clone(),
            log_id,
            writing: Mutex::new(revision),
            state: RwLock::new(state),
            changed: watch::Sender::new(head),
            federated: watch::Sender::new(Arc::new(federated)),
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

    /// The entries under the server itself that these selectors earn now: all that each asks for is
    /// among them.
    #[must_use]
    pub fn earned(&self, selectors: &Selectors) -> Vec<Entry> {
        self.read().earned(selectors, self.0.clock.now())
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

    /// What all entries that give the identity now ask for; nothing if none does.
    #[must_use]
    pub fn selectors_of(&self, identity: &SpiffeId) -> Selectors {
        let (state, now) = (self.read(), self.0.clock.now());
        let alive = state
            .entries
            .giving(Key::of_id(identity))
            .filter(|giver| state.entries.is_alive(*giver, now))
            .filter_map(|giver| state.entries.packed(giver).map(Packed::to_entry));
        let common = alive.map(|entry| entry.selectors).reduce(|all, these| &all & &these);
        common.unwrap_or_default()
    }

    /// Whether an entry lets the identity administrate now.
    #[must_use]
    pub fn is_administrator(&self, identity: &SpiffeId) -> bool {
        self.giver(identity, |entry| entry.admin).is_some()
    }

    /// The entry, if there is one now, by which the identity is that of a downstream server.
    #[must_use]
    pub fn downstream(&self, identity: &SpiffeId) -> Option<Entry> {
        self.giver(identity, |entry| entry.downstream)
    }

    /// An entry that gives the identity now, and that `wanted` selects.
    fn giver(&self, identity: &SpiffeId, wanted: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let (state, now) = (self.read(), self.0.clock.now());
        let mut alive = state
            .entries
            .giving(Key::of_id(identity))
            .filter(|giver| state.entries.is_alive(*giver, now))
            .filter_map(|giver| state.entries.packed(giver).map(Packed::to_entry));
        alive.find(wanted)
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
        self.change(requester, move |draft| {
            entries.iter().map(|entry| draft.create(entry.clone())).collect()
        })
        .await
    }

    /// Creates one entry by a commit of the caller's, which it joins.
    ///
    /// # Errors
    ///
    /// [`CreateWithError`] if the entry is refused, or the commit fails.
    pub async fn create_with<T, E, F>(
        &self,
        entry: Entry,
        requester: &Requester,
        commit: impl FnOnce(Commit) -> F + Send + 'static,
    ) -> Result<T, CreateWithError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: Future<Output = Result<T, E>> + Send,
    {
        let (registry, requester) = (self.clone(), requester.clone());
        self.see_through(async move {
            let mut writing = registry.0.writing.lock().await;
            let planned = {
                let state = registry.read();
                let mut draft = registry.draft(&state, &requester);
                let created = draft.create(entry);
                created.map_err(|refused| CreateWithError::Refused(Box::new(refused)))?;
                draft.finish(state.log.head())
            };
            // The caller's own record says who gets which identity. This entry's parent may hold a
            // secret that is not spent yet, and an event of its own would write it down.
            let change = Commit { events: Vec::new(), ..planned.to_commit() };
            let done = commit(abroad::based_on(*writing, change)).await;
            let done = done.map_err(CreateWithError::Commit)?;
            *writing = writing.saturating_add(1);
            registry.apply(planned);
            Ok(done)
        })
        .await
        .map_err(CreateWithError::Stopped)?
    }

    /// Changes those fields of entries that `mask` selects, or all of them without a mask.
    ///
    /// # Errors
    ///
    /// [`CommitError`] if nothing was written.
    pub async fn update(
        &self,
        wire: Vec<types::Entry>,
        mask: Option<types::EntryMask>,
        requester: &Requester,
    ) -> Result<Vec<Result<Packed, Refused>>, CommitError> {
        self.change(requester, move |draft| {
            wire.iter().map(|entry| draft.update(entry.clone(), mask.as_ref())).collect()
        })
        .await
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
        self.change(requester, move |draft| ids.iter().map(|id| draft.delete(id)).collect()).await
    }

    async fn change<T: Send + 'static>(
        &self,
        requester: &Requester,
        edit: impl Fn(&mut Draft<'_>) -> T + Send + Sync + 'static,
    ) -> Result<T, CommitError> {
        let (registry, requester) = (self.clone(), requester.clone());
        self.see_through(async move {
            registry.until_first(|| registry.try_change(&requester, &edit)).await
        })
        .await?
    }

    async fn try_change<T>(
        &self,
        requester: &Requester,
        edit: impl Fn(&mut Draft<'_>) -> T,
    ) -> Result<T, CommitError> {
        let mut writing = self.0.writing.lock().await;
        let (outcome, planned) = {
            let state = self.read();
            let mut draft = self.draft(&state, requester);
            (edit(&mut draft), draft.finish(state.log.head()))
        };
        if !planned.is_empty() {
            self.commit(&mut writing, planned.to_commit()).await?;
            self.apply(planned);
        }
        Ok(outcome)
    }

    /// Does `work` to its end, even if whoever waits for it no longer does.
    async fn see_through<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, CommitError> {
        self.0.tasks.see_through("registry", work).await.ok_or(CommitError::Stopped)
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

    /// Whether `agent` is connected for changes, and so has shown the checkpoint it remembers.
    #[must_use]
    pub fn is_subscribed(&self, agent: &SpiffeId) -> bool {
        self.read().subscribers.is_connected(Key::of_id(agent))
    }

    /// Whether there are agents that may connect for changes, and none of them is: nobody has shown a
    /// checkpoint.
    #[must_use]
    pub fn awaits_witnesses(&self) -> bool {
        let (state, now) = (self.read(), self.now());
        let may_come = |agent: &Arc<Agent>| !agent.banned && now <= agent.svid.not_after;
        state.subscribers.is_empty() && state.agents.values().any(may_come)
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

fn new_id() -> Result<[u8; 16], OpenError> {
    let mut id = [0; 16];
    rand::fill(&mut id).map_err(|_unspecified| OpenError::NoRandomness)?;
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
    /// What is stored is no bundle.
    #[error("the record `{0}` in the store is damaged: it is no bundle")]
    Bundle(String),
    /// What is stored is no name of a log.
    #[error("the name of the change log in the store is damaged")]
    LogId,
    /// The operating system gives no random bytes.
    #[error("no random bytes to name the change log with")]
    NoRandomness,
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
    /// The server is stopping.
    #[error(transparent)]
    Stopped(CommitError),
}
