//! How an agent's evidence was judged, for the operator and for relying parties elsewhere.

use claviger_core::evidence::ear::{EarContents, EarNonce};
use claviger_core::grant::{IssueEar, Requester};
use claviger_core::id::SpiffeId;
use claviger_core::svid::SvidTtl;
use claviger_core::time::UnixTime;
use claviger_proto::claviger::admin::v1::{GetAppraisalRequest, GetAppraisalResponse};
use tonic::Status;

use super::super::Shared;
use crate::registry::agents::{Agent, Appraised};

/// The appraisal of the agent that is asked for, signed if that is asked for.
pub(super) async fn appraisal(
    shared: &Shared,
    operator: Requester,
    request: GetAppraisalRequest,
) -> Result<GetAppraisalResponse, Status> {
    let id: SpiffeId = request
        .agent_id
        .parse()
        .map_err(|error| Status::invalid_argument(format!("agent_id: {error}")))?;
    let agent = shared.registry.agent(&id).ok_or_else(|| Status::not_found("no such agent"))?;
    let Some(Appraised { at, appraisal, seen: _ }) = agent.appraised.clone() else {
        return Err(Status::failed_precondition(
            "the agent attested to an earlier version, which did not keep how; it will be known when \
             the agent attests again",
        ));
    };
    let mut answer = GetAppraisalResponse {
        appraisal: serde_json::to_vec(&appraisal)
            .map_err(|_never| Status::internal("cannot write the appraisal"))?,
        appraised_at: at.as_secs(),
        ..GetAppraisalResponse::default()
    };
    if !request.sign {
        return Ok(answer);
    }
    let contents = EarContents {
        agent: id,
        appraisal,
        appraised_at: at,
        nonce: nonce(request.nonce)?,
        ttl: ttl(request.ttl)?.min(remaining(&agent, shared.now())?),
    };
    let signed = shared.issuance.issue(IssueEar { contents, requester: operator }).await?;
    answer.token = signed.token;
    answer.expires_at = signed.expires_at.as_secs();
    Ok(answer)
}

/// For how long others may still rely on it: as long as we do.
fn remaining(agent: &Agent, now: UnixTime) -> Result<SvidTtl, Status> {
    if agent.banned {
        return Err(Status::failed_precondition("the agent is banned; nobody is to rely on it"));
    }
    let end = agent.next.as_ref().unwrap_or(&agent.svid).not_after;
    let left = u32::try_from(end.since(now).as_secs()).unwrap_or(u32::MAX);
    SvidTtl::try_from(left.min(*SvidTtl::SECS.end())).map_err(|_too_short| {
        Status::failed_precondition("the agent's SVID has ended; it has to attest again")
    })
}

fn nonce(bytes: Vec<u8>) -> Result<Option<EarNonce>, Status> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let nonce = EarNonce::new(bytes);
    nonce.map(Some).ok_or_else(|| Status::invalid_argument("nonce: it has 8 to 64 bytes"))
}

fn ttl(seconds: u32) -> Result<SvidTtl, Status> {
    if seconds == 0 {
        return Ok(SvidTtl::HOUR);
    }
    SvidTtl::try_from(seconds).map_err(|error| Status::invalid_argument(format!("ttl: {error}")))
}
