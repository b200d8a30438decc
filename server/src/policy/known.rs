//! What is known of identities and agents when a policy is asked.

use std::fmt;

use claviger_core::decision::EvidenceShown;
use claviger_core::id::SpiffeId;
use claviger_core::selector::Selectors;
use claviger_core::time::UnixTime;

use crate::registry::Registry;

/// Who knows it.
pub trait Known: fmt::Debug + Send + Sync {
    /// What was attested of whoever has the identity: what the entries that give it all ask for.
    fn selectors(&self, id: &SpiffeId) -> Selectors;

    /// Whether anybody has the identity.
    fn is_registered(&self, id: &SpiffeId) -> bool;

    /// What the agent was admitted by, at `now`.
    fn evidence(&self, agent: &SpiffeId, now: UnixTime) -> Option<EvidenceShown>;
}

impl Known for Registry {
    fn selectors(&self, id: &SpiffeId) -> Selectors {
        self.selectors_of(id)
    }

    fn is_registered(&self, id: &SpiffeId) -> bool {
        self.is_registered(id)
    }

    fn evidence(&self, agent: &SpiffeId, now: UnixTime) -> Option<EvidenceShown> {
        let appraised = self.agent(agent)?.appraised.clone()?;
        Some(EvidenceShown {
            kind: appraised.appraisal.kind.clone(),
            bond: appraised.appraisal.bond,
            tier: appraised.appraisal.tier(),
            age_seconds: now.since(appraised.at).as_secs(),
        })
    }
}

/// Knows nothing of anybody.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Nobody;

#[cfg(test)]
impl Known for Nobody {
    fn selectors(&self, _id: &SpiffeId) -> Selectors {
        Selectors::new()
    }

    fn is_registered(&self, _id: &SpiffeId) -> bool {
        false
    }

    fn evidence(&self, _agent: &SpiffeId, _now: UnixTime) -> Option<EvidenceShown> {
        None
    }
}
