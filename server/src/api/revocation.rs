//! Withdrawing X.509-SVIDs before they end, on the admin socket.

use claviger_proto::claviger::admin::v1::{
    RevokeX509svidRequest, RevokeX509svidResponse, revocation_server,
};
use claviger_runtime::tasks::Tasks;
use claviger_runtime::telemetry::Chain;
use tonic::{Request, Response, Status, async_trait};
use tracing::error;

use super::{caller, not_committed};
use crate::ca::revocation::{Revocations, RevokeError};

/// Serves `claviger.admin.v1.Revocation`.
#[derive(Clone, Debug)]
pub struct Service {
    /// What is revoked.
    pub revocations: Revocations,
    /// See a revocation through even if whoever asked for it has gone.
    pub tasks: Tasks,
}

#[async_trait]
impl revocation_server::Revocation for Service {
    async fn revoke_x509svid(
        &self,
        request: Request<RevokeX509svidRequest>,
    ) -> Result<Response<RevokeX509svidResponse>, Status> {
        let requester = caller::operator(&request)?;
        let (revocations, certificate) =
            (self.revocations.clone(), request.into_inner().certificate);
        let revoke = async move { revocations.revoke(&certificate, requester).await };
        let revoked = self.tasks.see_through("revocation", revoke).await;
        let revoked = revoked.ok_or_else(|| Status::unavailable("the server is stopping"))??;
        Ok(Response::new(RevokeX509svidResponse {
            serial: revoked.serial,
            spiffe_id: revoked.subject.to_string(),
            expires_at: revoked.expires_at.as_secs(),
        }))
    }
}

impl From<RevokeError> for Status {
    fn from(error: RevokeError) -> Self {
        match &error {
            RevokeError::Malformed | RevokeError::Subject(_) | RevokeError::Authority => {
                Self::invalid_argument(error.to_string())
            }
            RevokeError::NotOurs => Self::not_found(error.to_string()),
            RevokeError::Ended => Self::failed_precondition(error.to_string()),
            RevokeError::Full => Self::resource_exhausted(error.to_string()),
            RevokeError::Commit(error) => not_committed(error),
            RevokeError::Sign(_)
            | RevokeError::KeyFile(_)
            | RevokeError::Damaged(_)
            | RevokeError::Store(_) => {
                error!(error = %Chain(&error), "cannot revoke an SVID");
                Self::internal("the server cannot revoke it; see its log")
            }
        }
    }
}
