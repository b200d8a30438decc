//! What other servers change, and how nobody changes what another has changed unseen.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use claviger_core::bundle::Bundle;
use claviger_core::entry::{Entry, EntryId};
use claviger_core::id::{SpiffeId, TrustDomain};
use claviger_proto::spire::types;
use prost::Message as _;

use super::agents::Agent;
use super::draft::Planned;
use super::entries::Key;
use super::log::Change;
use super::{AdmitError, AuthenticateError, REVISION, Registry, SEQUENCE, count, federation};
use crate::journal::{Change as Commit, CommitError, Require};
use crate::store::{Space, StoreError, Write, json, parse};

/// `change`, which happens if `revision` is still the newest, and makes the next one.
pub(super) fn based_on(revision: u64, mut change: Commit) -> Commit {
    change.require.push(Require::value(Space::Meta, REVISION, json(&revision)));
    let next = revision.saturating_add(1);
    change.writes.push(Write::put(Space::Meta, REVISION, json(&next)));
    change
}

/// Whether something failed because another server was faster.
pub(super) trait Overtaken {
    fn is_overtaken(&self) -> bool;
}

impl Overtaken for CommitError {
    fn is_overtaken(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }
}

impl Overtaken for AuthenticateError {
    fn is_overtaken(&self) -> bool {
        matches!(self, Self::Commit(error) if error.is_overtaken())
    }
}

impl Overtaken for AdmitError {
    fn is_overtaken(&self) -> bool {
        matches!(self, Self::Commit(error) if error.is_overtaken())
    }
}

/// What one group of another server's says.
#[derive(Debug, Default)]
struct News {
    revision: Option<u64>,
    sequence: Option<u64>,
    entries: BTreeMap<EntryId, Option<Entry>>,
    agents: Vec<(SpiffeId, Option<Agent>)>,
    bundles: Vec<(TrustDomain, Option<types::Bundle>)>,
}

impl News {
    fn read(group: &[Write]) -> Result<Self, StoreError> {
        let mut news = Self::default();
        for write in group {
            let (space, key, value) = match write {
                Write::Put { space, key, value } => (*space, key.as_slice(), Some(value)),
                Write::Delete { space, key } => (*space, key.as_slice(), None),
                Write::DeleteBelow { .. } => continue,
            };
            match (space, value) {
                (Space::Meta, Some(value)) if key == REVISION => {
                    news.revision = Some(parse(value)?);
                }
                (Space::Meta, Some(value)) if key == SEQUENCE => {
                    news.sequence = Some(parse(value)?);
                }
                (Space::Entries, value) => {
                    news.entries.insert(name(key)?, value.map(|v| parse(v)).transpose()?);
                }
                (Space::Agents, value) => {
                    news.agents.push((name(key)?, value.map(|v| parse(v)).transpose()?));
                }
                (Space::Authorities, value) => {
                    if let Some(domain) = federation::domain_of(key) {
                        let bundle = value.map(|value| read_bundle(value)).transpose()?;
                        news.bundles.push((domain, bundle));
                    }
                }
                _ => {}
            }
        }
        Ok(news)
    }
}

fn name<T: std::str::FromStr>(key: &[u8]) -> Result<T, StoreError> {
    let name = std::str::from_utf8(key).ok().and_then(|name| name.parse().ok());
    name.ok_or_else(|| StoreError::failed("read what others wrote", "a key is no name"))
}

fn read_bundle(value: &[u8]) -> Result<types::Bundle, StoreError> {
    let failed = |error| StoreError::failed("read a bundle that others wrote", error);
    let bundle = types::Bundle::decode(value).map_err(|error| failed(error.to_string()))?;
    let bundle = Bundle::try_from(bundle).map_err(|error| failed(error.to_string()))?;
    Ok(types::Bundle::from(&bundle))
}

/// How often something is tried while other servers are faster.
const ROUNDS: usize = 16;

impl Registry {
    /// Commits `change`, unless another server has changed something since `revision`.
    pub(super) async fn commit(
        &self,
        revision: &mut u64,
        change: Commit,
    ) -> Result<(), CommitError> {
        self.0.journal.commit(based_on(*revision, change)).await?;
        *revision = revision.saturating_add(1);
        Ok(())
    }

    /// Does `work` again, on top of what other servers changed, until none of them is faster; [`ROUNDS`]
    /// times at most.
    pub(super) async fn until_first<T, E: Overtaken, F>(&self, work: impl Fn() -> F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        for _round in 1..ROUNDS {
            match work().await {
                Err(error) if error.is_overtaken() => self.0.journal.catch_up().await,
                done => return done,
            }
        }
        work().await
    }

    /// Takes in what another server has changed, if `group` says so.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if what it says can't be read.
    pub(crate) async fn take_in(&self, group: &[Write]) -> Result<(), StoreError> {
        let news = News::read(group)?;
        let Some(revision) = news.revision else { return Ok(()) };
        let mut writing = self.0.writing.lock().await;
        if revision <= *writing {
            return Ok(()); // It was there when the store was opened.
        }
        *writing = revision;
        let planned = Planned::of_another(news.entries, news.sequence.unwrap_or_default());
        if !planned.is_empty() {
            self.apply(planned);
        }
        for (id, agent) in news.agents {
            self.put_in_place(id, agent);
        }
        if let Some(sequence) = news.sequence {
            self.write().log.go_on_after(sequence);
        }
        if !news.bundles.is_empty() {
            let mut federated = (**self.0.federated.borrow()).clone();
            for (domain, bundle) in news.bundles {
                federated.replace(domain, bundle);
            }
            self.publish(federated);
        }
        Ok(())
    }

    /// Another server has admitted or changed an agent, or forgotten it.
    fn put_in_place(&self, id: SpiffeId, agent: Option<Agent>) {
        let (key, mut state) = (Key::of_id(&id), self.write());
        match agent {
            Some(agent) => {
                let before = state.agents.get(&id);
                let moved = before.is_none_or(|before| before.selectors != agent.selectors);
                if moved {
                    state.log.push(Change::Agent(key));
                }
                if moved || agent.banned {
                    state.subscribers.end(key);
                }
                state.agents.insert(id, Arc::new(agent));
            }
            None => {
                state.agents.remove(&id);
                state.subscribers.end(key);
            }
        }
        metrics::gauge!(crate::metrics::AGENTS).set(count(state.agents.len()));
    }
}
