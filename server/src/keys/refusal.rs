//! Why there is no key: what the operator reads, and what the caller is told.
//!
//! ETSI GS QKD 014 knows 400, 401 (without a body) and 503; SKIP 400, 404, 405, 500 and 503, and no status
//! for who may not. Who may not learns nothing more: not whether the other end is registered, or in
//! quarantine.

use bytes::Bytes;
use claviger_core::id::SpiffeId;
use claviger_runtime::http::BodyError;
use claviger_runtime::slots::Full;
use http::header::{ALLOW, CACHE_CONTROL, HeaderValue, RETRY_AFTER};
use http::{Method, Response, StatusCode};
use http_body_util::Full as Whole;
use serde::Serialize;

use super::wanted::Malformed;
use crate::api::psk::IssueError;
use crate::direct::reply;
use crate::ledger::psk::Refused;
use crate::load::Overload;
use crate::peer::Disbelieved;
use crate::policy::Denied;

#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Disbelieved(#[from] Disbelieved),
    #[error("there is nothing at this path")]
    NoSuchPath,
    #[error("the method is not one of {0:?}")]
    Method(&'static [Method]),
    #[error("too many requests at a time")]
    Busy(#[from] Full),
    #[error(transparent)]
    Overload(#[from] Overload),
    #[error("cannot read the body")]
    Body(#[from] BodyError),
    /// The caller reads it: it may quote the request.
    #[error("the request is malformed")]
    Malformed(Malformed),
    #[error("the name in the request is nobody's")]
    Nobody,
    #[error("no entry gives anybody the identity `{0}`")]
    Unregistered(SpiffeId),
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("cannot draw the key")]
    Issue(#[source] IssueError),
    #[error("the key is not for the caller")]
    OtherEnd,
    #[error("there is no such key between these two")]
    NotFound,
    #[error("the key cannot be collected")]
    Refused(#[source] Refused),
    #[error("no agent has connected yet to show what it remembers")]
    NoWitness,
    #[error("the system gives no random bytes")]
    NoRandom,
    #[error("cannot write the answer")]
    Answer(#[source] serde_json::Error),
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<IssueError> for Refusal {
    fn from(error: IssueError) -> Self {
        Self::Issue(error)
    }
}

/// "Error data format", ETSI GS QKD 014 §6.5.
#[derive(Serialize)]
struct Message<'a> {
    message: &'a str,
}

impl Refusal {
    pub(super) fn malformed(why: &str) -> Self {
        Self::Malformed(Malformed::new(why))
    }

    pub(super) fn into_response(self, is_skip: bool) -> Response<Whole<Bytes>> {
        match self {
            Self::Malformed(Malformed(why)) => message(StatusCode::BAD_REQUEST, &why),
            Self::Body(BodyError::TooLarge(most)) => {
                message(StatusCode::BAD_REQUEST, &format!("the body has more than {most} bytes"))
            }
            Self::Body(BodyError::Broken(_)) => {
                message(StatusCode::BAD_REQUEST, "the body did not arrive")
            }
            Self::Issue(IssueError::ToItself(_)) => {
                message(StatusCode::BAD_REQUEST, "a key is for two, and the caller is one of them")
            }
            Self::NotFound => not_found(),
            Self::Refused(refused) if !refused.is_unavailable() => not_found(),
            Self::NoSuchPath => message(
                StatusCode::NOT_FOUND,
                "there is nothing here; docs/psk.md says what there is",
            ),
            Self::Method(methods) => {
                let mut response =
                    message(StatusCode::METHOD_NOT_ALLOWED, "the method is another one");
                let allowed = if methods.contains(&Method::POST) { "GET, POST" } else { "GET" };
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
                response
            }
            Self::Disbelieved(_)
            | Self::Nobody
            | Self::Unregistered(_)
            | Self::Denied(_)
            | Self::OtherEnd
            | Self::Issue(
                IssueError::Denied(_)
                | IssueError::UnknownPeer(_)
                | IssueError::NotEntitled(_)
                | IssueError::Malformed { .. },
            ) => not_permitted(is_skip),
            Self::Answer(_) => {
                message(StatusCode::INTERNAL_SERVER_ERROR, "the server failed; its log says why")
            }
            Self::Overload(overload) | Self::Issue(IssueError::Overload(overload)) => {
                later(overload.seconds())
            }
            Self::Busy(_)
            | Self::Issue(IssueError::Ledger(_) | IssueError::Stale(_))
            | Self::Refused(_)
            | Self::NoWitness
            | Self::NoRandom => later(2),
        }
    }
}

fn later(seconds: u64) -> Response<Whole<Bytes>> {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut response = message(status, "there are no keys for now; try again");
    response.headers_mut().insert(RETRY_AFTER, seconds.into());
    response
}

fn not_found() -> Response<Whole<Bytes>> {
    message(StatusCode::BAD_REQUEST, "one or more keys specified are not found on KME")
}

/// ETSI's 401 has no body (§5.1 to §5.3). SKIP has no such status; a request that nobody can do anything
/// about is 400.
fn not_permitted(is_skip: bool) -> Response<Whole<Bytes>> {
    if is_skip {
        return message(StatusCode::BAD_REQUEST, "not permitted");
    }
    let mut response = Response::new(Whole::new(Bytes::new()));
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn message(status: StatusCode, message: &str) -> Response<Whole<Bytes>> {
    // A text is always JSON.
    let text = serde_json::to_vec(&Message { message }).unwrap_or_default();
    reply::response(status, reply::JSON, Bytes::from(text))
}
