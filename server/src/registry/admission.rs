//! Who is an agent: let in, known again, renewed, thrown out.

use std::sync::Arc;

use claviger_core::audit::Event;
use claviger_core::evidence::{Appraisal, KeyDigest};
use claviger_core::grant::Requester;
use claviger_core::id::SpiffeId;

use super::agents::{Agent, AgentSvid, Appraised, NotAnAgent, Shown};
use super::entries::Key;
use super::log::Change;
use super::{Registry, SEQUENCE, count};
use crate::journal::{Change as Commit, CommitError};
use crate::store::{Space, Write, json};

impl Registry {
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
        let mut known = self.known(id, serial);
        if matches!(known, Err(NotAnAgent::Unknown | NotAnAgent::NotActive)) {
            // Another server may have let it in, or renewed it, a moment ago.
            self.0.journal.catch_up().await;
            known = self.known(id, serial);
        }
        let (agent, shown) = known?;
        match shown {
            Shown::Current => Ok(agent),
            Shown::Next => {
                let (registry, id, serial) = (self.clone(), id.clone(), serial.to_vec());
                self.see_through(async move {
                    registry.until_first(|| registry.promote(&id, &serial)).await
                })
                .await?
            }
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
        let mut writing = self.0.writing.lock().await;
        let (agent, _shown) = self.known(id, serial)?;
        let Some(svid) = agent.next.clone().filter(|next| next.serial == serial) else {
            return Ok(agent); // Another call was faster.
        };
        let agent = Agent { svid, next: None, ..(*agent).clone() };
        Ok(self.put_agent(&mut writing, agent, Vec::new()).await?)
    }

