//! How identities stand, as the agent says.

use std::collections::{BTreeSet, HashMap};
use std::sync::{PoisonError, RwLock};

use claviger_core::id::SpiffeId;
use claviger_core::standing::Standing;
use claviger_policy::local::StandingOf;
use claviger_proto::claviger::agent::v1 as wire;
use claviger_proto::convert::{FieldError, standings};

/// The most identities of which something is known: as many as an agent knows of.
const MAX: usize = 100_000;

/// How identities stand.
#[derive(Debug, Default)]
pub(super) struct Standings(RwLock<HashMap<SpiffeId, Standing>>);

/// What the agent says.
#[derive(Debug, Default)]
pub(super) struct Update {
    /// Whether the records are all there is.
    all: bool,
    records: Vec<(SpiffeId, Standing)>,
}

/// Collects the pages of what is applied together.
#[derive(Debug, Default)]
pub(super) struct Pages(Update);

impl StandingOf for Standings {
    fn standing_of(&self, id: &SpiffeId) -> Standing {
        self.0.read().unwrap_or_else(PoisonError::into_inner).standing_of(id)
    }
}

impl Standings {
    /// Takes in what the agent says: of whom it speaks, unless that is of all.
    pub(super) fn apply(&self, update: Update) -> Result<Option<BTreeSet<SpiffeId>>, Malformed> {
        let Update { all, records } = update;
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = if all { 0 } else { known.len() };
        let new = records.iter().filter(|(id, _)| all || !known.contains_key(id)).count();
        if MAX < before.saturating_add(new) {
            return Err(Malformed::TooMany);
        }
        if all {
            *known = records.into_iter().collect();
            return Ok(None);
        }
        let concerned = records.iter().map(|(id, _)| id.clone()).collect();
        known.extend(records);
        Ok(Some(concerned))
    }
}

impl Pages {
    /// Takes in one page; the update, if it is complete.
    pub(super) fn push(&mut self, page: wire::Standings) -> Result<Option<Update>, Malformed> {
        let wire::Standings { snapshot, upserts, version: _, more } = page;
        let Self(update) = self;
        if MAX < update.records.len().saturating_add(upserts.len()) {
            return Err(Malformed::TooMany);
        }
        update.all |= snapshot;
        for upsert in upserts {
            // An agent has read it before: what is not understood here is no agent's.
            update.records.push(standings::record(upsert)?);
        }
        Ok((!more).then(|| std::mem::take(update)))
    }
}

/// What the agent says of identities is not understood.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Malformed {
    /// A record is none.
    #[error("the agent says of somebody how they stand, and it is not understood")]
    Record(#[from] FieldError),
    /// There is no end of them.
    #[error("the agent says how more than {MAX} identities stand")]
    TooMany,
}
