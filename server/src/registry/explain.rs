//! Which entries a workload matches or nearly matches, and what keeps them from an agent.

use claviger_core::entry::Entry;
use claviger_core::id::SpiffeId;
use claviger_core::reason::{Missing, Reason};
use claviger_core::selector::Selectors;
use claviger_core::time::UnixTime;

use super::Registry;
use super::agents::{Agent, NotAnAgent};
use super::entries::Key;
use super::state::State;

/// How the entries stand to a workload.
#[derive(Debug)]
pub struct Explanation {
    /// The nearest first.
    pub entries: Vec<Explained>,
    /// How many entries are not mentioned.
    pub others: usize,
}

/// How one entry stands to it.
#[derive(Debug)]
pub struct Explained {
    /// The entry.
    pub entry: Entry,
    /// What is in the way, if anything is.
    pub reason: Option<Reason>,
    /// What it asks for and the workload does not have.
    pub missing: Vec<Missing>,
    /// What the nearest node alias above it asks for and the agent's node does not have.
    pub missing_on_node: Vec<Missing>,
}

impl Registry {
    /// How the entries for workloads stand to one with `facts`, on the node of `agent` if that is
    /// said; at most `most` of them.
    ///
    /// # Errors
    ///
    /// [`NotAnAgent`] if the agent is unknown or banned.
    pub fn explain(
        &self,
        facts: &Selectors,
        agent: Option<&SpiffeId>,
        most: usize,
    ) -> Result<Explanation, NotAnAgent> {
        let (state, now) = (self.read(), self.0.clock.now());
        let agent = agent.map(|id| state.active(id)).transpose()?;
        let all = state.entries.following(None).map(|packed| packed.to_entry());
        // Node aliases are for nodes, and no workload has them.
        let for_workloads = all.filter(|entry| Key::of_id(&entry.parent_id) != state.server);
        let mut entries: Vec<_> =
            for_workloads.map(|entry| (entry.selectors.difference(facts).count(), entry)).collect();
        // They come in the order of their ids, and stay in it where nothing else decides.
        entries.sort_by_key(|(missing, _)| *missing);
        let others = entries.len().saturating_sub(most);
        entries.truncate(most);
        let one = |(_, entry)| explained(&state, entry, facts, agent, now);
        Ok(Explanation { entries: entries.into_iter().map(one).collect(), others })
    }
}

fn explained(
    state: &State,
    entry: Entry,
    facts: &Selectors,
    agent: Option<&Agent>,
    now: UnixTime,
) -> Explained {
    let missing = Missing::of(&entry.selectors, facts);
    let (unreached, missing_on_node) =
        agent.map(|agent| unreached(state, &entry, agent, now)).unwrap_or_default();
    let reason = if entry.expired(now) {
        Some(Reason::EntryExpired)
    } else if unreached.is_some() {
        unreached
    } else if !missing.is_empty() {
        Some(Reason::SelectorsMissing)
    } else if entry.store_svid {
        Some(Reason::ForSecretStore)
    } else {
        None
    };
    Explained { entry, reason, missing, missing_on_node }
}

/// Why the agent does not have the entry, if it does not; and what its node lacks of the node alias
/// that comes nearest.
fn unreached(
    state: &State,
    entry: &Entry,
    agent: &Agent,
    now: UnixTime,
) -> (Option<Reason>, Vec<Missing>) {
    let above = state.above(Key::of_id(&entry.parent_id), now);
    if above.includes(Key::of_id(&agent.id), &agent.selectors) {
        return (None, Vec::new());
    }
    let lacks = |alias: &&Selectors| alias.difference(&agent.selectors).count();
    match above.aliases().iter().min_by_key(lacks) {
        Some(alias) => (Some(Reason::NodeSelectorsMissing), Missing::of(alias, &agent.selectors)),
        None => (Some(Reason::OtherParent), Vec::new()),
    }
}
