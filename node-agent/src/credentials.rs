//! Entries, their SVIDs, and when each is renewed.
//!
//! | to find | look in |
//! |---|---|
//! | the one task that owns them | `keeper` |
//! | what it owns, and its rules; no I/O | `book` |
//! | one SVID: whether it is there, and when to ask for the next; no I/O | `kept` |
//! | whether anybody wants what is made on demand only | `interest` |
//! | asking the server for SVIDs | `issue` |
//! | what everyone else reads | `snapshot`, `offer` |
//! | bundles in the forms in which they are given out | `served` |
//! | which SVIDs the server has revoked | `revoked` |
//! | what an agent without a server serves after a restart | [`cache`] |

mod book;
pub(crate) mod cache;
mod interest;
mod issue;
mod keeper;
mod kept;
mod offer;
mod revoked;
mod served;
mod snapshot;

use bytes::Bytes;
use claviger_core::bundle::Bundle;
use claviger_core::entry::{Entry, EntryId};
use claviger_core::id::TrustDomain;
use claviger_core::svid::Validity;
use zeroize::Zeroizing;

pub(crate) use book::{Book, LeftOut};
pub(crate) use keeper::{Keeper, Outputs};
pub(crate) use offer::Offer;
pub(crate) use served::ServedBundle;
pub(crate) use snapshot::{Identity, Snapshot};

/// A place in the server's log of changes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Cursor {
    /// Which log.
    pub(crate) log_id: Vec<u8>,
    /// Where in it.
    pub(crate) sequence: u64,
}

/// How far has been taken in what the server says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Applied {
    /// Of entries; unset before there were any.
    pub(crate) cursor: Option<Cursor>,
    /// Of how identities stand: the number of the newest change.
    pub(crate) standings: u64,
}

/// What the server says has changed.
#[derive(Debug)]
pub(crate) struct Update {
    /// The place after it; the same as before if unset, and then no entry has changed.
    pub(crate) cursor: Option<Cursor>,
    /// Whether the upserts are all there is.
    pub(crate) snapshot: bool,
    /// Entries that are new or other than they were.
    pub(crate) upserts: Vec<Entry>,
    /// Entries that are no more.
    pub(crate) deletes: Vec<EntryId>,
    /// The trust domain's authorities, if they changed.
    pub(crate) bundle: Option<Bundle>,
    /// What changed about other trust domains' authorities, if anything.
    pub(crate) federated: Option<FederatedUpdate>,
    /// The lists of what is revoked, DER, if they changed.
    pub(crate) revoked: Option<Vec<Bytes>>,
    /// X.509-SVIDs that are known from before; the server itself sends none.
    pub(crate) svids: Vec<(EntryId, WorkloadSvid)>,
    /// The same of WIT-SVIDs.
    pub(crate) wits: Vec<(EntryId, WorkloadWit)>,
}

impl Update {
    /// Whether it is only there for what came along with it.
    pub(crate) fn says_nothing(&self) -> bool {
        self.cursor.is_none()
            && self.bundle.is_none()
            && self.federated.is_none()
            && self.revoked.is_none()
    }
}

/// What the server says has changed about other trust domains' bundles.
#[derive(Debug, Default)]
pub(crate) struct FederatedUpdate {
    /// Whether the upserts are all there is.
    pub(crate) snapshot: bool,
    /// Bundles that are new or other than they were.
    pub(crate) upserts: Vec<Bundle>,
    /// Trust domains that nothing is known of any more.
    pub(crate) deletes: Vec<TrustDomain>,
}

/// An X.509-SVID with its key, as the Workload API has them.
pub(crate) struct WorkloadSvid {
    /// The certificates, leaf first, one after the other.
    pub(crate) chain: Bytes,
    /// The private key, PKCS#8; wiped with the last reference.
    pub(crate) key: Bytes,
    /// When it is valid.
    pub(crate) validity: Validity,
}

impl std::fmt::Debug for WorkloadSvid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkloadSvid").field("validity", &self.validity).finish_non_exhaustive()
    }
}

impl kept::Lasting for WorkloadSvid {
    fn validity(&self) -> Validity {
        self.validity
    }
}

/// A WIT-SVID with its key, as the Workload API has them; wiped with the last reference.
pub(crate) struct WorkloadWit {
    /// The token, in the compact form.
    pub(crate) token: Zeroizing<String>,
    /// The private key, a JWK.
    pub(crate) key: Zeroizing<String>,
    /// When it is valid.
    pub(crate) validity: Validity,
}

impl std::fmt::Debug for WorkloadWit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkloadWit").field("validity", &self.validity).finish_non_exhaustive()
    }
}

impl kept::Lasting for WorkloadWit {
    fn validity(&self) -> Validity {
        self.validity
    }
}
