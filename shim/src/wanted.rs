//! What an inbound route asks of whoever has proven who they are, before the policies are asked.

use std::collections::BTreeSet;

use claviger_core::id::SpiffeId;
use claviger_core::psk::Purpose;

use crate::route::Inbound;

/// Whom a way in is for, and for what.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// What a key has to be for, unless it does not matter.
    pub purpose: Option<&'a Purpose>,
    /// Who may come, if not everybody whom the policies permit.
    pub peers: Option<&'a BTreeSet<SpiffeId>>,
}

impl<'a> From<&'a Inbound> for Wanted<'a> {
    fn from(inbound: &'a Inbound) -> Self {
        Self { purpose: Some(&inbound.purpose), peers: inbound.peers.as_ref() }
    }
}

impl Wanted<'_> {
    /// Whether `client` may come in with a key for `purpose`.
    pub(crate) fn admits(self, client: &SpiffeId, purpose: &Purpose) -> Result<(), Unwanted> {
        if let Some(wanted) = self.purpose.filter(|wanted| *wanted != purpose) {
            return Err(Unwanted::Purpose { key: purpose.clone(), wanted: wanted.clone() });
        }
        self.admits_peer(client)
    }

    /// Whether `client` may come in, if it is said elsewhere what for.
    pub(crate) fn admits_peer(self, client: &SpiffeId) -> Result<(), Unwanted> {
        match self.peers {
            Some(peers) if !peers.contains(client) => Err(Unwanted::Peer(client.clone())),
            Some(_) | None => Ok(()),
        }
    }
}

/// Whoever calls is who they say, and not meant to come in here.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unwanted {
    /// The key is for something else.
    #[error("the key is for `{key}`, and this way in is for `{wanted}`")]
    Purpose {
        /// What the key is for.
        key: Purpose,
        /// What the route is for.
        wanted: Purpose,
    },
    /// The route's list of peers does not have them.
    #[error("`{0}` is not among the peers of this way in")]
    Peer(SpiffeId),
}
