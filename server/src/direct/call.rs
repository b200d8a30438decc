//! What is read of a request: every byte of it a stranger's.

use std::error::Error;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use claviger_attestors::MAX_EVIDENCE;
use claviger_runtime::http::read_body;
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use hyper::body::Body;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::fault::Fault;
use super::refusal::Refusal;
use super::wire::{self, Malformed};

/// The most bytes of a body: evidence in base64, and a certificate request.
pub(super) const MAX_BODY: usize = 128 << 10;

/// The kind of evidence that a bearer token is.
const BEARER: &str = "oidc";

/// A request that was read, and not believed yet.
pub(super) struct Call {
    /// The token of its `Authorization` header.
    bearer: Option<Zeroizing<Vec<u8>>>,
    body: Zeroizing<Vec<u8>>,
    /// Where it came from, unless a proxy was in between.
    pub(super) caller: Option<IpAddr>,
}

/// Evidence to be verified.
pub(super) struct Evidence {
    pub(super) kind: String,
    pub(super) payload: Zeroizing<Vec<u8>>,
    /// The challenge that it answers, as it was written.
    pub(super) challenge: Option<String>,
}

impl Call {
    /// Reads a request's headers and the whole of its body.
    pub(super) async fn read<B>(
        request: Request<B>,
        caller: Option<IpAddr>,
    ) -> Result<Self, Refusal>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        let (head, body) = request.into_parts();
        if !is_json(&head.headers) {
            return Err(Fault::NotJson.into());
        }
        let bearer = bearer(&head.headers)?;
        let body = read_body(body, MAX_BODY).await.map_err(Fault::Body)?;
        Ok(Self { bearer, body, caller })
    }

    /// The body as `T`.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        wire::parse(&self.body)
            .map_err(|Malformed { field, why }| Refusal::Malformed { field, why })
    }

    /// The evidence: the bearer token, or what is `inline` in the body.
    pub(super) fn evidence(&self, inline: Option<&wire::Evidence>) -> Result<Evidence, Refusal> {
        match (&self.bearer, inline) {
            (Some(token), None) => {
                let (kind, payload) = (BEARER.to_owned(), token.clone());
                Ok(Evidence { kind, payload, challenge: None })
            }
            (None, Some(evidence)) => Evidence::parse(evidence),
            (None, None) => Err(Refusal::NoEvidence),
            (Some(_), Some(_)) => {
                let why = "is there beside a bearer token; send one of them";
                Err(Refusal::malformed("evidence", &why))
            }
        }
    }
}

impl Evidence {
    fn parse(wire: &wire::Evidence) -> Result<Self, Refusal> {
        let payload = STANDARD.decode(&wire.payload).map(Zeroizing::new);
        // The decoder's own words would quote the payload.
        let payload = payload.map_err(|_no_base64| {
            Refusal::malformed("evidence.payload", &"is not base64 with padding (RFC 4648 §4)")
        })?;
        if MAX_EVIDENCE < payload.len() {
            let why = format!("has more than {MAX_EVIDENCE} bytes");
            return Err(Refusal::malformed("evidence.payload", &why));
        }
        Ok(Self { kind: wire.kind.clone(), payload, challenge: wire.challenge.clone() })
    }
}

/// Whether the one `Content-Type` is JSON, with whatever parameters.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(one), None) = (types.next(), types.next()) else { return false };
    let essence = one.to_str().ok().and_then(|text| text.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// The token of the one `Authorization` header (RFC 6750 §2.1), if there is one.
fn bearer(headers: &HeaderMap) -> Result<Option<Zeroizing<Vec<u8>>>, Refusal> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (one, more) = (given.next(), given.next());
    let Some(one) = one else { return Ok(None) };
    let malformed = || Refusal::malformed("Authorization", &"is not `Bearer` and one token");
    let (scheme, token) =
        one.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(malformed)?;
    let token = token.trim_start_matches(' ');
    let sound = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    if more.is_some() || !sound || !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(malformed());
    }
    Ok(Some(Zeroizing::new(token.as_bytes().to_vec())))
}
