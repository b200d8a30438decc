//! The policies that this agent decides by: those that the server signed.
//!
//! | to find | look in |
//! |---|---|
//! | the one task that takes them in, and lets go of them | `keeper` |
//! | asking the server for them | `fetch` |
//! | what outlives a restart | `kept` |
//!
//! What is announced is believed only if a key of the trust bundle signed it; what comes is compiled
//! only if it is what was announced. Whatever goes wrong, the policies in force stay until they
//! expire, and then nothing is permitted.

mod fetch;
mod keeper;
mod kept;

use std::sync::Arc;

use bytes::Bytes;
use claviger_core::bundle::TokenAuthority;
use claviger_core::id::SpiffeId;
use claviger_core::standing::Standing;
use claviger_policy::Local;
use claviger_policy::local::{Signed, StandingOf};
use tokio::sync::watch;

use crate::standings::Standings;

pub(crate) use keeper::{Keeper, Places};
pub use kept::LoadPoliciesError;

impl StandingOf for Standings {
    fn standing_of(&self, id: &SpiffeId) -> Standing {
        self.of(id)
    }
}

/// What is decided by. Clones are handles to the same.
#[derive(Clone, Debug)]
pub(crate) struct Policies {
    /// Decides.
    pub(crate) local: Local,
    /// What it decides by, for others who decide by themselves; none once that has expired.
    pub(crate) in_force: watch::Receiver<Option<Arc<InForce>>>,
}

/// Policies, as the server signed them.
#[derive(Debug)]
pub(crate) struct InForce {
    /// Ready to decide by.
    pub(crate) signed: Arc<Signed>,
    /// What the server signed, and with which key.
    pub(crate) token: String,
    key: TokenAuthority,
    /// The policies' bytes.
    pub(crate) bytes: Bytes,
}

/// Policies that may come into force.
#[derive(Debug)]
struct Candidate {
    signed: Signed,
    token: String,
    key: TokenAuthority,
    bytes: Bytes,
}

/// What the server has said.
#[derive(Clone, Debug, Default)]
struct Heard {
    /// The newest announcement.
    token: Option<String>,
    /// The keys that sign such.
    keys: Option<Arc<[TokenAuthority]>>,
}

/// Where what the server says is put.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inbox(watch::Sender<Heard>);

impl Inbox {
    /// The server announces policies.
    pub(crate) fn announce(&self, token: String) {
        self.0.send_modify(|heard| heard.token = Some(token));
    }

    /// These are the keys that sign announcements from now on.
    pub(crate) fn believe(&self, keys: &[TokenAuthority]) {
        self.0.send_modify(|heard| heard.keys = Some(keys.into()));
    }
}

#[cfg(test)]
mod tests;
