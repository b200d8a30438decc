//! Risk and quarantine.

use claviger_core::grant::Requester;
use claviger_proto::claviger::admin::v1::{
    ListStandingsRequest, ListStandingsResponse, SetStandingRequest, SetStandingResponse,
};
use tonic::Status;

use super::Service;

/// Puts an identity in quarantine, lifts it, or says how much it is risked.
pub(super) async fn set(
    _service: &Service,
    _operator: Requester,
    _request: SetStandingRequest,
) -> Result<SetStandingResponse, Status> {
    Err(Status::unimplemented("SetStanding"))
}

/// How identities stand.
pub(super) async fn list(
    _service: &Service,
    _request: ListStandingsRequest,
) -> Result<ListStandingsResponse, Status> {
    Err(Status::unimplemented("ListStandings"))
}
