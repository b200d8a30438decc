//! Why a process has the identities that it has, and no others.

use claviger_attestors::workload::AttestError;
use claviger_core::id::SpiffeId;
use claviger_core::reason::{Missing, Reason};
use claviger_core::selector::Selectors;
use claviger_core::time::UnixTime;
use claviger_proto::claviger::node::v1 as wire;
use claviger_proto::claviger::node::v1::explain_request::Subject;
use claviger_proto::convert::selectors;
use claviger_runtime::telemetry::Chain;
use tonic::Status;

use super::NodeAdmin;
use crate::attestation::process;
use crate::credentials::{Identity, Snapshot};
use crate::explain::{Explanation, NearMiss, explain as explain_to, without_svid};

/// The most facts that a question assumes.
const MAX_FACTS: usize = 1_000;

/// The most near misses in an answer.
const MOST: usize = 20;

pub(super) async fn explain(
    admin: &NodeAdmin,
    request: wire::ExplainRequest,
) -> Result<wire::ExplainResponse, Status> {
    let facts = match request.subject {
        Some(Subject::Pid(pid)) => facts_of(admin, pid).await?,
        Some(Subject::Facts(facts)) => {
            selectors::set(facts.selectors, "facts.selectors", MAX_FACTS)
                .map_err(|error| Status::invalid_argument(error.to_string()))?
        }
        None => return Err(Status::invalid_argument("subject: name a process, or selectors")),
    };
    let snapshot = admin.desk.snapshot()?;
    let agent = admin.agent.get();
    Ok(answer(agent, &snapshot, &facts, admin.desk.clock.now()))
}

async fn facts_of(admin: &NodeAdmin, pid: i32) -> Result<Selectors, Status> {
    let process = process(pid)?;
    admin.desk.attestation.facts(&process).await.map_err(|error| {
        if matches!(error, AttestError::Exited) {
            Status::not_found(format!("process {pid} has just ended"))
        } else {
            Status::unavailable(format!("process {pid}: {}", Chain(&error)))
        }
    })
}

fn answer(
    agent: Option<&SpiffeId>,
    snapshot: &Snapshot,
    facts: &Selectors,
    now: UnixTime,
) -> wire::ExplainResponse {
    let Explanation { identities, near_misses, others } = explain_to(snapshot, facts, now, MOST);
    wire::ExplainResponse {
        agent_id: agent.map(ToString::to_string).unwrap_or_default(),
        facts: selectors::list(facts),
        identities: identities.into_iter().map(|identity| told(identity, now)).collect(),
        near_misses: near_misses.into_iter().map(near_miss).collect(),
        others: u64::try_from(others).unwrap_or(u64::MAX),
    }
}

fn told(identity: &Identity, now: UnixTime) -> wire::Identity {
    let entry = &identity.entry;
    let reason = without_svid(identity, now);
    let words = reason.map(Reason::words).unwrap_or_default();
    let detail = match &identity.refusal {
        Some(said) if reason.is_some() => format!("{words}: {said}"),
        Some(said) => format!("the server refuses to renew the SVID: {said}"),
        None => words.to_owned(),
    };
    wire::Identity {
        entry_id: entry.id.to_string(),
        spiffe_id: entry.spiffe_id.to_string(),
        hint: entry.hint.clone(),
        svid_not_after: identity.x509.peek(now).map_or(0, |svid| svid.validity.not_after.as_secs()),
        reason: reason.map(|reason| reason.name().to_owned()).unwrap_or_default(),
        detail,
    }
}

fn near_miss(miss: NearMiss<'_>) -> wire::NearMiss {
    let missing = |Missing { selector, instead }: Missing| wire::MissingSelector {
        selector: Some((&selector).into()),
        instead: instead.iter().map(Into::into).collect(),
    };
    wire::NearMiss {
        entry_id: miss.entry.id.to_string(),
        spiffe_id: miss.entry.spiffe_id.to_string(),
        reason: miss.reason.name().to_owned(),
        detail: miss.reason.words().to_owned(),
        missing: miss.missing.into_iter().map(missing).collect(),
        selectors: selectors::list(&miss.entry.selectors),
    }
}
