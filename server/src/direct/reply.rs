//! How an answer is written. What is a secret in it is wiped when it has left.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use super::refusal::Refusal;

/// Room for everything in an answer that has a bound of its own.
const ROOM: usize = 4_096;

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The answer that is good; `large` is about the size of what has no bound in it.
pub(super) fn json(
    answer: &impl Serialize,
    large: usize,
) -> Result<Response<Full<Bytes>>, Refusal> {
    Ok(response(StatusCode::OK, JSON, Bytes::from_owner(text(answer, large)?)))
}

/// Its text.
pub(super) fn text(answer: &impl Serialize, large: usize) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    // Room for everything: a buffer that grows would leave pieces of a secret behind. Line breaks
    // take two bytes.
    let room = large.saturating_add(large / 32).saturating_add(ROOM);
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    serde_json::to_writer(&mut *text, answer).map_err(Refusal::Answer)?;
    Ok(text)
}

/// A response that nobody keeps.
pub(crate) fn response(
    status: StatusCode,
    kind: HeaderValue,
    body: Bytes,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Writes a secret, which is what the answer is for.
pub(super) fn in_clear<S: Serializer>(
    secret: &Zeroizing<String>,
    to: S,
) -> Result<S::Ok, S::Error> {
    to.serialize_str(secret)
}
