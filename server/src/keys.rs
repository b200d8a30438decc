//! The key door: one-time keys for machines that are no TLS stacks of ours, such as routers, encryptors and
//! hosts, drawn in the way that they know.
//!
//! HTTPS between two X.509-SVIDs, as at the control door. Whoever draws a key names the other end; the other
//! end collects it by its name, once. Underneath it is the same ledger and the same policies as for
//! connections: to draw is `issue_psk`, to collect `redeem_psk` by name alone.
//!
//! ```text
//! minted ─► claimed by the initiator ─► claimed by the responder ─► nothing is answered any more
//!        enc_keys, /key              dec_keys, /key/{id}
//! ```
//!
//! The first two happen together, the last two as well: a key is derived for an answer and wiped with it, and
//! the record says whose turn it is. What was not collected within five minutes is gone.
//!
//! | path | look in |
//! |---|---|
//! | `/api/v1/keys/{SAE}/status`, `…/enc_keys`, `…/dec_keys` (ETSI GS QKD 014 V1.1.1) | `etsi`, `answer::etsi` |
//! | `/capabilities`, `/key`, `/key/{id}`, `/entropy` (draft-cisco-skip-02) | `skip`, `answer::skip` |
//!
//! | to find | look in |
//! |---|---|
//! | which path is which, and what stands in a query | `wanted` |
//! | how keys are called | `id` |
//! | drawing and collecting | `draw` |
//! | why there is no key, and what the caller is told | `refusal` |
//!
//! `docs/psk.md` is for those who draw.

mod answer;
mod draw;
mod etsi;
mod id;
mod refusal;
mod skip;
mod wanted;

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
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use metrics::counter;
use rustls::ServerConfig;
use serde::Serialize;
use tracing::info;
use zeroize::Zeroizing;

use crate::api::psk::Issuer;
use crate::config::{KeysConfig, Names};
use crate::direct::{call, reply};
use crate::load::{Caller, Class};
use crate::{metrics as recorded, peer};
#[cfg(test)]
pub(crate) use id::KeyId;
use refusal::Refusal;
use wanted::{Asked, Wanted};

/// Connections at a time; more are closed as soon as they are accepted.
const LIMITS: tls::Limits = tls::Limits {
    connections: 1_024,
    connections_per_ip: 256,
    handshakes: 256,
    handshakes_per_ip: 64,
    strangers: 1_024,
    strangers_per_ip: 256,
};

/// The most bytes of a body.
const MAX_BODY: usize = 16 << 10;

/// Requests at a time; most of their time they wait for the disk, together.
const WORKING: usize = 1_024;

/// The same of any one caller, so that nobody keeps out the others.
const WORKING_PER_CALLER: usize = 128;

/// The way from a request to its answer. Clones are handles to the same.
#[derive(Clone, Debug)]
pub(crate) struct Keys(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    issuer: Issuer,
    working: Slots<SpiffeId>,
    aliases: Names,
    systems: Names,
}

/// Opens the door as `config` says, until `tasks` stop. Returns where that is.
///
/// # Errors
///
/// [`tls::BindError`] if the address is taken or not ours.
pub(crate) async fn serve(
    config: &KeysConfig,
    tls: Arc<ServerConfig>,
    issuer: Issuer,
    tasks: &Tasks,
) -> Result<SocketAddr, tls::BindError> {
    let mut incoming = TlsIncoming::bind(config.listen, tls, LIMITS, tasks).await?;
    let address = incoming.addr();
    let working = Slots::new(WORKING, WORKING_PER_CALLER);
    let (aliases, systems) = (config.aliases.clone(), config.systems.clone());
    let keys = Keys(Arc::new(Inner { issuer, working, aliases, systems }));
    let connections = tasks.clone();
    tasks.spawn("key endpoint", |stop| async move {
        while let Some(Some(Ok(stream))) = stop.run_until_cancelled(incoming.next()).await {
            let (keys, peer) = (keys.clone(), stream.peer().clone());
            connections.spawn("key connection", |stop| async move {
                let answer =
                    |request: Request<Incoming>| keys.answer(request, peer.leaf().cloned());
                answer_each(stream, "keys", answer, stop).await;
                Ok(())
            });
        }
        Ok(())
    });
    Ok(address)
}

impl Keys {
    /// The answer to `request` of the caller who showed `leaf`.
    async fn answer<B>(&self, request: Request<B>, leaf: Option<Leaf>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        let wanted = Wanted::at(request.uri().path());
        let what = wanted.as_ref().map_or("nothing", Wanted::label);
        let is_skip = wanted.as_ref().is_some_and(Wanted::is_skip);
        let answered = Box::pin(self.0.serve(wanted, request, leaf.as_ref())).await;
        let outcome = if answered.is_ok() { "answered" } else { "refused" };
        counter!(recorded::KEY_REQUESTS, "what" => what, "outcome" => outcome).increment(1);
        answered.unwrap_or_else(|refusal| {
            let caller = leaf.map(|leaf| leaf.id().to_string());
            info!(what, caller, error = %Chain(&refusal), "request to the key door refused");
            refusal.into_response(is_skip)
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
        if !wanted.methods().contains(request.method()) {
            return Err(Refusal::Method(wanted.methods()));
        }
        let caller = peer::believe(&self.issuer.shared, leaf).await?;
        let _working = self.working.take(caller.clone())?;
        let load = &self.issuer.shared.load;
        let _room = load.admit(Caller::Identity(caller.clone()), class(&wanted))?;
        let (head, body) = request.into_parts();
        let body = read_body(body, MAX_BODY).await?;
        if !body.is_empty() && !call::is_json(&head.headers) {
            return Err(Refusal::malformed("send `Content-Type: application/json`"));
        }
        let asked = wanted.with(&head.method, head.uri.query(), &body)?;
        match asked {
            Asked::Etsi(asked) => answer::etsi::answer(self, caller, asked).await,
            Asked::Skip(asked) => answer::skip::answer(self, caller, asked).await,
        }
    }
}

/// What a request is worth when not everything can be done: whoever collects a key is waited for.
const fn class(wanted: &Wanted) -> Class {
    match wanted {
        Wanted::DecKeys(_) | Wanted::KeyOf(_) => Class::Redemption,
        Wanted::EncKeys(_) | Wanted::Key => Class::Issuance,
        Wanted::Status(_) | Wanted::Capabilities | Wanted::Entropy => Class::Other,
    }
}

/// An answer that is good. It may have a secret in it, which is wiped when it has left; `keys` bytes of
/// them.
fn json(answer: &impl Serialize, keys: usize) -> Result<Response<Full<Bytes>>, Refusal> {
    // Room for everything, as hexadecimal and with its name: a buffer that grows would leave pieces behind.
    let room = keys.saturating_mul(4).saturating_add(MAX_BODY);
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    serde_json::to_writer(&mut *text, answer).map_err(Refusal::Answer)?;
    Ok(reply::response(StatusCode::OK, reply::JSON, Bytes::from_owner(text)))
}
