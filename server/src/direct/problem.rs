//! Problem details (RFC 9457): what a caller is told when there is no answer.

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use super::reply;

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// One problem.
#[derive(Debug)]
pub(crate) struct Problem {
    /// The last part of its type's URI.
    name: &'static str,
    status: StatusCode,
    /// What it is, the same each time.
    title: &'static str,
    /// What it is this time, and what to do.
    detail: String,
    /// The header that belongs to it, if one does.
    header: Option<(HeaderName, HeaderValue)>,
}

/// The members of RFC 9457 §3.1.
#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
}

impl Problem {
    pub(crate) fn new(
        (name, status): (&'static str, StatusCode),
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self { name, status, title, detail: detail.into(), header: None }
    }

    /// A part of the request is not what it should be.
    pub(crate) fn malformed(field: &str, why: &str) -> Self {
        let kind = ("malformed-request", StatusCode::BAD_REQUEST);
        Self::new(kind, "The request is malformed", format!("{field}: {why}"))
    }

    pub(crate) fn with(self, name: HeaderName, value: &'static str) -> Self {
        Self { header: Some((name, HeaderValue::from_static(value))), ..self }
    }

    pub(crate) fn into_response(self) -> Response<Full<Bytes>> {
        let document = Document {
            r#type: format!("urn:claviger:problem:{}", self.name),
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
        };
        // Text and a number are always JSON.
        let text = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = reply::response(self.status, PROBLEM_JSON, Bytes::from(text));
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
