//! The gRPC services, one file each. Every handler reads the same way: who calls, what do they say,
//! may they, write it down, do it, answer.
//!
//! | to find | look in |
//! |---|---|
//! | who calls, and which class of caller a method demands | [`caller`] |
//! | from permission to certificate | [`issuance`] |
//! | SPIRE's agent API: attest, renew, list, evict, ban, join tokens | [`agent`] |
//! | SPIRE's entry API | [`entry`] |
//! | SPIRE's bundle API | [`bundle`] |
//! | SPIRE's SVID API | [`svid`] |
//! | whether an agent's word about a workload is new enough | `fresh` |
//! | pushing changes to agents | [`sync`] |
//! | one-time PSKs for agents | [`psk`] |
//! | the policies themselves, for agents | [`policies`] |
//! | what an operator asks beyond SPIRE's API | [`admin`], [`revocation`], [`control`] |

pub mod admin;
pub mod agent;
pub mod bundle;
pub mod caller;
pub mod control;
pub mod entry;
mod fresh;
pub mod issuance;
pub mod policies;
pub mod psk;
pub mod revocation;
pub mod svid;
pub mod sync;

use std::collections::BTreeSet;
use std::sync::Arc;

use claviger_core::id::SpiffeId;
use claviger_core::time::{Clock, UnixTime};
use claviger_proto::convert::FieldError;
use tonic::Status;

use crate::ca;
use crate::ca::revocation::Revocations;
use crate::journal::CommitError;
use crate::load::Load;
use crate::policy::Policies;
use crate::policy::announce::Announcements;
use crate::policy::folder::Folder;
use crate::registry::Registry;
use crate::storage::Storage;
use issuance::Issuance;

/// What the services share. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Who is registered.
    pub registry: Registry,
    /// What the server remembers.
    pub storage: Storage,
    /// Who may get what.
    pub policy: Policies,
    /// Where the policies lie.
    pub folder: Folder,
    /// What agents are told about that.
    pub announcements: Announcements,
    /// The way to a certificate.
    pub issuance: Issuance,
    /// What is revoked.
    pub revocations: Revocations,
    /// Who may administrate over the network beyond those whose entries say so.
    pub admin_ids: Arc<BTreeSet<SpiffeId>>,
    /// What the server has taken on.
    pub load: Load,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

impl Shared {
    pub(crate) fn now(&self) -> UnixTime {
        self.clock.now()
    }

    /// The authorities of the moment, in PEM.
    pub(crate) fn bundle_pem(&self) -> String {
        let bundle = self.issuance.authority.bundle();
        let bundle = bundle.borrow();
        ca::to_pem(bundle.x509_authorities.iter().map(|authority| authority.der.to_vec()))
    }
}

/// The most bytes of one request; as much as gRPC takes by default.
pub const MAX_REQUEST: usize = 4 << 20;

/// The most items in one batch.
pub(crate) const MAX_BATCH: usize = 1_000;

/// The size of a page whose size the caller leaves to us, and the largest.
const PAGE: usize = 500;

/// The most bytes of bundles on one page: with the largest bundle far below gRPC's 4 MiB.
pub(crate) const PAGE_BYTES: usize = 2 << 20;

/// How many items go on one page.
pub(crate) fn page_size(asked: i32) -> Result<usize, Status> {
    match usize::try_from(asked) {
        Ok(0) => Ok(PAGE),
        Ok(size) => Ok(size.min(PAGE)),
        Err(_negative) => Err(Status::invalid_argument(format!("page_size: {asked} is negative"))),
    }
}

/// Refuses a batch that is too large to be one.
pub(crate) fn check_batch(size: usize, most: usize) -> Result<(), Status> {
    if size <= most {
        return Ok(());
    }
    Err(Status::invalid_argument(format!("{size} items in one batch; at most {most} are allowed")))
}

/// A count as the wire has it.
pub(crate) fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// A field is wrong: the caller's turn.
pub(crate) fn malformed(error: &FieldError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// A change was not written: whose turn it is depends on why.
pub(crate) fn not_committed(error: &CommitError) -> Status {
    match error {
        CommitError::Conflict { .. } => Status::aborted("something else happened first; try again"),
        CommitError::Overloaded => {
            Status::resource_exhausted("the server is overloaded; try again in a moment")
        }
        CommitError::Stopped => Status::unavailable("the server is stopping; try again"),
        CommitError::Store(_) => Status::unavailable("the server cannot write; see its log"),
    }
}

#[cfg(test)]
mod tests;
