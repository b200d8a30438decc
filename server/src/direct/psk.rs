//! `POST /v1/psk`: a one-time PSK, bound to the run that the evidence names.

use bytes::Bytes;
use claviger_core::id::SpiffeId;
use claviger_core::psk::{Purpose as What, Run};
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
use crate::api::psk;

/// What is given.
#[derive(Serialize)]
pub(super) struct Answer {
    /// The name of the PSK on the wire.
    identity: String,
    /// The key of the connection, in hexadecimal.
    #[serde(serialize_with = "in_clear")]
    psk: Zeroizing<String>,
    /// What it is derived from, in hexadecimal, for whoever derives it from its own view of the rest
    /// (`docs/protocol.md`).
    #[serde(serialize_with = "in_clear")]
    base: Zeroizing<String>,
    client_id: SpiffeId,
    server_id: SpiffeId,
    purpose: What,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<Run>,
    /// The last second at which it can be redeemed, since 1970.
    expires_at: u64,
}

pub(super) async fn issue(direct: &Inner, call: &Call) -> Result<Response<Full<Bytes>>, Refusal> {
    let asked: wire::Psk = call.json()?;
    let evidence = call.evidence(asked.evidence.as_ref())?;
    let key = sealed::key(asked.seal_to.as_deref())?;

    let purpose = Purpose {
        spki: key.as_ref().map(SealingKey::spki),
        sealed: key.is_some(),
        requested: asked.spiffe_id.as_ref(),
    };
    let attested = direct.attest(&evidence, purpose, call).await?;

    let wish = psk::Asked {
        client: attested.entry.spiffe_id.clone(),
        server: asked.peer,
        purpose: asked.purpose,
        ttl: asked.ttl_seconds.unwrap_or_default(),
        run: attested.node().run().cloned(),
        series: None,
        bits: None,
    };
    let requester = attested.requester();
    // Both wait for the same write: the log has first who it was, then what they get.
    let issued = join(direct.record(&attested), direct.psks.issue(wish, requester)).await;
    let psk::Issued { identity, base, binding } = issued.0.and(issued.1.map_err(Refusal::Psk))?;

    let answer = Answer {
        identity: identity.to_string(),
        psk: Zeroizing::new(hex::encode(base.psk(&binding).0.expose())),
        base: Zeroizing::new(hex::encode(base.0.expose())),
        client_id: binding.client,
        server_id: binding.server,
        purpose: binding.purpose,
        run: binding.run,
        expires_at: binding.not_after.as_secs(),
    };
    let (large, named) =
        (SpiffeId::MAX_LEN.saturating_mul(2), (answer.identity.as_str(), answer.expires_at));
    sealed::json(&answer, large, key.as_ref(), &attested, &evidence, named)
}
