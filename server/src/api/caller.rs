//! Who calls. Each method demands one class of caller in its first line.

use std::sync::Arc;

use claviger_core::entry::EntryId;
use claviger_core::grant::Requester;
use claviger_core::id::SpiffeId;
use claviger_core::time::UnixTime;
use claviger_proto::spire::types::{PermissionDeniedDetails, permission_denied_details::Reason};
use claviger_runtime::telemetry::Chain;
use claviger_runtime::tls::TlsPeer;
use claviger_runtime::unix::Peer;
use metrics::counter;
use prost::Message as _;
use tonic::{Code, Request, Status};
use tracing::{debug, warn};

use super::{Shared, not_committed};
use crate::metrics as names;
use crate::registry::AuthenticateError;
use crate::registry::agents::{Agent, NotAnAgent};

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

/// Whoever may do what the operator does: the operator on the admin socket, and over the network an
/// identity that a live entry or the configuration lets administrate. It is looked up at each call,
/// so that an entry that goes takes the right along.
///
/// # Errors
///
/// `PERMISSION_DENIED` for everybody else.
pub(crate) fn administrator<T>(shared: &Shared, request: &Request<T>) -> Result<Requester, Status> {
    let Some(leaf) = request.extensions().get::<TlsPeer>().and_then(TlsPeer::leaf) else {
        return operator(request);
    };
    let id = leaf.id();
    // It was valid when the connection began, which may be long ago.
    if leaf.not_after() < shared.now() {
        refused("administrator");
        return Err(Status::permission_denied("the caller's SVID has expired"));
    }
    if shared.storage.standings.of(id).quarantined {
        refused("administrator");
        return Err(Status::permission_denied("the caller is in quarantine"));
    }
    // The broker's own names are those of agents and servers, whatever anybody says.
    let may = !id.is_reserved()
        && (shared.admin_ids.contains(id) || shared.registry.is_administrator(id));
    if !may {
        refused("administrator");
        debug!(%id, "caller is no administrator");
        return Err(Status::permission_denied(
            "this method is for the admin socket only, or for an identity whose entry says `admin`",
        ));
    }
    Ok(Requester::Admin(id.clone()))
}

/// A server that signs below this one: an identity whose entry, at this moment, says `downstream`.
/// With it comes the name of that entry.
///
/// # Errors
///
/// `PERMISSION_DENIED` for everybody else.
pub(crate) fn downstream<T>(
    shared: &Shared,
    request: &Request<T>,
) -> Result<(SpiffeId, EntryId), Status> {
    let denied = || {
        refused("downstream");
        Status::permission_denied(
            "this method is for servers whose entry says `downstream`, by their X.509-SVID",
        )
    };
    let leaf = request.extensions().get::<TlsPeer>().and_then(TlsPeer::leaf);
    let leaf = leaf.filter(|leaf| shared.now() <= leaf.not_after()).ok_or_else(denied)?;
    if shared.storage.standings.of(leaf.id()).quarantined {
        return Err(denied());
    }
    let entry = shared.registry.downstream(leaf.id()).ok_or_else(denied)?;
    Ok((leaf.id().clone(), entry.id))
}

/// An administrator, or an attested agent.
///
/// # Errors
///
/// `PERMISSION_DENIED` for everybody else.
pub(crate) async fn administrator_or_agent<T>(
    shared: &Shared,
    request: &Request<T>,
) -> Result<(), Status> {
    let leaf = request.extensions().get::<TlsPeer>().and_then(TlsPeer::leaf);
    if leaf.is_some_and(|leaf| leaf.id().is_reserved()) {
        agent(shared, request).await.map(drop)
    } else {
        administrator(shared, request).map(drop)
    }
}

/// An attested agent, by the SVID it showed when it connected.
///
/// # Errors
///
/// `PERMISSION_DENIED` if there was none, or if it is not that of an agent any more; with SPIRE's
/// reason, so that its agents know what to do.
pub(crate) async fn agent<T>(shared: &Shared, request: &Request<T>) -> Result<Arc<Agent>, Status> {
    let (agent, _until) = agent_until(shared, request).await?;
    check_standing(shared, &agent)?;
    Ok(agent)
}

/// Whether an agent may act as it stands.
///
/// # Errors
///
/// `UNAVAILABLE` for one in quarantine, which learns that way of its end; `PERMISSION_DENIED` for one that
/// has not shown its evidence since something was said of it, with SPIRE's reason.
pub(crate) fn check_standing(shared: &Shared, agent: &Agent) -> Result<(), Status> {
    let standing = shared.storage.standings.of(&agent.id);
    if standing.quarantined {
        refused("agent");
        return Err(Status::unavailable("the agent is in quarantine"));
    }
    if agent.has_shown_since(standing.version) {
        return Ok(());
    }
    refused("agent");
    if agent.reattestable {
        return Err(must_reattest());
    }
    Err(denied(
        Reason::AgentNotAttested,
        "the agent's evidence is older than what was said of it, and it can show it only once",
    ))
}

/// The agent, whichever way it stands, and the last second at which it may act on this connection.
///
/// # Errors
///
/// As [`agent`].
pub(crate) async fn agent_until<T>(
    shared: &Shared,
    request: &Request<T>,
) -> Result<(Arc<Agent>, UnixTime), Status> {
    let peer = request.extensions().get::<TlsPeer>();
    let Some(leaf) = peer.and_then(TlsPeer::leaf) else {
        refused("agent");
        return Err(Status::permission_denied("this method is for attested agents only"));
    };
    // It was valid when the connection began, which may be long ago.
    if leaf.not_after() < shared.now() {
        refused("agent");
        return Err(expired());
    }
    let id = leaf.id();
    match shared.registry.authenticate(id, leaf.serial()).await {
        // A downstream server signs in our name, and can give its certificates any serial number.
        Ok(agent) if agent.svid.key != leaf.key() => {
            refused("agent");
            warn!(%id, "the serial number of an agent's SVID was shown with another key");
            Err(not_an_agent(NotAnAgent::NotActive))
        }
        Ok(agent) => Ok((agent, leaf.not_after())),
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

/// The SVID by which an agent was let in is over.
pub(crate) fn expired() -> Status {
    denied(Reason::AgentExpired, "the agent's SVID has expired")
}

/// This agent has better than to renew: evidence that it can show again.
pub(crate) fn must_reattest() -> Status {
    denied(Reason::AgentMustReattest, "this agent renews by attesting again")
}

/// The agent as the audit log names it.
pub(crate) fn requester(agent: &Agent) -> Requester {
    Requester::Agent(agent.id.clone())
}

fn not_an_agent(why: NotAnAgent) -> Status {
    let reason = match why {
        NotAnAgent::Unknown => Reason::AgentNotAttested,
        NotAnAgent::NotActive => Reason::AgentNotActive,
        NotAnAgent::Banned => Reason::AgentBanned,
    };
    denied(reason, &why.to_string())
}

/// What SPIRE's agents understand: a status with the reason in its details.
fn denied(reason: Reason, text: &str) -> Status {
    let details = PermissionDeniedDetails { reason: reason.into() };
    let status = RpcStatus {
        code: Code::PermissionDenied.into(),
        message: text.to_owned(),
        details: vec![prost_types::Any {
            type_url: "type.googleapis.com/spire.api.types.PermissionDeniedDetails".to_owned(),
            value: details.encode_to_vec(),
        }],
    };
    Status::with_details(Code::PermissionDenied, text, status.encode_to_vec().into())
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
