//! The policies in force, and reading them again.

use std::error::Error;

use claviger_core::grant::PolicyDigest;
use claviger_policy::{PolicySet, Source};
use claviger_proto::claviger::admin::v1::{GetPoliciesRequest, GetPoliciesResponse};
use claviger_runtime::telemetry::Chain;
use tonic::Status;
use tracing::error;

use super::Service;
use crate::api::not_committed;
use crate::policy::folder::ReloadError;
use crate::policy::kept;

/// The policies that are asked for: those in force, or older ones by their digest.
pub(super) async fn kept(
    service: &Service,
    request: GetPoliciesRequest,
) -> Result<GetPoliciesResponse, Status> {
    let current = service.shared.policy.current();
    if request.digest.is_empty() || request.digest == current.digest().to_string() {
        return in_force(service, &current);
    }
    let digest = request.digest.parse::<PolicyDigest>().map_err(|_no_digest| {
        Status::invalid_argument("digest: it is not 64 hexadecimal digits")
    })?;
    older(service, digest).await
}

/// Policies that are in force no more.
async fn older(service: &Service, digest: PolicyDigest) -> Result<GetPoliciesResponse, Status> {
    let unreadable = |error: &(dyn Error + 'static)| {
        error!(error = %Chain(error), %digest, "cannot read policies that were in force");
        Status::internal("the policies cannot be read; see the server's log")
    };
    let store = service.shared.storage.journal.store();
    let found = kept::find(&**store, digest).await.map_err(|error| unreadable(&error))?;
    let bytes = found.ok_or_else(|| {
        Status::not_found("no policies with this digest were in force, or too many were since")
    })?;
    let source = Source::from_bytes(&bytes).map_err(|error| unreadable(&error))?;
    let policies = serde_json::to_vec(source.files()).map_err(|error| unreadable(&error))?;
    Ok(GetPoliciesResponse {
        digest: digest.to_string(),
        policies,
        ..GetPoliciesResponse::default()
    })
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
