//! `POST /v1/svid/jwt`: a JWT-SVID.

use bytes::Bytes;
use claviger_core::grant::IssueJwt;
use claviger_core::id::SpiffeId;
use claviger_core::svid::jwt::Audience;
use claviger_runtime::seal::SealingKey;
use futures_util::future::join;
use http::Response;
use http_body_util::Full;
use serde::Serialize;
use zeroize::Zeroizing;

use super::Inner;
use super::attested::Purpose;
use super::call::Call;
use super::refusal::Refusal;
use super::reply::in_clear;
use super::{sealed, wire};

/// What is given.
#[derive(Serialize)]
pub(super) struct Answer {
    spiffe_id: SpiffeId,
    /// The token, in the compact form.
    #[serde(serialize_with = "in_clear")]
    jwt_svid: Zeroizing<String>,
    /// Seconds since 1970.
    expires_at: u64,
}

pub(super) async fn issue(direct: &Inner, call: &Call) -> Result<Response<Full<Bytes>>, Refusal> {
    let asked: wire::Jwt = call.json()?;
    let audience =
        Audience::new(asked.audience).map_err(|error| Refusal::malformed("audience", &error))?;
    let evidence = call.evidence(asked.evidence.as_ref())?;
    let key = sealed::key(asked.seal_to.as_deref())?;

    let purpose = Purpose {
        spki: key.as_ref().map(SealingKey::spki),
        sealed: key.is_some(),
        requested: asked.spiffe_id.as_ref(),
    };
    let attested = direct.attest(&evidence, purpose, call).await?;

    let act = IssueJwt {
        contents: direct.lifetimes.jwt(&attested.entry, audience),
        requester: attested.requester(),
        entry: Some(attested.entry.id.clone()),
    };
    // Both wait for the same write: the log has first who it was, then what they get.
    let issued = join(direct.record(&attested), direct.shared.issuance.issue(act)).await;
    let svid = issued.0.and(issued.1.map_err(Refusal::Issue))?;

    let answer = Answer {
        spiffe_id: attested.entry.spiffe_id.clone(),
        jwt_svid: Zeroizing::new(svid.token),
        expires_at: svid.expires_at.as_secs(),
    };
    let (grant, large) = (sealed::grant_id()?, answer.jwt_svid.len());
    let named = (grant.as_str(), answer.expires_at);
    sealed::json(&answer, large, key.as_ref(), &attested, &evidence, named)
}
