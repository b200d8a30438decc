//! `add-checkpoint`: what is asked, and why it may be refused. The statuses are those of the
//! specification.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use claviger_core::audit::checkpoint::TreeHead;
use claviger_core::audit::note::{MAX_BYTES, Note, VerifierKey};
use claviger_core::audit::proof::verify_consistency;
use claviger_core::audit::{Head, TreeHash};
use http::StatusCode;

/// The most hashes of a consistency proof.
const MAX_PROOF: usize = 63;

/// The longest request, in bytes.
pub(super) const MAX_REQUEST: usize = MAX_BYTES + 4_096;

/// A request that is well-formed; nothing of it is believed yet.
#[derive(Debug)]
pub(super) struct AddCheckpoint {
    old: u64,
    proof: Vec<TreeHash>,
    origin: String,
    pub(super) head: Head,
    pub(super) note: Note,
}

/// Why a checkpoint is not signed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the request is malformed")]
    Malformed,
    #[error("the log is not known here")]
    UnknownLog,
    #[error("the log did not sign the checkpoint")]
    NotSigned,
    #[error("the checkpoint is older than the size that it is to continue")]
    Backwards,
    /// The log says that something else was signed last.
    #[error("the checkpoint signed last is of size {latest}")]
    Size { latest: u64 },
    /// Two roots of one size: there are two histories.
    #[error("another checkpoint of the same size was signed")]
    Forked,
    /// The log does not continue what was signed.
    #[error("the proof does not show that the checkpoint continues the one signed last")]
    Inconsistent,
    #[error("what was signed last cannot be read or written")]
    Memory(#[source] io::Error),
}

impl Refusal {
    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::Malformed | Self::Backwards => StatusCode::BAD_REQUEST,
            Self::UnknownLog => StatusCode::NOT_FOUND,
            Self::NotSigned => StatusCode::FORBIDDEN,
            Self::Size { .. } | Self::Forked => StatusCode::CONFLICT,
            Self::Inconsistent => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Memory(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl AddCheckpoint {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let parse = || {
            let (before, note) = str::from_utf8(body).ok()?.split_once("\n\n")?;
            let mut lines = before.split('\n');
            let size = lines.next()?.strip_prefix("old ")?;
            let old: u64 = size.parse().ok()?;
            let hash = |line| STANDARD.decode(line).ok()?.try_into().ok().map(TreeHash::from_bytes);
            let proof: Option<Vec<_>> = lines.take(MAX_PROOF.saturating_add(1)).map(hash).collect();
            let proof = proof.filter(|proof| proof.len() <= MAX_PROOF)?;
            let note: Note = note.parse().ok()?;
            let TreeHead { origin, head, .. } = note.text().parse().ok()?;
            (old.to_string() == size).then_some(Self { old, proof, origin, head, note })
        };
        parse().ok_or(Refusal::Malformed)
    }

    /// The key among `known` that signed the checkpoint for its log.
    pub(super) fn log_of<'a>(&self, known: &'a [VerifierKey]) -> Result<&'a VerifierKey, Refusal> {
        let mut keys = known.iter().filter(|key| key.name() == self.origin).peekable();
        if keys.peek().is_none() {
            return Err(Refusal::UnknownLog);
        }
        keys.find(|key| self.note.verify(key).is_ok()).ok_or(Refusal::NotSigned)
    }

    /// Checks that the checkpoint continues the `latest` that was signed.
    pub(super) fn continues(&self, latest: Head) -> Result<(), Refusal> {
        if self.old > self.head.size {
            return Err(Refusal::Backwards);
        }
        if self.old != latest.size {
            return Err(Refusal::Size { latest: latest.size });
        }
        if self.head.size == latest.size && self.head.root != latest.root {
            return Err(Refusal::Forked);
        }
        let shown = verify_consistency(&latest, &self.head, &self.proof);
        shown.map_err(|_wrong| Refusal::Inconsistent)
    }
}