    /// Whether the node that holds `key` may become this agent.
    ///
    /// # Errors
    ///
    /// [`AdmitError`] if it is banned, if another node is this agent and evidence of its kind is
    /// believed once, or if there are too many agents.
    pub fn check_admissible(&self, id: &SpiffeId, key: &KeyDigest) -> Result<(), AdmitError> {
        let state = self.read();
        match state.agents.get(id) {
            Some(agent) if agent.banned => Err(AdmitError::Banned),
            Some(agent) if !agent.reattestable && !agent.holds(key) => Err(AdmitError::Taken),
            None if self.0.limits.agents <= state.agents.len() => {
                Err(AdmitError::Full(self.0.limits.agents))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Admits an agent whose evidence was verified, and judged as `appraisal` says. One that was
    /// there before is replaced, and its stream of changes ends; unless it shows again what it showed
    /// before, which renews it. `seen` is the newest change to how identities stood when it began.
    ///
    /// # Errors
    ///
    /// [`AdmitError`] if it may not be admitted, or if that cannot be written down.
    pub async fn admit(
        &self,
        agent: Agent,
        appraisal: Appraisal,
        seen: u64,
    ) -> Result<Arc<Agent>, AdmitError> {
        let registry = self.clone();
        self.see_through(async move {
            registry.until_first(|| registry.enter(agent.clone(), appraisal.clone(), seen)).await
        })
        .await?
    }

    async fn enter(
        &self,
        agent: Agent,
        appraisal: Appraisal,
        seen: u64,
    ) -> Result<Arc<Agent>, AdmitError> {
        let mut writing = self.0.writing.lock().await;
        self.check_admissible(&agent.id, &agent.svid.key)?;
        let event = Event::AgentAttested {
            agent: agent.id.clone(),
            kind: agent.kind.clone(),
            selectors: agent.selectors.clone(),
            key: agent.svid.key,
            appraisal: Some(appraisal.clone()),
        };
        let appraised = Some(Appraised { at: self.0.clock.now(), appraisal, seen });
        let agent = Agent { appraised, ..agent };
        let before = self.agent(&agent.id);
        // It has shown again what it is. As when it renews, its SVID is replaced when the new one is
        // used, so an answer lost on the way does no harm.
        if let Some(before) = before.as_ref().filter(|before| before.is_again(&agent)) {
            let (svid, next) = (before.svid.clone(), Some(agent.svid.clone()));
            let agent = Agent { svid, next, ..agent };
            return Ok(self.put_agent(&mut writing, agent, vec![event]).await?);
        }
        // Other facts make other node aliases its own, which is a change in the log.
        let moved = before.is_none_or(|before| before.selectors != agent.selectors);
        let sequence = self.read().log.head().saturating_add(u64::from(moved));
        let sequence = Write::put(Space::Meta, SEQUENCE, json(&sequence));
        let agent = self.commit_agent(&mut writing, agent, vec![event], Some(sequence)).await?;
        let (key, mut state) = (Key::of_id(&agent.id), self.write());
        state.subscribers.end(key);
        if moved {
            state.log.push(Change::Agent(key));
        }
        drop(state);
        Ok(agent)
    }

    /// Keeps the SVID that an agent has renewed to.
    ///
    /// # Errors
    ///
    /// [`AuthenticateError`] if it is no agent any more, or if that cannot be written down.
    pub async fn renew(&self, id: &SpiffeId, next: AgentSvid) -> Result<(), AuthenticateError> {
        let (registry, id) = (self.clone(), id.clone());
        self.see_through(async move {
            registry.until_first(|| registry.keep_next(&id, next.clone())).await
        })
        .await?
    }

    async fn keep_next(&self, id: &SpiffeId, next: AgentSvid) -> Result<(), AuthenticateError> {
        let mut writing = self.0.writing.lock().await;
        let agent = self.agent(id).ok_or(NotAnAgent::Unknown)?;
        if agent.banned {
            return Err(NotAnAgent::Banned.into());
        }
        let agent = Agent { next: Some(next), ..(*agent).clone() };
        self.put_agent(&mut writing, agent, Vec::new()).await?;
        Ok(())
    }

    /// Throws an agent out until it is evicted.
    ///
    /// # Errors
    ///
    /// [`AuthenticateError`] if there is no such agent, or if that cannot be written down.
    pub async fn ban(&self, id: &SpiffeId, requester: Requester) -> Result<(), AuthenticateError> {
        let (registry, id) = (self.clone(), id.clone());
        self.see_through(async move {
            registry.until_first(|| registry.throw_out(&id, requester.clone())).await
        })
        .await?
    }

    async fn throw_out(
        &self,
        id: &SpiffeId,
        requester: Requester,
    ) -> Result<(), AuthenticateError> {
        let mut writing = self.0.writing.lock().await;
        let agent = self.agent(id).ok_or(NotAnAgent::Unknown)?;
        let event = Event::AgentBanned { agent: id.clone(), requester };
        let agent = Agent { banned: true, ..(*agent).clone() };
        self.put_agent(&mut writing, agent, vec![event]).await?;
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
        let (registry, id) = (self.clone(), id.clone());
        self.see_through(async move {
            registry.until_first(|| registry.forget(&id, requester.clone())).await
        })
        .await?
    }

    async fn forget(&self, id: &SpiffeId, requester: Requester) -> Result<(), AuthenticateError> {
        let mut writing = self.0.writing.lock().await;
        self.agent(id).ok_or(NotAnAgent::Unknown)?;
        let key = id.to_string().into_bytes();
        let commit = Commit {
            require: Vec::new(),
            writes: vec![Write::Delete { space: Space::Agents, key }],
            events: vec![Event::AgentEvicted { agent: id.clone(), requester }],
        };
        self.commit(&mut writing, commit).await?;
        let mut state = self.write();
        state.agents.remove(id);
        state.subscribers.end(Key::of_id(id));
        metrics::gauge!(crate::metrics::AGENTS).set(count(state.agents.len()));
        Ok(())
    }

    async fn put_agent(
        &self,
        revision: &mut u64,
        agent: Agent,
        events: Vec<Event>,
    ) -> Result<Arc<Agent>, CommitError> {
        self.commit_agent(revision, agent, events, None).await
    }

    /// The caller holds `writing`, which has the `revision`.
    async fn commit_agent(
        &self,
        revision: &mut u64,
        agent: Agent,
        events: Vec<Event>,
        more: Option<Write>,
    ) -> Result<Arc<Agent>, CommitError> {
        let put = Write::put(Space::Agents, agent.id.to_string().into_bytes(), json(&agent));
        let writes = std::iter::once(put).chain(more).collect();
        self.commit(revision, Commit { require: Vec::new(), writes, events }).await?;
        let agent = Arc::new(agent);
        let mut state = self.write();
        state.agents.insert(agent.id.clone(), Arc::clone(&agent));
        metrics::gauge!(crate::metrics::AGENTS).set(count(state.agents.len()));
        Ok(agent)
    }
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
    /// Another node is the agent already, by evidence of a kind that is believed once.
    #[error(
        "another key earned this identity before, and its kind of evidence is believed once; if the \
         node has lost its key, evict the agent"
    )]
    Taken,
    /// There are as many as the configuration allows.
    #[error("there are {0} agents already; raise `limits.agents` or evict some")]
    Full(usize),
    /// It cannot be written down.
    #[error(transparent)]
    Commit(#[from] CommitError),
}
