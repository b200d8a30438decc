//! Direct attestation: evidence in, a credential out, in one HTTPS call and with no agent.
//!
//! For programs that live for minutes on machines of others, such as CI jobs and functions. Each
//! handler reads from top to bottom: parse, verify, find the entry, decide, record, issue, answer.
//!
//! | path | answer | look in |
//! |---|---|---|
//! | `POST /v1/challenge` | a nonce for evidence that carries one | `challenge` |
//! | `POST /v1/svid/x509` | an X.509-SVID for the key of a certificate request | `x509` |
//! | `POST /v1/svid/jwt` | a JWT-SVID | `jwt` |
//! | `POST /v1/psk` | a one-time PSK, bound to the run that the evidence names | `psk` |
//! | `GET /openapi.json` | what all of them take and give | `openapi` |
//!
//! | to find | look in |
//! |---|---|
//! | what is read of a request, and of its body | `call`, `wire` |
//! | from evidence to the entry that it earns | `attested` |
//! | why there is no credential, and what the caller is told | `fault`, `refusal`, `problem` |
//! | how an answer is written, and wiped | `reply` |
//! | how it is sealed to a caller whose connection somebody else can read | `sealed` |
//!
//! `docs/direct-attestation.md` is for those who call.

mod attested;
pub(crate) mod call;
mod challenge;
mod fault;
mod jwt;
mod openapi;
pub(crate) mod problem;
mod psk;
mod refusal;
pub(crate) mod reply;
mod sealed;
#[cfg(test)]
mod tests;
pub(crate) mod wire;
mod x509;

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use bytes::Bytes;
use claviger_runtime::slots::Slots;
use claviger_runtime::telemetry::Chain;
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::Body;
use metrics::counter;
use tokio::time::{Instant, sleep_until};
use tracing::info;

use crate::api::Shared;
use crate::api::psk::Issuer;
use crate::api::svid::Lifetimes;
use crate::load::{Caller, Class};
use crate::metrics as names;
use crate::verifiers::Verifiers;
use call::Call;
use challenge::Pace;
use fault::Fault;
use refusal::Refusal;

/// Requests at a time whose evidence is verified. Each takes a millisecond or two, unless the keys of
/// an issuer have to be fetched first.
const WORKING: usize = 256;

/// The same for any one address, so that nobody keeps out the others.
const WORKING_PER_IP: usize = 64;

/// A stranger is refused this long after the request came, so that nobody can tell how far it got;
/// and up to [`JITTER`] later.
const PAUSE: Duration = Duration::from_millis(100);

/// What is added to [`PAUSE`] at random.
const JITTER: Duration = Duration::from_millis(50);

/// The way from evidence to a credential. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Direct(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Shared,
    verifiers: Verifiers,
    lifetimes: Lifetimes,
    psks: Issuer,
    pace: Pace,
    working: Slots<Option<IpAddr>>,
}

/// What can be asked for.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    Challenge,
    X509,
    Jwt,
    Psk,
}

impl Wanted {
    fn at(path: &str) -> Option<Self> {
        match path {
            "/v1/challenge" => Some(Self::Challenge),
            "/v1/svid/x509" => Some(Self::X509),
            "/v1/svid/jwt" => Some(Self::Jwt),
            "/v1/psk" => Some(Self::Psk),
            _ => None,
        }
    }

    /// The value of a metric's label.
    const fn label(self) -> &'static str {
        match self {
            Self::Challenge => "challenge",
            Self::X509 => "x509",
            Self::Jwt => "jwt",
            Self::Psk => "psk",
        }
    }
}

impl Direct {
    /// Direct attestation with what the services share, for evidence that `verifiers` believe. PSKs
    /// come from `psks`.
    #[must_use]
    pub(crate) fn new(
        shared: Shared,
        verifiers: Verifiers,
        lifetimes: Lifetimes,
        psks: Issuer,
    ) -> Self {
        let working = Slots::new(WORKING, WORKING_PER_IP);
        Self(Arc::new(Inner { shared, verifiers, lifetimes, psks, pace: Pace::new(), working }))
    }

    /// Whether what is at `path` is for [`Self::answer`] to say.
    pub(crate) fn is_at(path: &str) -> bool {
        path == openapi::PATH || path.starts_with("/v1/")
    }

    /// The answer to `request`, which came from the address `caller` unless a proxy was in between.
    pub(crate) async fn answer<B>(
        &self,
        request: Request<B>,
        caller: Option<IpAddr>,
    ) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        let begun = Instant::now();
        if request.uri().path() == openapi::PATH {
            return openapi::answer(request.method());
        }
        let wanted = Wanted::at(request.uri().path());
        let answered = self.issue(wanted, request, caller).await;
        let outcome = if answered.is_ok() { "issued" } else { "refused" };
        let what = wanted.map_or("nothing", Wanted::label);
        counter!(names::DIRECT_REQUESTS, "what" => what, "outcome" => outcome).increment(1);
        match answered {
            Ok(answer) => answer,
            Err(refusal) => {
                info!(what, caller = ?caller, error = %Chain(&refusal), "no credential issued");
                if refusal.is_for_strangers() {
                    sleep_until(begun + PAUSE + jitter()).await;
                }
                refusal.problem().into_response()
            }
        }
    }

    async fn issue<B>(
        &self,
        wanted: Option<Wanted>,
        request: Request<B>,
        caller: Option<IpAddr>,
    ) -> Result<Response<Full<Bytes>>, Refusal>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        let wanted = wanted.ok_or(Fault::NoSuchPath)?;
        if request.method() != Method::POST {
            return Err(Fault::Method.into());
        }
        let _working = self.0.working.take(caller).map_err(Fault::Busy)?;
        let from = caller.map_or(Caller::Proxy, Caller::Address);
        let _room = self.0.shared.load.admit(from, Class::Issuance).map_err(Fault::Overload)?;
        let call = Call::read(request, caller).await?;
        match wanted {
            Wanted::Challenge => challenge::issue(&self.0, &call),
            Wanted::X509 => x509::issue(&self.0, &call).await,
            Wanted::Jwt => jwt::issue(&self.0, &call).await,
            Wanted::Psk => psk::issue(&self.0, &call).await,
        }
    }
}

/// A part of [`JITTER`]. Without random bytes there is none, and nothing is issued either.
fn jitter() -> Duration {
    let mut random = [0];
    match rand::fill(&mut random) {
        Ok(()) => JITTER.saturating_mul(random.map(u32::from).iter().sum()) / 256,
        Err(_unspecified) => JITTER,
    }
}
