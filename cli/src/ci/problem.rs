//! What the server says when it gives nothing: a problem document (RFC 9457).

use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;

use crate::failure::Failure;

/// The longest text of the server's that is shown, in characters.
const MAX_SHOWN: usize = 500;

/// Why there is no credential, in the server's words.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    /// The last part of its type's URI; empty if there is none.
    name: String,
    detail: String,
    /// When to ask again, if the server says so.
    pub(crate) retry_after: Option<Duration>,
}

#[derive(Deserialize)]
struct Document {
    r#type: String,
    detail: String,
}

impl Problem {
    /// Reads an answer that is no success.
    pub(crate) fn read(status: StatusCode, body: &[u8], retry_after: Option<Duration>) -> Self {
        let document = serde_json::from_slice::<Document>(body).ok();
        let (name, detail) = document.map_or_else(Default::default, |document| {
            let name = document.r#type.strip_prefix("urn:claviger:problem:").unwrap_or_default();
            (name.to_owned(), document.detail.chars().take(MAX_SHOWN).collect())
        });
        Self { status, name, detail, retry_after }
    }

    /// Whether the same may succeed later.
    pub(crate) fn is_temporary(&self) -> bool {
        [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(&self.status)
    }

    /// What the user is told, and what to do.
    pub(crate) fn to_failure(&self) -> Failure {
        let Self { status, name, detail, retry_after: _ } = self;
        let said = match detail.as_str() {
            "" => format!("the server answered {status}"),
            detail => format!("the server answered {status}: {}", printable(detail)),
        };
        let failure = Failure::failed(said);
        match (name.as_str(), *status) {
            ("refused", _) => failure.try_this(
                "look into the server's log. Often it is one of these: the token is for another \
                 audience than the server demands, or was used before; no entry whose parent is the \
                 server itself has selectors that are all in the token; a policy forbids it",
            ),
            ("ambiguous-identity", _) => failure.try_this("name one with `--spiffe-id`"),
            ("unsupported-kind", _) => {
                failure.try_this("the server needs an `[attestors.oidc.NAME]` in its configuration")
            }
            ("missing-evidence", _) => failure.try_this("the token did not arrive; is there a proxy?"),
            ("unavailable" | "too-many-requests", _) => {
                failure.try_this("the server, or the issuer's keys, were away for too long")
            }
            (_, StatusCode::NOT_FOUND) => failure.try_this(
                "is this the server's `[public]` address, and does it say `direct = true` there?",
            ),
            (_, StatusCode::MISDIRECTED_REQUEST) => failure
                .try_this("the server is not called so; add the name to `hosts` in its `[public]`"),
            _ => failure,
        }
    }
}

/// What the server says is shown on a terminal, and in logs that give control sequences a meaning.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, body: &str) -> String {
        let status = StatusCode::from_u16(status).unwrap();
        Problem::read(status, body.as_bytes(), None).to_failure().to_string()
    }

    #[test]
    fn the_servers_words_come_with_advice() {
        let body = r#"{"type":"urn:claviger:problem:refused","detail":"no\n::add-mask::x"}"#;
        let text = told(403, body);
        assert!(text.starts_with("error: the server answered 403 Forbidden: no ::add-mask::x\n"));
        assert!(text.contains("audience"), "{text}");
        let fix = r#"{"type":"urn:claviger:problem:malformed-request","detail":"peer: x"}"#;
        assert_eq!(told(400, fix), "error: the server answered 400 Bad Request: peer: x");
        assert!(told(404, "").contains("direct = true"));
        assert!(told(421, "<html>").contains("hosts"));
        assert_eq!(told(500, "[]"), "error: the server answered 500 Internal Server Error");
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let temporary =
            |status| Problem::read(StatusCode::from_u16(status).unwrap(), b"", None).is_temporary();
        assert!(temporary(503) && temporary(429));
        assert!(!temporary(403) && !temporary(400) && !temporary(500));
    }
}
