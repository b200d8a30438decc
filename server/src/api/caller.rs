//! Who calls. Each method demands one class of caller in its first line.

use std::sync::Arc;

use claviger_core::grant::Requester;
use claviger_proto::spire::types::{PermissionDeniedDetails, permission_denied_details::Reason};
use claviger_runtime::telemetry::Chain;
use claviger_runtime::tls::TlsPeer;
use claviger_runtime::unix::Peer;
use metrics::counter;
use prost::Message as _;
use tonic::{Code, Request, Status};
use tracing::{debug, warn};

use super::not_committed;
use crate::metrics as names;
use crate::registry::agents::{Agent, NotAnAgent};
use crate::registry::{AuthenticateError, Registry};

/// The operator, on the admin socket: root, or the user that the server runs as.
///
/// # Errors
///
/// `PERMISSION_DENIED` for everybody else.
pub(crate) fn operator<T>(request: &Request<T>) -> Result<Requester, Status> {
    let uid = request.extensions().get::<Peer>().map(Peer::uid);
    let own = rustix::process::geteuid().as_raw();
    match uid {
        Some(uid) if uid == 0 || uid == own => Ok(Requester::Operator { uid }),
        Some(uid) => {
            refused("operator");
            Err(Status::permission_denied(format!(
                "user {uid} is not the operator; run this as root or as user {own}"
            )))
        }
        None => {
            refused("operator");
            Err(Status::permission_denied("this method is for the admin socket only"))
        }
    }
}

/// An attested agent, by the SVID it showed when it connected.
///
/// # Errors
///
/// `PERMISSION_DENIED` if there was none, or if it is not that of an agent any more; with SPIRE's
/// reason, so that its agents know what to do.
pub(crate) async fn agent<T>(
    registry: &Registry,
    request: &Request<T>,
) -> Result<Arc<Agent>, Status> {
    let shown = request.extensions().get::<TlsPeer>().and_then(|peer| {
        let (id, leaf) = (peer.id()?, peer.leaf()?);
        Some((id.clone(), leaf.serial().to_vec()))
    });
    let Some((id, serial)) = shown else {
        refused("agent");
        return Err(Status::permission_denied("this method is for attested agents only"));
    };
    match registry.authenticate(&id, &serial).await {
        Ok(agent) => Ok(agent),
        Err(AuthenticateError::NotAnAgent(why)) => {
            refused("agent");
            debug!(%id, %why, "caller is no agent");
            Err(not_an_agent(why))
        }
        Err(AuthenticateError::Commit(error)) => {
            warn!(%id, error = %Chain(&error), "cannot take up an agent's new SVID");
            Err(not_committed(&error))
        }
    }
}

/// The agent as the audit log names it.
pub(crate) fn requester(agent: &Agent) -> Requester {
    Requester::Agent(agent.id.clone())
}

/// What SPIRE's agents understand: a status with the reason in its details.
fn not_an_agent(why: NotAnAgent) -> Status {
    let reason = match why {
        NotAnAgent::Unknown => Reason::AgentNotAttested,
        NotAnAgent::NotActive => Reason::AgentNotActive,
        NotAnAgent::Banned => Reason::AgentBanned,
    };
    let details = PermissionDeniedDetails { reason: reason.into() };
    let status = RpcStatus {
        code: Code::PermissionDenied.into(),
        message: why.to_string(),
        details: vec![prost_types::Any {
            type_url: "type.googleapis.com/spire.api.types.PermissionDeniedDetails".to_owned(),
            value: details.encode_to_vec(),
        }],
    };
    let details = status.encode_to_vec().into();
    Status::with_details(Code::PermissionDenied, why.to_string(), details)
}

/// `google.rpc.Status`, which carries the details of a gRPC status.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

fn refused(class: &'static str) {
    counter!(names::CALLERS_REFUSED, "demanded" => class).increment(1);
}
