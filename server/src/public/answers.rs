//! Who is answered what.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use claviger_core::bundle::Bundle;
use claviger_core::bundle::json::{self, Use};
use claviger_runtime::health::Health;
use claviger_runtime::telemetry::Chain;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use metrics::counter;
use serde::Serialize;
use tokio::sync::watch;
use tracing::error;

use super::Shown;
use crate::audit::served::{self, Served};
use crate::config::{IssuerUrl, PublicConfig};
use crate::direct::Direct;
use crate::metrics as names;

/// Where clients look for the document (OpenID Connect Discovery 1.0 §4).
const DISCOVERY: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/keys";
const BUNDLE: &str = "/bundle";

/// The longest that answers may be kept: as often as a bundle should be asked for.
const LONGEST_AGE: Duration = Duration::from_secs(300);

/// Everything it takes to answer.
#[derive(Debug)]
pub(super) struct Answers {
    issuer: Option<IssuerUrl>,
    hosts: Vec<String>,
    bundle: watch::Receiver<Arc<Bundle>>,
    health: Health,
    /// Credentials for programs without an agent.
    direct: Option<Direct>,
    /// The audit log, if strangers may read it.
    log: Option<Served>,
    /// How long answers may be kept, as `Cache-Control` has it.
    keep: HeaderValue,
}

/// The discovery document. We sign with ES256, and do nothing else that OpenID providers do: of the
/// other members there are those without which clients refuse it.
#[derive(Serialize)]
struct Discovery<'a> {
    issuer: &'a str,
    jwks_uri: String,
    authorization_endpoint: &'static str,
    response_types_supported: [&'static str; 1],
    subject_types_supported: [&'static str; 1],
    id_token_signing_alg_values_supported: [&'static str; 1],
}

impl Answers {
    pub(super) fn new(config: &PublicConfig, shown: Shown) -> Self {
        let Shown { ahead, bundle, health, direct, log } = shown;
        let age = ahead.min(LONGEST_AGE).as_secs();
        let keep = HeaderValue::from_str(&format!("public, max-age={age}"));
        Self {
            issuer: config.issuer.clone(),
            hosts: config.hosts.clone(),
            bundle,
            health,
            direct,
            log,
            keep: keep.unwrap_or(NO_STORE),
        }
    }

    /// The answer to `request`, which came from the address `caller` unless a proxy was in between.
    pub(super) async fn to(
        &self,
        request: Request<Incoming>,
        caller: Option<IpAddr>,
    ) -> Response<Full<Bytes>> {
        let direct = self.direct.as_ref().filter(|_| Direct::is_at(request.uri().path()));
        let log = self.log.as_ref().filter(|_| Served::is_at(request.uri().path()));
        let response = match (direct, log, self.check_host(&request)) {
            (Some(direct), _, Ok(())) => direct.answer(request, caller).await,
            (None, Some(log), Ok(())) if *request.method() == Method::GET => {
                Self::of_log(log.answer(request.uri().path()).await)
            }
            (Some(_), _, Err(status)) => refusal(status).map(Full::from),
            (None, _, _) => self.find(&request).map(Full::from),
        };
        let status = response.status().as_str().to_owned();
        counter!(names::PUBLIC_REQUESTS, "status" => status).increment(1);
        response
    }

    /// A part of the audit log.
    fn of_log(found: served::Answer) -> Response<Full<Bytes>> {
        let (kind, keep) = match &found {
            served::Answer::Checkpoint(_) => (TEXT, NO_STORE),
            served::Answer::Immutable(_) => (BYTES, FOREVER),
            served::Answer::Not(status) => return refusal(*status).map(Full::from),
        };
        answer(StatusCode::OK, kind, keep, String::new()).map(|_empty| found.into_bytes().into())
    }

    fn find<B>(&self, request: &Request<B>) -> Response<String> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let refusal = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, NO_STORE, String::new());
            return with(refusal, ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        // A supervisor asks by address.
        match request.uri().path() {
            "/live" => return answer(StatusCode::OK, TEXT, NO_STORE, "alive\n".to_owned()),
            "/ready" => return self.ready(),
            _ => {}
        }
        match self.check_host(request) {
            Ok(()) => self.document(request.uri().path()),
            Err(status) => refusal(status),
        }
    }

    /// Whether it is us who are asked.
    fn check_host<B>(&self, request: &Request<B>) -> Result<(), StatusCode> {
        match host(request) {
            Some(host) if self.hosts.contains(&host) => Ok(()),
            Some(_) => Err(StatusCode::MISDIRECTED_REQUEST),
            None => Err(StatusCode::BAD_REQUEST),
        }
    }

    fn document(&self, path: &str) -> Response<String> {
        if path == BUNDLE {
            return self.bundle();
        }
        let of_issuer = self.issuer.as_ref().and_then(|issuer| {
            let below = path.strip_prefix(issuer.path())?;
            match below {
                DISCOVERY => Some(self.discovery(issuer)),
                KEYS => Some(self.keys()),
                _ => None,
            }
        });
        of_issuer.unwrap_or_else(|| refusal(StatusCode::NOT_FOUND))
    }

    fn discovery(&self, issuer: &IssuerUrl) -> Response<String> {
        let document = Discovery {
            issuer: issuer.as_str(),
            jwks_uri: format!("{}{KEYS}", issuer.as_str()),
            authorization_endpoint: "",
            response_types_supported: ["id_token"],
            subject_types_supported: ["public"],
            id_token_signing_alg_values_supported: ["ES256"],
        };
        match serde_json::to_string(&document) {
            Ok(text) => answer(StatusCode::OK, JSON, self.keep.clone(), text),
            Err(_no_json) => refusal(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    fn keys(&self) -> Response<String> {
        let keys = json::jwks(&self.bundle.borrow().jwt_authorities, Use::Signature);
        answer(StatusCode::OK, JSON, self.keep.clone(), keys)
    }

    fn bundle(&self) -> Response<String> {
        let written = json::write(&self.bundle.borrow());
        match written {
            Ok(text) => answer(StatusCode::OK, JSON, self.keep.clone(), text),
            Err(error) => {
                error!(error = %Chain(&error), "the bundle cannot be shown");
                refusal(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    fn ready(&self) -> Response<String> {
        let status = match self.health.report().is_ready() {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        };
        // What exactly is the matter is the operator's business; see `[health]`.
        answer(status, TEXT, NO_STORE, format!("{}\n", status.as_u16()))
    }
}

/// The host that is asked for, in lower case and without its port; `None` unless there is exactly
/// one (RFC 9112 §3.2).
fn host<B>(request: &Request<B>) -> Option<String> {
    let mut named = request.headers().get_all(HOST).iter();
    let authority: Authority = match (request.uri().authority(), named.next(), named.next()) {
        (Some(asked), Some(_) | None, None) => asked.clone(),
        (None, Some(one), None) => one.to_str().ok()?.parse().ok()?,
        _ => return None,
    };
    Some(authority.host().to_ascii_lowercase())
}

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");
const FOREVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

fn refusal(status: StatusCode) -> Response<String> {
    answer(status, TEXT, NO_STORE, String::new())
}

fn answer(
    status: StatusCode,
    kind: HeaderValue,
    keep: HeaderValue,
    body: String,
) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let response = with(response, CONTENT_TYPE, kind);
    let response = with(response, X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    with(response, CACHE_CONTROL, keep)
}

fn with(mut response: Response<String>, name: HeaderName, value: HeaderValue) -> Response<String> {
    response.headers_mut().insert(name, value);
    response
}
