//! What is wrong with a request before anything in it is looked at.

use claviger_runtime::http::BodyError;
use claviger_runtime::slots::Full;
use http::StatusCode;
use http::header::{ALLOW, RETRY_AFTER};

use super::call::MAX_BODY;
use super::problem::Problem;

/// What is wrong with a request.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("there is nothing at this path")]
    NoSuchPath,
    #[error("the method is not POST")]
    Method,
    #[error("too many requests at a time")]
    Busy(#[from] Full),
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
            Self::NoSuchPath => Problem::new(
                ("not-found", StatusCode::NOT_FOUND),
                "There is nothing here",
                "/openapi.json says what there is",
            ),
            Self::Method => Problem::new(
                ("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED),
                "The method is not POST",
                "send a POST with a body of JSON",
            )
            .with(ALLOW, "POST"),
            Self::Busy(_) => Problem::new(
                ("too-many-requests", StatusCode::TOO_MANY_REQUESTS),
                "Too many requests at a time",
                "wait for the answers to others before you ask again",
            )
            .with(RETRY_AFTER, "1"),
            Self::Pace => Problem::new(
                ("too-many-requests", StatusCode::TOO_MANY_REQUESTS),
                "Too many challenges in a second",
                "ask again in a second",
            )
            .with(RETRY_AFTER, "1"),
            Self::NotJson => Problem::new(
                ("unsupported-media-type", StatusCode::UNSUPPORTED_MEDIA_TYPE),
                "The body is not JSON",
                "send `Content-Type: application/json`",
            ),
            Self::Body(BodyError::TooLarge(_)) => Problem::new(
                ("too-large", StatusCode::PAYLOAD_TOO_LARGE),
                "The body is too large",
                format!("send at most {MAX_BODY} bytes"),
            ),
            Self::Body(BodyError::Broken(_)) => Problem::malformed("body", "did not arrive"),
        }
    }
}
