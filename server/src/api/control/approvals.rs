//! Approvals by a human, each for one thing, once.

use std::time::Duration;

use claviger_core::approval::ApprovalId;
use claviger_core::grant::Requester;
use claviger_proto::claviger::admin::v1::{
    Approval, ApproveRequest, ApproveResponse, ListApprovalsResponse, approval,
};
use tonic::Status;

use super::Service;
use crate::api::not_committed;
use crate::approvals::{Answer, AnswerError, Listed, State, TTL};

/// Approves of one thing, or says no to it.
pub(super) async fn approve(
    service: &Service,
    operator: Requester,
    request: ApproveRequest,
) -> Result<ApproveResponse, Status> {
    let parsed = request.id.parse::<ApprovalId>();
    let id = parsed
        .map_err(|error| Status::invalid_argument(format!("id: `{}`: {error}", request.id)))?;
    let answer = match (request.refuse, request.ttl_seconds) {
        (true, _) => Answer::No,
        (false, 0) => Answer::Yes(TTL),
        (false, seconds) => Answer::Yes(Duration::from_secs(seconds.into())),
    };

    let (policy, storage) = (service.shared.policy.clone(), service.shared.storage.clone());
    let answering = async move {
        let place = (&storage.journal, &storage.epochs);
        policy.approvals().answer(place, id, answer, operator).await
    };
    // Written down, it counts, even if whoever asked has gone.
    let answered = service.tasks.see_through("approval", answering).await;
    let answered = answered.ok_or_else(|| Status::unavailable("the server is stopping"))?;

    Ok(ApproveResponse { approval: Some(to_wire(&answered?)?) })
}

/// What waits for an approval, and what was answered lately.
pub(super) fn list(service: &Service) -> Result<ListApprovalsResponse, Status> {
    let now = service.shared.storage.epochs.time().now();
    let listed = service.shared.policy.approvals().list(now);
    let approvals = listed.iter().map(to_wire).collect::<Result<_, _>>()?;
    Ok(ListApprovalsResponse { approvals })
}

fn to_wire(listed: &Listed) -> Result<Approval, Status> {
    let question = serde_json::to_vec(&listed.question)
        .map_err(|_not_json| Status::internal("the question cannot be shown"))?;
    let state = match listed.state {
        State::Waiting => approval::State::Waiting,
        State::Approved => approval::State::Approved,
        State::Refused => approval::State::Refused,
    };
    Ok(Approval {
        id: listed.id.to_string(),
        question,
        state: state.into(),
        asked_at: listed.asked_at.as_secs(),
        expires_at: listed.until.as_secs(),
    })
}

impl From<AnswerError> for Status {
    fn from(error: AnswerError) -> Self {
        match &error {
            AnswerError::Unknown => Self::not_found(error.to_string()),
            AnswerError::Ttl => Self::invalid_argument(format!("ttl_seconds: {error}")),
            AnswerError::Full => Self::resource_exhausted(error.to_string()),
            AnswerError::Commit(error) => not_committed(error),
        }
    }
}
