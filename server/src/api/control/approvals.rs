//! Approvals by a human, each for one thing, once.

use claviger_core::grant::Requester;
use claviger_proto::claviger::admin::v1::{
    ApproveRequest, ApproveResponse, ListApprovalsRequest, ListApprovalsResponse,
};
use tonic::Status;

use super::Service;

/// Approves of one thing, or says no to it.
pub(super) async fn approve(
    _service: &Service,
    _operator: Requester,
    _request: ApproveRequest,
) -> Result<ApproveResponse, Status> {
    Err(Status::unimplemented("Approve"))
}

/// What waits for an approval.
pub(super) async fn list(
    _service: &Service,
    _request: ListApprovalsRequest,
) -> Result<ListApprovalsResponse, Status> {
    Err(Status::unimplemented("ListApprovals"))
}
