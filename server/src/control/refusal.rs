//! Why there is no answer: what the operator reads, and what the caller is told (RFC 9457).
//!
//! A denial is no refusal but an answer: a decision. What is refused is a request that is none, or one
//! that its caller may not make.

use claviger_core::id::SpiffeId;
use claviger_runtime::http::BodyError;
use claviger_runtime::slots::Full;
use http::header::RETRY_AFTER;
use http::{Method, StatusCode};

use super::MAX_BODY;
use crate::direct::problem::Problem;
use crate::direct::wire::Malformed;
use crate::journal::CommitError;
use crate::load::Overload;
use crate::peer::Disbelieved;
use crate::policy::Denied;
use crate::standings::StandingError;

#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Disbelieved(#[from] Disbelieved),
    #[error("there is nothing at this path")]
    NoSuchPath,
    #[error("the method is not {0}")]
    Method(Method),
    #[error("too many requests at a time")]
    Busy(#[from] Full),
    #[error(transparent)]
    Overload(#[from] Overload),
    #[error("the body is not said to be JSON")]
    NotJson,
    #[error("cannot read the body")]
    Body(#[from] BodyError),
    /// The caller reads `why`: it may quote the body.
    #[error("`{field}` is malformed")]
    Malformed { field: String, why: String },
    #[error(transparent)]
    Denied(Denied),
    #[error("no entry gives anybody the identity `{0}`")]
    Unknown(SpiffeId),
    #[error(transparent)]
    Standing(StandingError),
    #[error("cannot record the decision")]
    Record(#[source] CommitError),
    #[error("cannot write the answer")]
    Answer(#[source] serde_json::Error),
}

impl From<Malformed> for Refusal {
    fn from(Malformed { field, why }: Malformed) -> Self {
        Self::Malformed { field, why }
    }
}

impl Refusal {
    pub(super) fn malformed(field: &str, why: impl Into<String>) -> Self {
        Self::Malformed { field: field.to_owned(), why: why.into() }
    }

    /// What the caller is told.
    pub(super) fn problem(&self) -> Problem {
        match self {
            Self::Disbelieved(Disbelieved::Nobody | Disbelieved::Ended | Disbelieved::Revoked) => {
                Problem::new(
                    ("unauthenticated", StatusCode::UNAUTHORIZED),
                    "There is no valid X.509-SVID",
                    "connect again, with the newest X.509-SVID of the trust domain",
                )
            }
            // One answer, so that nobody can find out who is registered, or in quarantine.
            Self::Disbelieved(Disbelieved::Quarantined) | Self::Denied(_) | Self::Unknown(_) => {
                refused()
            }
            Self::NoSuchPath => Problem::no_such_path("docs/policy.md says what there is"),
            Self::Method(method) if *method == Method::GET => Problem::wrong_method("GET"),
            Self::Method(_) => Problem::wrong_method("POST"),
            Self::Busy(_) => Problem::busy(),
            Self::Overload(overload) => Problem::overloaded(*overload),
            Self::NotJson => Problem::not_json(),
            Self::Body(error) => Problem::unread(error, MAX_BODY),
            Self::Malformed { field, why } => Problem::malformed(field, why),
            Self::Standing(error) => of_standing(error),
            Self::Record(_) => unavailable(),
            Self::Answer(_) => Problem::new(
                ("internal", StatusCode::INTERNAL_SERVER_ERROR),
                "The server failed",
                "the server's log says why",
            ),
        }
    }
}

/// Whoever gets here may say how the identity stands, and may know how it does.
fn of_standing(error: &StandingError) -> Problem {
    match error {
        StandingError::NotQuarantined(_) => Problem::new(
            ("contradiction", StatusCode::CONFLICT),
            "The signal contradicts how the identity stands",
            "it is not in quarantine, so there is none to lift",
        ),
        StandingError::Oneself(_) => refused(),
        StandingError::Full | StandingError::Commit(_) => unavailable(),
    }
}

fn refused() -> Problem {
    Problem::new(
        ("refused", StatusCode::FORBIDDEN),
        "Refused",
        "the caller may not ask this; the server's log says why",
    )
}

fn unavailable() -> Problem {
    Problem::new(
        ("unavailable", StatusCode::SERVICE_UNAVAILABLE),
        "Try again",
        "the server cannot decide now, so deny; its log says why",
    )
    .with(RETRY_AFTER, "2")
}
