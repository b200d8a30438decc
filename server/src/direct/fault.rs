//! What is wrong with a request before anything in it is looked at.

use claviger_runtime::http::BodyError;
use claviger_runtime::slots::Full;

use super::call::MAX_BODY;
use super::problem::Problem;
use crate::load::Overload;

/// What is wrong with a request.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("there is nothing at this path")]
    NoSuchPath,
    #[error("the method is not POST")]
    Method,
    #[error("too many requests at a time")]
    Busy(#[from] Full),
    #[error(transparent)]
    Overload(#[from] Overload),
    #[error("too many challenges in a second")]
    Pace,
    #[error("the body is not said to be JSON")]
    NotJson,
    #[error("cannot read the body")]
    Body(#[from] BodyError),
}

impl Fault {
    /// What the caller is told to fix.
    pub(super) fn problem(&self) -> Problem {
        match self {
            Self::NoSuchPath => Problem::no_such_path("/openapi.json says what there is"),
            Self::Method => Problem::wrong_method("POST"),
            Self::Busy(_) => Problem::busy(),
            Self::Overload(overload) => Problem::overloaded(*overload),
            Self::Pace => Problem::too_many_requests(
                "Too many challenges in a second",
                "ask again in a second",
            ),
            Self::NotJson => Problem::not_json(),
            Self::Body(error) => Problem::unread(error, MAX_BODY),
        }
    }
}
