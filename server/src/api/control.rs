//! Policies, risk and quarantine, on the admin socket.
//!
//! | to find | look in |
//! |---|---|
//! | the policies in force, and reading them again | `policies` |
//! | risk and quarantine | `standing` |
//! | approvals | `approvals` |

mod approvals;
mod policies;
mod standing;

use claviger_proto::claviger::admin::v1::{
    ApproveRequest, ApproveResponse, GetPoliciesRequest, GetPoliciesResponse, ListApprovalsRequest,
    ListApprovalsResponse, ListStandingsRequest, ListStandingsResponse, ReloadPoliciesRequest,
    SetStandingRequest, SetStandingResponse, control_server,
};
use claviger_runtime::tasks::Tasks;
use tonic::{Request, Response, Status, async_trait};

use super::{Shared, caller};

/// Serves `claviger.admin.v1.Control`.
#[derive(Clone, Debug)]
pub struct Service {
    /// What the services share.
    pub shared: Shared,
    /// See a change through even if whoever asked for it has gone.
    pub tasks: Tasks,
}

#[async_trait]
impl control_server::Control for Service {
    async fn get_policies(
        &self,
        request: Request<GetPoliciesRequest>,
    ) -> Result<Response<GetPoliciesResponse>, Status> {
        caller::operator(&request)?;
        policies::kept(self, request.into_inner()).await.map(Response::new)
    }

    async fn reload_policies(
        &self,
        request: Request<ReloadPoliciesRequest>,
    ) -> Result<Response<GetPoliciesResponse>, Status> {
        caller::operator(&request)?;
        policies::reload(self).await.map(Response::new)
    }

    async fn set_standing(
        &self,
        request: Request<SetStandingRequest>,
    ) -> Result<Response<SetStandingResponse>, Status> {
        let operator = caller::operator(&request)?;
        standing::set(self, operator, request.into_inner()).await.map(Response::new)
    }

    async fn list_standings(
        &self,
        request: Request<ListStandingsRequest>,
    ) -> Result<Response<ListStandingsResponse>, Status> {
        caller::operator(&request)?;
        Ok(Response::new(standing::list(self, request.get_ref())))
    }

    async fn approve(
        &self,
        request: Request<ApproveRequest>,
    ) -> Result<Response<ApproveResponse>, Status> {
        let operator = caller::operator(&request)?;
        approvals::approve(self, operator, request.into_inner()).await.map(Response::new)
    }

    async fn list_approvals(
        &self,
        request: Request<ListApprovalsRequest>,
    ) -> Result<Response<ListApprovalsResponse>, Status> {
        caller::operator(&request)?;
        approvals::list(self).map(Response::new)
    }
}
