//! The gRPC services' door: who calls what, and whether there is room for it.
//!
//! A request has its room from its first headers on, so whoever never sends the rest of it holds that room.
//! Therefore agents, of which each was admitted, are told apart from all others, who are let in for less:
//!
//! | who | which methods | at a time |
//! |---|---|---|
//! | strangers, who showed no SVID | those that are meant for them | one address an eighth of all requests, |
//! | identities that are no agents | all; each asks again who calls | one identity as well; together a quarter |
//! | agents | all | whatever there is |

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use claviger_proto::pushback;
use claviger_runtime::comeback::SHORTEST;
use claviger_runtime::slots::{Full, Slot, Slots};
use claviger_runtime::tls::TlsPeer;
use tonic::service::Routes;
use tonic::{Code, Status};

use super::{Caller, Class, Load, Overload, Room, Why, refuse};

/// When to try again, in seconds (RFC 9110 §10.2.3).
const RETRY_AFTER: &str = "retry-after";

/// Stands before services and lets in what the server can take on.
#[derive(Clone, Debug)]
pub(crate) struct Doorkeeper {
    load: Load,
    /// What callers that are no agents have taken.
    others: Slots<Caller>,
}

impl Doorkeeper {
    /// One that lets in as much as `load` admits, where `requests` is the most at a time.
    pub(crate) fn new(load: Load, requests: usize) -> Self {
        let others = Slots::new((requests / 4).max(1), (requests / 8).max(1));
        Self { load, others }
    }

    /// `services`, with this one before them.
    pub(crate) fn before(self, services: Routes) -> Routes {
        services.into_axum_router().layer(from_fn_with_state(self, admit)).into()
    }

    /// Room for a request of `peer` for the method at `path`.
    fn admit(&self, peer: &TlsPeer, path: &str) -> Result<(Room, Option<Slot<Caller>>), Status> {
        let Some(id) = peer.id() else {
            if !is_for_strangers(path) {
                return Err(Status::permission_denied(
                    "this method is not for strangers; connect with an X.509-SVID",
                ));
            }
            return self.admit_other(Caller::Address(peer.addr().ip().to_canonical()), path);
        };
        let caller = Caller::Identity(id.clone());
        if !id.is_reserved() {
            return self.admit_other(caller, path);
        }
        Ok((self.load.admit(caller, class(path))?, None))
    }

    fn admit_other(
        &self,
        caller: Caller,
        path: &str,
    ) -> Result<(Room, Option<Slot<Caller>>), Status> {
        // Only agents redeem.
        let class = class(path).min(Class::Issuance);
        let room = self.load.admit(caller.clone(), class)?;
        let slot = self.others.take(caller).map_err(|full| match full {
            Full::Overall(_) => self.load.full(class),
            Full::PerCaller(_) => refuse(Why::Caller, SHORTEST, class),
        })?;
        Ok((room, Some(slot)))
    }
}

/// Answers `request` if there is room. What is a stream from then on is bounded by the connections.
async fn admit(State(doorkeeper): State<Doorkeeper>, request: Request, next: Next) -> Response {
    let Some(peer) = request.extensions().get::<TlsPeer>() else {
        // A connection that says nothing of its other end is none of ours.
        return Status::internal("the caller is not known").into_http();
    };
    match doorkeeper.admit(peer, request.uri().path()) {
        Ok(room) => {
            let response = next.run(request).await;
            drop(room);
            response
        }
        Err(refusal) => refusal.into_http(),
    }
}

/// Whether the method at `path` has anything for callers without an SVID: to become somebody, to learn whom
/// to believe, and to ask whether the server works.
fn is_for_strangers(path: &str) -> bool {
    matches!(
        path,
        "/spire.api.server.agent.v1.Agent/AttestAgent"
            | "/spire.api.server.bundle.v1.Bundle/GetBundle"
    ) || path.starts_with("/grpc.health.v1.Health/")
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
        status.metadata_mut().insert(RETRY_AFTER, overload.seconds().into());
        pushback::set(&mut status, overload.wait);
        match overload.why {
            Why::All | Why::Requests => pushback::set_crowded(&mut status),
            Why::Caller | Why::Identity => {}
        }
        status
    }
}
