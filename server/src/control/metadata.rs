//! Where a gateway finds what (AuthZEN §9).

use bytes::Bytes;
use http::header::HOST;
use http::uri::Authority;
use http::{Request, Response};
use http_body_util::Full;
use serde::Serialize;

use super::json;
use super::refusal::Refusal;

pub(super) const PATH: &str = "/.well-known/authzen-configuration";

#[derive(Serialize)]
struct Metadata {
    policy_decision_point: String,
    access_evaluation_endpoint: String,
    access_evaluations_endpoint: String,
}

/// The document, under the name by which it was asked for; by `address` if that is none.
pub(super) fn answer<B>(
    address: &str,
    request: &Request<B>,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let named = host.and_then(|host| host.parse::<Authority>().ok());
    let base = format!("https://{}", named.as_ref().map_or(address, Authority::as_str));
    json(&Metadata {
        access_evaluation_endpoint: format!("{base}/access/v1/evaluation"),
        access_evaluations_endpoint: format!("{base}/access/v1/evaluations"),
        policy_decision_point: base,
    })
}
