//! The admin socket: what an operator asks of the agent, and what those may ask who act for
//! workloads.
//!
//! | to find | look in |
//! |---|---|
//! | why a process has the identities that it has, and no others | `why` |
//! | SVIDs for those who act for workloads | [`crate::delegated`] |
//!
//! The socket's mode says who may connect, and each service asks again: an operator is root or the
//! agent's own user; a delegate has an identity that the configuration lists.

mod why;

use std::sync::{Arc, OnceLock};

use claviger_core::id::SpiffeId;
use claviger_proto::claviger::node::v1::node_admin_server::{
    NodeAdmin as Service, NodeAdminServer,
};
use claviger_proto::claviger::node::v1::{ExplainRequest, ExplainResponse};
use claviger_proto::spire::agent::delegatedidentity::v1::delegated_identity_server::DelegatedIdentityServer;
use claviger_runtime::grpc;
use claviger_runtime::tasks::Tasks;
use claviger_runtime::unix::{BindError, Limits, Listener};
use tonic::{Request, Response, Status, async_trait};

use crate::attestation::{is_operator, peer};
use crate::config;
use crate::delegated::Delegates;
use crate::metrics::counted;
use crate::streams::Desk;

/// The most bytes of one request: the longest selectors there can be, and then some.
const MAX_REQUEST: usize = 1 << 20;

/// Opens the socket.
pub(crate) fn open(
    socket: &config::AdminSocket,
    limits: Limits,
    services: Services,
    tasks: &Tasks,
) -> Result<(), BindError> {
    let listener = Listener::bind(&socket.path, socket.mode, limits)?;
    let Services { admin, delegates } = services;
    let router = grpc::local_server(tasks)
        .add_service(NodeAdminServer::new(admin).max_decoding_message_size(MAX_REQUEST))
        .add_service(
            DelegatedIdentityServer::new(delegates).max_decoding_message_size(MAX_REQUEST),
        );
    tasks.spawn("admin socket", |stop| async move {
        let incoming = listener.incoming();
        Ok(router.serve_with_incoming_shutdown(incoming, stop.cancelled()).await?)
    });
    Ok(())
}

/// What is served there.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) admin: NodeAdmin,
    pub(crate) delegates: Delegates,
}

/// For the operator.
#[derive(Clone, Debug)]
pub(crate) struct NodeAdmin {
    /// Where callers are looked at.
    pub(crate) desk: Desk,
    /// Who the agent is, once it is somebody.
    pub(crate) agent: Arc<OnceLock<SpiffeId>>,
}

#[async_trait]
impl Service for NodeAdmin {
    async fn explain(
        &self,
        request: Request<ExplainRequest>,
    ) -> Result<Response<ExplainResponse>, Status> {
        let peer = peer(&request)?;
        if !is_operator(peer.uid()) {
            let refusal = "only root and the agent's own user may ask";
            return counted("Explain", Err(Status::permission_denied(refusal)));
        }
        counted("Explain", why::explain(self, request.into_inner()).await)
    }
}

#[cfg(test)]
mod tests;
