//! What a token says, for people. Nothing is verified here: that is the agent's task.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// The claims of a token in JWS compact serialization (RFC 7515 §7.1); none if it is no such token.
pub(crate) fn claims(token: &str) -> Option<Map<String, Value>> {
    let mut parts = token.split('.');
    let (_header, payload) = (parts.next()?, parts.next()?);
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// When it expires, in seconds since 1970; none if it does not say.
pub(crate) fn expires_at(claims: &Map<String, Value>) -> Option<i64> {
    claims.get("exp").and_then(Value::as_i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_claims_are_the_second_part() {
        let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(r#"{"sub":"x","exp":7}"#));
        let claims = claims(&token).unwrap();
        assert_eq!(expires_at(&claims), Some(7));
        assert_eq!(claims.keys().collect::<Vec<_>>(), ["sub", "exp"]);
    }

    #[test]
    fn what_is_no_token_has_no_claims() {
        for text in ["", "x", "e30", "e30.!.x", "e30.W10.x"] {
            assert_eq!(claims(text), None, "{text}");
        }
        assert_eq!(expires_at(&claims("e30.e30.x").unwrap()), None);
    }
}
