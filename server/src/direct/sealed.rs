//! Answers for callers whose connection somebody else can read: what is secret is sealed to the key
//! that the evidence is bound to.

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use claviger_core::id::SpiffeId;
use claviger_core::seal::Context;
use claviger_runtime::seal::{Sealed, SealingKey};
use http::Response;
use http_body_util::Full;
use serde::Serialize;

use super::attested::Attested;
use super::call::Evidence;
use super::refusal::Refusal;
use super::reply;

/// The most letters of a key in base64; one on P-384 has 160.
const LONGEST: usize = 1_024;

/// What is given instead of an answer in clear.
#[derive(Serialize)]
struct Answer<'a> {
    spiffe_id: &'a SpiffeId,
    /// Part of what is sealed.
    grant_id: &'a str,
    expires_at: u64,
    /// Opens to the answer that others get in clear.
    sealed: Sealed,
}

/// The key to seal to, if one is named.
pub(super) fn key(seal_to: Option<&str>) -> Result<Option<SealingKey>, Refusal> {
    let malformed = |why: &dyn std::fmt::Display| Refusal::malformed("seal_to", &why);
    let Some(text) = seal_to else { return Ok(None) };
    if LONGEST < text.len() {
        return Err(malformed(&"is larger than any key"));
    }
    let der = STANDARD.decode(text);
    let der = der.map_err(|_no_base64| malformed(&"is not base64 with padding (RFC 4648 §4)"))?;
    SealingKey::parse(&der).map(Some).map_err(|error| malformed(&error))
}

/// `answer` in clear if there is no `key`, else sealed to it under the name `grant`. `large` is about
/// the size of what has no bound in it.
pub(super) fn json(
    answer: &impl Serialize,
    large: usize,
    key: Option<&SealingKey>,
    attested: &Attested,
    evidence: &Evidence,
    (grant, expires_at): (&str, u64),
) -> Result<Response<Full<Bytes>>, Refusal> {
    let Some(key) = key else { return reply::json(answer, large) };
    let text = reply::text(answer, large)?;
    let id = &attested.entry.spiffe_id;
    let context = Context { id, binding: attested.binding(), evidence: &evidence.payload, grant };
    let sealed = key.seal(&context, &text);
    let sealed = sealed.map_err(|error| Refusal::malformed("seal_to", &error))?;
    let size = text.len().saturating_mul(2);
    reply::json(&Answer { spiffe_id: id, grant_id: grant, expires_at, sealed }, size)
}

/// A name for an answer that has none of its own.
pub(super) fn grant_id() -> Result<String, Refusal> {
    let mut random = [0; 16];
    rand::fill(&mut random).map_err(|_unspecified| Refusal::Random)?;
    Ok(hex::encode(random))
}
