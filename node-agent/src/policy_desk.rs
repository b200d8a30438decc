//! Decisions on this machine, by the policies that the server signed.
//!
//! | to find | look in |
//! |---|---|
//! | what a program asks, and what it is told | `authorize` |
//! | what those decide by who decide by themselves | `watch` |
//!
//! Whoever asks is known as on the Workload API, and has to be one of the two ends of what it asks
//! about. An answer says no more than the policies do; what the operator has to know is in the log.

mod authorize;
mod watch;

use claviger_proto::claviger::policy::v1::policy_desk_server;
use claviger_proto::claviger::policy::v1::{
    AuthorizeRequest, AuthorizeResponse, WatchRequest, WatchResponse,
};
use tonic::{Request, Response, Status, async_trait};

use crate::attestation::peer;
use crate::metrics::counted;
use crate::policies::Policies;
use crate::standings::Standings;
use crate::streams::{Desk, Responses};
use crate::workload_api::require_header;

/// The desk.
#[derive(Clone, Debug)]
pub(crate) struct PolicyDesk {
    /// Where its callers are served.
    pub(crate) desk: Desk,
    /// What is decided by.
    pub(crate) policies: Policies,
    /// How identities stand.
    pub(crate) standings: Standings,
}

#[async_trait]
impl policy_desk_server::PolicyDesk for PolicyDesk {
    type WatchStream = Responses<WatchResponse>;

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        require_header(request.metadata())?;
        let peer = peer(&request)?;
        counted("WatchPolicies", watch::open(self, peer).await)
    }

    async fn authorize(
        &self,
        request: Request<AuthorizeRequest>,
    ) -> Result<Response<AuthorizeResponse>, Status> {
        require_header(request.metadata())?;
        let (peer, asked) = (peer(&request)?, request.into_inner());
        counted("Authorize", authorize::authorize(self, &peer, asked).await.map_err(Into::into))
    }
}

#[cfg(test)]
mod tests;
