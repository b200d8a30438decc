//! The control door: decisions for gateways, and signals of risk from other systems.
//!
//! HTTPS between two X.509-SVIDs of the trust domain: whoever has none is not let in. Each request is
//! looked at anew: whether the caller's SVID has ended or was revoked, whether it is in quarantine, and
//! whether policies permit it to ask about this subject. Each handler reads from top to bottom: parse,
//! decide, record, answer.
//!
//! | path | answer | look in |
//! |---|---|---|
//! | `POST /v1/authorize`, `/access/v1/evaluation` | one decision (AuthZEN Authorization API 1.0 §6) | `authorize` |
//! | `POST /access/v1/evaluations` | several (§7) | `batch` |
//! | `POST /v1/risk` | how an identity stands now | `risk` |
//! | `GET /.well-known/authzen-configuration` | where these are (§9) | `metadata` |
//!
//! | to find | look in |
//! |---|---|
//! | what a body says, and the question that it is | `wire`, `asked` |
//! | what is written down of each decision | `record` |
//! | why there is no answer, and what the caller is told | `refusal` |
//!
//! `docs/policy.md` is for those who ask.

mod asked;
mod authorize;
mod batch;
mod metadata;
mod record;
mod refusal;
mod risk;
mod wire;

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use claviger_core::id::SpiffeId;
use claviger_runtime::http::{answer_each, read_body};
use claviger_runtime::slots::Slots;
use claviger_runtime::tasks::Tasks;
use claviger_runtime::telemetry::Chain;
use claviger_runtime::tls::{self, Leaf, TlsIncoming};
use futures_util::StreamExt as _;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use metrics::counter;
use rustls::ServerConfig;
use serde::Serialize;
use tracing::info;

use crate::api::Shared;
use crate::direct::{call, reply};
use crate::{load, metrics as names, peer};
use refusal::Refusal;

/// Connections at a time; more are closed as soon as they are accepted. Gateways keep theirs open.
const LIMITS: tls::Limits = tls::Limits {
    connections: 1_024,
    connections_per_ip: 256,
    handshakes: 256,
    handshakes_per_ip: 64,
    strangers: 1_024,
    strangers_per_ip: 256,
};

/// The most bytes of a body.
const MAX_BODY: usize = 64 << 10;

/// Requests at a time; most of their time they wait for the disk, together.
const WORKING: usize = 1_024;

/// The same of any one caller, so that nobody keeps out the others.
const WORKING_PER_CALLER: usize = 256;

/// The way from a gateway's question to its answer. Clones are handles to the same.
#[derive(Clone, Debug)]
pub(crate) struct Control(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Shared,
    working: Slots<SpiffeId>,
    /// Where the door is, for those who ask for it without saying.
    address: String,
}

/// What can be asked for.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    Evaluation,
    Evaluations,
    Risk,
    Metadata,
}

impl Wanted {
    fn at(path: &str) -> Option<Self> {
        match path {
            "/v1/authorize" | "/access/v1/evaluation" => Some(Self::Evaluation),
            "/access/v1/evaluations" => Some(Self::Evaluations),
            "/v1/risk" => Some(Self::Risk),
            metadata::PATH => Some(Self::Metadata),
            _ => None,
        }
    }

    /// The value of a metric's label.
    const fn label(self) -> &'static str {
        match self {
            Self::Evaluation => "evaluation",
            Self::Evaluations => "evaluations",
            Self::Risk => "risk",
            Self::Metadata => "metadata",
        }
    }
}

/// Opens the door at `listen`, until `tasks` stop. Returns where that is.
///
/// # Errors
///
/// [`tls::BindError`] if the address is taken or not ours.
pub(crate) async fn serve(
    listen: SocketAddr,
    tls: Arc<ServerConfig>,
    shared: Shared,
    tasks: &Tasks,
) -> Result<SocketAddr, tls::BindError> {
    let mut incoming = TlsIncoming::bind(listen, tls, LIMITS, tasks).await?;
    let address = incoming.addr();
    let control = Control::new(shared, address.to_string());
    let connections = tasks.clone();
    tasks.spawn("control endpoint", |stop| async move {
        while let Some(Some(Ok(stream))) = stop.run_until_cancelled(incoming.next()).await {
            let (control, peer) = (control.clone(), stream.peer().clone());
            connections.spawn("control connection", |stop| async move {
                let answer =
                    |request: Request<Incoming>| control.answer(request, peer.leaf().cloned());
                answer_each(stream, "control", answer, stop).await;
                Ok(())
            });
        }
        Ok(())
    });
    Ok(address)
}

impl Control {
    fn new(shared: Shared, address: String) -> Self {
        let working = Slots::new(WORKING, WORKING_PER_CALLER);
        Self(Arc::new(Inner { shared, working, address }))
    }

    /// The answer to `request` of the caller who showed `leaf`.
    async fn answer<B>(&self, request: Request<B>, leaf: Option<Leaf>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        let wanted = Wanted::at(request.uri().path());
        let caller = leaf.as_ref().map(|leaf| leaf.id().to_string());
        let answered = Box::pin(self.0.serve(wanted, request, leaf.as_ref())).await;
        let what = wanted.map_or("nothing", Wanted::label);
        let outcome = if answered.is_ok() { "answered" } else { "refused" };
        counter!(names::CONTROL_REQUESTS, "what" => what, "outcome" => outcome).increment(1);
        answered.unwrap_or_else(|refusal| {
            info!(what, caller, error = %Chain(&refusal), "request to the control door refused");
            refusal.problem().into_response()
        })
    }
}

impl Inner {
    async fn serve<B>(
        &self,
        wanted: Option<Wanted>,
        request: Request<B>,
        leaf: Option<&Leaf>,
    ) -> Result<Response<Full<Bytes>>, Refusal>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        let wanted = wanted.ok_or(Refusal::NoSuchPath)?;
        let method = if matches!(wanted, Wanted::Metadata) { Method::GET } else { Method::POST };
        if *request.method() != method {
            return Err(Refusal::Method(method));
        }
        let caller = peer::believe(&self.shared, leaf).await?;
        let _working = self.working.take(caller.clone())?;
        let from = load::Caller::Identity(caller.clone());
        // Somebody waits for the answer, as for a credential.
        let _room = self.shared.load.admit(from, load::Class::Issuance)?;
        if matches!(wanted, Wanted::Metadata) {
            return metadata::answer(&self.address, &request);
        }
        let (head, body) = request.into_parts();
        if !call::is_json(&head.headers) {
            return Err(Refusal::NotJson);
        }
        let body = read_body(body, MAX_BODY).await?;
        match wanted {
            Wanted::Evaluation => json(&authorize::one(self, caller, &body).await?),
            Wanted::Evaluations => batch::several(self, caller, &body).await,
            Wanted::Risk => json(&risk::signal(self, caller, &body).await?),
            Wanted::Metadata => Err(Refusal::NoSuchPath),
        }
    }
}

/// An answer that is good.
fn json(answer: &impl Serialize) -> Result<Response<Full<Bytes>>, Refusal> {
    let text = serde_json::to_vec(answer).map_err(Refusal::Answer)?;
    Ok(reply::response(StatusCode::OK, reply::JSON, Bytes::from(text)))
}
