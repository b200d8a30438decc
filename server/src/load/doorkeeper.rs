//! The gRPC services' door: who calls what, and whether there is room for it.

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use claviger_runtime::tls::TlsPeer;
use tonic::service::Routes;
use tonic::{Code, Status};

use super::{Caller, Class, Load, Overload};

/// When to try again, in seconds (RFC 9110 §10.2.3) and in milliseconds (gRFC A6).
const RETRY_AFTER: &str = "retry-after";
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// Stands before services and lets in what the server can take on.
#[derive(Clone, Debug)]
pub(crate) struct Doorkeeper(Load);

impl Doorkeeper {
    pub(crate) const fn new(load: Load) -> Self {
        Self(load)
    }

    /// `services`, with this one before them.
    pub(crate) fn before(self, services: Routes) -> Routes {
        services.into_axum_router().layer(from_fn_with_state(self, admit)).into()
    }
}

/// Answers `request` if there is room. What is a stream from then on is bounded by the connections.
async fn admit(
    State(Doorkeeper(load)): State<Doorkeeper>,
    request: Request,
    next: Next,
) -> Response {
    let Some(caller) = request.extensions().get::<TlsPeer>().map(caller) else {
        // A connection that says nothing of its other end is none of ours.
        return Status::internal("the caller is not known").into_http();
    };
    match load.admit(caller, class(request.uri().path())) {
        Ok(room) => {
            let response = next.run(request).await;
            drop(room);
            response
        }
        Err(overload) => Status::from(overload).into_http(),
    }
}

fn caller(peer: &TlsPeer) -> Caller {
    let id = peer.id().cloned().map(Caller::Identity);
    id.unwrap_or_else(|| Caller::Address(peer.addr().ip().to_canonical()))
}

/// What the method at `path` is worth.
fn class(path: &str) -> Class {
    match path {
        "/claviger.agent.v1.AgentPsk/RedeemPsk" => Class::Redemption,
        "/claviger.agent.v1.AgentPsk/IssuePsk"
        | "/spire.api.server.agent.v1.Agent/AttestAgent"
        | "/spire.api.server.agent.v1.Agent/RenewAgent"
        | "/claviger.agent.v1.AgentSync/Subscribe" => Class::Issuance,
        _ if path.starts_with("/spire.api.server.svid.v1.SVID/") => Class::Issuance,
        _ => Class::Other,
    }
}

impl From<Overload> for Status {
    fn from(overload: Overload) -> Self {
        let mut status = Self::new(Code::ResourceExhausted, overload.to_string());
        let millis = u64::try_from(overload.wait.as_millis()).unwrap_or(u64::MAX).max(1);
        let metadata = status.metadata_mut();
        metadata.insert(RETRY_AFTER, overload.seconds().into());
        metadata.insert(PUSHBACK, millis.into());
        status
    }
}
