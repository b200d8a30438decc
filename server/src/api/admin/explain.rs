//! Which entries a workload matches or nearly matches.

use claviger_core::id::SpiffeId;
use claviger_core::reason::{Missing, Reason};
use claviger_proto::claviger::admin::v1 as wire;
use claviger_proto::convert::selectors;
use claviger_proto::spire::types;
use tonic::Status;

use crate::registry::Registry;
use crate::registry::explain::{Explained, Explanation};

/// The most selectors in a question.
const MAX_SELECTORS: usize = 1_000;

/// The most entries in an answer.
const MOST: usize = 20;

pub(super) fn explain(
    registry: &Registry,
    request: wire::ExplainRequest,
) -> Result<wire::ExplainResponse, Status> {
    let malformed = |error: &dyn ToString| Status::invalid_argument(error.to_string());
    let facts = selectors::set(request.selectors, "selectors", MAX_SELECTORS)
        .map_err(|error| malformed(&error))?;
    let agent = match request.agent_id.as_str() {
        "" => None,
        id => Some(
            id.parse::<SpiffeId>()
                .map_err(|error| Status::invalid_argument(format!("agent_id: {error}")))?,
        ),
    };
    let explanation = registry.explain(&facts, agent.as_ref(), MOST);
    explanation.map(answer).map_err(|error| Status::not_found(format!("agent_id: {error}")))
}

fn answer(explanation: Explanation) -> wire::ExplainResponse {
    let Explanation { entries, others } = explanation;
    wire::ExplainResponse {
        entries: entries.into_iter().map(explained).collect(),
        others: u64::try_from(others).unwrap_or(u64::MAX),
    }
}

fn explained(explained: Explained) -> wire::ExplainedEntry {
    let Explained { entry, reason, missing, missing_on_node } = explained;
    let list = |missing: Vec<Missing>| -> Vec<types::Selector> {
        missing.iter().map(|missing| (&missing.selector).into()).collect()
    };
    wire::ExplainedEntry {
        entry_id: entry.id.to_string(),
        spiffe_id: entry.spiffe_id.to_string(),
        parent_id: entry.parent_id.to_string(),
        reason: reason.map(|reason| reason.name().to_owned()).unwrap_or_default(),
        detail: reason.map(Reason::words).unwrap_or_default().to_owned(),
        missing: list(missing),
        missing_on_node: list(missing_on_node),
    }
}
