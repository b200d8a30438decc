//! Problem details (RFC 9457): what a caller is told when there is no answer.

use bytes::Bytes;
use claviger_runtime::http::BodyError;
use http::header::{ALLOW, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use super::reply;
use crate::load::{Overload, Why};

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

    /// There is no such path; `hint` says where to find what there is.
    pub(crate) fn no_such_path(hint: &'static str) -> Self {
        Self::new(("not-found", StatusCode::NOT_FOUND), "There is nothing here", hint)
    }

    /// The path takes requests of method `only`.
    pub(crate) fn wrong_method(only: &'static str) -> Self {
        let kind = ("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED);
        Self::new(kind, "The method is another one", format!("send a {only}")).with(ALLOW, only)
    }

    /// Too much is asked; `detail` says when to ask again.
    pub(crate) fn too_many_requests(title: &'static str, detail: &'static str) -> Self {
        let kind = ("too-many-requests", StatusCode::TOO_MANY_REQUESTS);
        Self::new(kind, title, detail).with(RETRY_AFTER, "1")
    }

    /// No more requests are answered at a time.
    pub(crate) fn busy() -> Self {
        let title = "Too many requests at a time";
        Self::too_many_requests(title, "wait for the answers to others before you ask again")
    }

    /// The server does not take it on; `overload` says why, and for how long.
    pub(crate) fn overloaded(overload: Overload) -> Self {
        let status = match overload.why {
            Why::Caller | Why::Identity => StatusCode::TOO_MANY_REQUESTS,
            Why::All | Why::Requests => StatusCode::SERVICE_UNAVAILABLE,
        };
        let problem = Self::new(("overloaded", status), "Too many requests", overload.to_string());
        Self { header: Some((RETRY_AFTER, overload.seconds().into())), ..problem }
    }

    /// The header says that the body is something else.
    pub(crate) fn not_json() -> Self {
        let kind = ("unsupported-media-type", StatusCode::UNSUPPORTED_MEDIA_TYPE);
        Self::new(kind, "The body is not JSON", "send `Content-Type: application/json`")
    }

    /// The body, of at most `most` bytes, could not be read.
    pub(crate) fn unread(error: &BodyError, most: usize) -> Self {
        match error {
            BodyError::TooLarge(_) => Self::new(
                ("too-large", StatusCode::PAYLOAD_TOO_LARGE),
                "The body is too large",
                format!("send at most {most} bytes"),
            ),
            BodyError::Broken(_) => Self::malformed("body", "did not arrive"),
        }
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
