//! Whether an agent's word about a workload counts: it does if the agent knows how the workload stands.
//!
//! An agent says that it has taken in a change once it has thrown away what it knew of the identity and
//! attested its processes anew. Until then it gets nothing for that identity.

use claviger_core::id::SpiffeId;
use metrics::counter;
use tonic::Status;

use super::Shared;
use crate::metrics as names;

/// The agent may speak of what was before. It makes sense to ask again.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "fresh evidence of `{0}` is needed: the agent has not taken in yet how it stands; try again"
)]
pub(crate) struct Stale(SpiffeId);

impl Shared {
    /// Makes sure that `agent` has taken in how `id` stands.
    ///
    /// # Errors
    ///
    /// [`Stale`] if it has not, or is not connected.
    pub(crate) fn check_fresh(&self, agent: &SpiffeId, id: &SpiffeId) -> Result<(), Stale> {
        let version = self.storage.standings.of(id).version;
        if version == 0 || version <= self.registry.taken_in(agent) {
            return Ok(());
        }
        counter!(names::STALE).increment(1);
        Err(Stale(id.clone()))
    }
}

/// Whoever is refused for that may ask again.
impl From<Stale> for Status {
    fn from(stale: Stale) -> Self {
        Self::unavailable(stale.to_string())
    }
}
