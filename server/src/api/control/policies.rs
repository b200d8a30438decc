//! The policies in force, and reading them again.

use claviger_policy::PolicySet;
use claviger_proto::claviger::admin::v1::{GetPoliciesRequest, GetPoliciesResponse};
use claviger_runtime::telemetry::Chain;
use tonic::Status;
use tracing::error;

use super::Service;
use crate::api::not_committed;
use crate::policy::folder::ReloadError;

/// The policies that are asked for: those in force, or older ones by their digest.
pub(super) async fn kept(
    service: &Service,
    request: GetPoliciesRequest,
) -> Result<GetPoliciesResponse, Status> {
    let current = service.shared.policy.current();
    if request.digest.is_empty() || request.digest == current.digest().to_string() {
        return in_force(service, &current);
    }
    Err(Status::not_found("no policies with this digest were ever in force"))
}

/// Reads the folder again.
pub(super) async fn reload(service: &Service) -> Result<GetPoliciesResponse, Status> {
    let folder = service.shared.folder.clone();
    let reloading = async move { folder.reload().await };
    let reloaded = service.tasks.see_through("reloading policies", reloading).await;
    reloaded.ok_or_else(|| Status::unavailable("the server is stopping"))?.map_err(|error| {
        match &error {
            ReloadError::NoFolder | ReloadError::Wrong(_) => {
                Status::failed_precondition(error.to_string())
            }
            ReloadError::Record(error) => not_committed(error),
        }
    })?;
    in_force(service, &service.shared.policy.current())
}

fn in_force(service: &Service, set: &PolicySet) -> Result<GetPoliciesResponse, Status> {
    let status = service.shared.folder.status();
    let policies = serde_json::to_vec(set.source().files()).map_err(|error| {
        error!(error = %Chain(&error), "cannot write policies as JSON");
        Status::internal("the policies cannot be written as JSON; see the server's log")
    })?;
    Ok(GetPoliciesResponse {
        digest: set.digest().to_string(),
        policies,
        count: u32::try_from(set.count()).unwrap_or(u32::MAX),
        since: status.since.as_secs(),
        refused: status.refused.unwrap_or_default(),
    })
}
