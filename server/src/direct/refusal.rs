//! Why there is no credential: what the operator reads, and what the caller is told.
//!
//! Whoever is at fault is told what to fix as long as nothing was verified. From there on there is
//! one answer, whatever the reason: a stranger learns neither what the evidence lacked nor who is
//! registered.

use std::error::Error;
use std::fmt::Display;

use claviger_attestors::VerifyError;
use claviger_core::id::SpiffeId;
use http::StatusCode;
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};

use super::fault::Fault;
use super::problem::Problem;
use crate::api::issuance::IssueError;
use crate::api::psk;
use crate::journal::CommitError;
use crate::ledger::LedgerError;

/// Why there is no credential. What a caller sent is never part of the text: it may be a secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Fault(#[from] Fault),
    /// A part of the request is not what it should be; the caller reads `why`.
    #[error("`{field}` is malformed")]
    Malformed { field: String, why: String },
    #[error("there is no evidence")]
    NoEvidence,
    #[error("nobody here judges this kind of evidence, or not without an agent")]
    UnsupportedKind,
    #[error("the evidence was refused")]
    Evidence(#[from] VerifyError),
    #[error("the challenge is none of ours, has ended or was used before")]
    Challenge,
    #[error("cannot enter the challenge in the ledger")]
    Ledger(#[source] Box<dyn Error + Send + Sync>),
    #[error("a secret is sealed only to a key that the evidence names, and it names none")]
    Unbound,
    #[error("the evidence is of a kind that is believed once, which takes an agent")]
    OnceOnly,
    #[error("no entry under the server itself is for the evidence of `{0}`")]
    NotEntitled(SpiffeId),
    #[error("the evidence earns several identities, and none was named")]
    Ambiguous,
    #[error("cannot record the attestation")]
    Record(#[source] CommitError),
    #[error("no SVID was issued")]
    Issue(#[source] IssueError),
    #[error("no PSK was issued")]
    Psk(#[source] psk::IssueError),
    #[error("the system gives no random bytes")]
    Random,
    #[error("cannot write the answer")]
    Answer(#[source] serde_json::Error),
}

/// Whose turn it is.
enum Verdict {
    /// The caller's, who is told what to fix.
    Fix(Problem),
    /// Nobody's: it is refused.
    No,
    /// The caller's, later.
    Later,
    /// The operator's.
    Broken,
}

impl Refusal {
    pub(super) fn malformed(field: impl Into<String>, why: &impl Display) -> Self {
        Self::Malformed { field: field.into(), why: why.to_string() }
    }

    /// Whether it is answered like every other that depends on what was verified.
    pub(super) fn is_for_strangers(&self) -> bool {
        matches!(self.verdict(), Verdict::No)
    }

    /// What the caller is told.
    pub(super) fn problem(&self) -> Problem {
        match self.verdict() {
            Verdict::Fix(problem) => problem,
            Verdict::No => Problem::new(
                ("refused", StatusCode::FORBIDDEN),
                "Refused",
                "the evidence does not earn what was asked for; the server's log says why",
            ),
            Verdict::Later => Problem::new(
                ("unavailable", StatusCode::SERVICE_UNAVAILABLE),
                "Try again",
                "the server cannot decide now; try again, with new evidence if it works once",
            )
            .with(RETRY_AFTER, "2"),
            Verdict::Broken => Problem::new(
                ("internal", StatusCode::INTERNAL_SERVER_ERROR),
                "The server failed",
                "the server's log says why",
            ),
        }
    }

    fn verdict(&self) -> Verdict {
        match self {
            Self::Fault(fault) => Verdict::Fix(fault.problem()),
            Self::Malformed { field, why } => Verdict::Fix(Problem::malformed(field, why)),
            Self::NoEvidence => Verdict::Fix(
                Problem::new(
                    ("missing-evidence", StatusCode::UNAUTHORIZED),
                    "There is no evidence",
                    "send an OIDC token as `Authorization: Bearer TOKEN`, or `evidence` in the body",
                )
                .with(WWW_AUTHENTICATE, "Bearer"),
            ),
            Self::UnsupportedKind => Verdict::Fix(Problem::new(
                ("unsupported-kind", StatusCode::BAD_REQUEST),
                "The kind of evidence is not accepted",
                "evidence.kind: this server does not judge it, or not without an agent",
            )),
            // Whoever gets here is believed, and may know what they are entitled to.
            Self::Ambiguous => Verdict::Fix(Problem::new(
                ("ambiguous-identity", StatusCode::BAD_REQUEST),
                "The evidence earns several identities",
                "spiffe_id: name the one that is wanted; the evidence may be used up",
            )),
            // Nothing was looked at, and a new one is to be had for the asking.
            Self::Challenge => Verdict::Fix(Problem::new(
                ("challenge", StatusCode::BAD_REQUEST),
                "The challenge is not in force",
                "evidence.challenge: get a new one from /v1/challenge; each works once, for 60 s",
            )),
            Self::Evidence(VerifyError::Unavailable(_)) | Self::Record(_) | Self::Ledger(_) => {
                Verdict::Later
            }
            Self::Evidence(
                VerifyError::Malformed | VerifyError::NotGenuine(_) | VerifyError::Silent,
            )
            | Self::OnceOnly
            | Self::Unbound
            | Self::NotEntitled(_) => Verdict::No,
            Self::Issue(error) => of_svid(error),
            Self::Psk(error) => of_psk(error),
            Self::Random | Self::Answer(_) => Verdict::Broken,
        }
    }
}

fn of_svid(error: &IssueError) -> Verdict {
    match error {
        IssueError::Denied(_) | IssueError::Quarantined(_) => Verdict::No,
        IssueError::Csr(error) => Verdict::Fix(Problem::malformed("csr", &error.to_string())),
        IssueError::Overload(overload) => Verdict::Fix(Problem::overloaded(*overload)),
        IssueError::Record(_) => Verdict::Later,
        IssueError::Sign(_) => Verdict::Broken,
    }
}

fn of_psk(error: &psk::IssueError) -> Verdict {
    match error {
        psk::IssueError::Malformed { field, why } => Verdict::Fix(Problem::malformed(field, why)),
        psk::IssueError::ToItself(_) => Verdict::Fix(Problem::malformed(
            "peer",
            "is the identity that the evidence earns itself",
        )),
        psk::IssueError::NotEntitled(_)
        | psk::IssueError::UnknownPeer(_)
        | psk::IssueError::Denied(_) => Verdict::No,
        psk::IssueError::Overload(overload) => Verdict::Fix(Problem::overloaded(*overload)),
        psk::IssueError::Ledger(LedgerError::Random) => Verdict::Broken,
        psk::IssueError::Stale(_) | psk::IssueError::Ledger(_) => Verdict::Later,
    }
}
