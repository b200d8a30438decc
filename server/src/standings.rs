//! How identities stand: how much each is risked, and which are in quarantine.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use claviger_core::id::SpiffeId;
use claviger_core::standing::Standing;
use tokio::sync::watch;

/// How identities stand. Clones are handles to the same.
#[derive(Clone, Debug, Default)]
pub struct Standings(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    of: RwLock<HashMap<SpiffeId, Standing>>,
    version: watch::Sender<u64>,
}

impl Standings {
    /// How `id` stands.
    #[must_use]
    pub fn of(&self, id: &SpiffeId) -> Standing {
        let of = self.0.of.read().unwrap_or_else(PoisonError::into_inner);
        of.get(id).copied().unwrap_or_default()
    }

    /// The number of the last change, now and later.
    #[must_use]
    pub fn version(&self) -> watch::Receiver<u64> {
        self.0.version.subscribe()
    }
}
