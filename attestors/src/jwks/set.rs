//! The keys of one JWK Set (RFC 7517 §5).

use claviger_core::jose::key::Jwk;
use claviger_core::jose::{Algorithm, PublicKey};
use serde::Deserialize;
use serde_json::Value;

/// The most keys in a set. Issuers have two to ten.
pub const MAX_KEYS: usize = 64;

/// The largest document that is read, in bytes.
pub const MAX_DOCUMENT: usize = 256 << 10;

/// Keys that can check signatures, at least one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeySet(Vec<Key>);

/// A key, and what its issuer says that it is for.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Key {
    id: String,
    algorithm: Option<Algorithm>,
    key: PublicKey,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

/// What is looked at in a key (RFC 7517 §4); the rest says nothing that matters here.
#[derive(Deserialize)]
struct Member {
    kid: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    #[serde(flatten)]
    key: Jwk,
}

impl KeySet {
    /// Reads a set. A key of a type or for a use that we don't know, of a size that we don't want, or
    /// without a name is left out (RFC 7517 §5).
    ///
    /// # Errors
    ///
    /// [`SetError`] if it is no set, or has no key that is left.
    pub fn parse(document: &[u8]) -> Result<Self, SetError> {
        if MAX_DOCUMENT < document.len() {
            return Err(SetError::Length);
        }
        let document: Document = serde_json::from_slice(document)?;
        if MAX_KEYS < document.keys.len() {
            return Err(SetError::TooMany(document.keys.len()));
        }
        let keys: Vec<_> = document.keys.into_iter().filter_map(usable).collect();
        if keys.is_empty() { Err(SetError::NoKey) } else { Ok(Self(keys)) }
    }

    /// Whether there is a key of this name.
    #[must_use]
    pub fn names(&self, key_id: &str) -> bool {
        self.0.iter().any(|key| key.id == key_id)
    }

    /// Whether a key of this name made `signature` over `message` with `algorithm`.
    #[must_use]
    pub fn verifies(
        &self,
        key_id: &str,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        // Two keys may have one name if they are of different types (RFC 7517 §4.5).
        self.0.iter().filter(|key| key.id == key_id).any(|key| {
            // A key that says what it is used with is used with nothing else.
            key.algorithm.is_none_or(|only| only == algorithm)
                && key.key.verifies(algorithm, message, signature)
        })
    }

    /// How many keys there are.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a set is never empty")]
    pub const fn len(&self) -> usize {
        self.0.len()
    }
}

/// The key, if it may check a token's signature.
fn usable(key: Value) -> Option<Key> {
    let Member { kid, purpose, key_ops, alg, key } = serde_json::from_value(key).ok()?;
    let checks = purpose.is_none_or(|purpose| purpose == "sig")
        && key_ops.is_none_or(|operations| operations.iter().any(|name| name == "verify"));
    if kid.is_empty() || !checks {
        return None;
    }
    let algorithm = alg.map(|name| name.parse()).transpose().ok()?;
    Some(Key { id: kid, algorithm, key: PublicKey::from_jwk(&key).ok()? })
}

/// Why a document is no set of keys.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// It is too long.
    #[error("the set of keys is longer than {MAX_DOCUMENT} bytes")]
    Length,
    /// It is not a JWK Set.
    #[error("this is not a JWK Set, `{{\"keys\": [...]}}`")]
    Form(#[from] serde_json::Error),
    /// It has too many keys.
    #[error("the set has {0} keys; at most {MAX_KEYS} are allowed")]
    TooMany(usize),
    /// It has none that can be used.
    #[error(
        "no key in the set can be used: it has to have a kid and be for signatures, EC (P-256, P-384, \
         P-521) or RSA of 2048 to 8192 bits"
    )]
    NoKey,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::SigningKey;
    use super::*;

    /// How many keys are left of a key with these members changed.
    fn left(changes: &Value) -> usize {
        let mut key = SigningKey::es256("k").jwk();
        for (name, value) in changes.as_object().unwrap() {
            key[name] = value.clone();
        }
        let good = SigningKey::es256("good").jwk();
        KeySet::parse(json!({"keys": [good, key]}).to_string().as_bytes()).unwrap().len() - 1
    }

    #[test]
    fn keys_that_check_signatures_are_kept() {
        for same in [
            json!({}),
            json!({"use": "sig", "alg": "ES256", "key_ops": ["verify"]}),
            json!({"x5t": "x", "x5c": ["x"], "issuer": "somebody"}),
        ] {
            assert_eq!(left(&same), 1, "{same}");
        }
    }

    #[test]
    fn other_keys_are_left_out() {
        for other in [
            json!({"kty": "AKP"}),
            json!({"kty": "oct", "k": "c2VjcmV0"}),
            json!({"kty": "OKP", "crv": "Ed25519"}),
            json!({"crv": "secp256k1"}),
            json!({"x": "AAAA"}),
            json!({"use": "enc"}),
            json!({"use": 1}),
            json!({"key_ops": ["sign"]}),
            json!({"alg": "HS256"}),
            json!({"alg": "none"}),
            json!({"kid": null}),
            json!({"kid": ""}),
            json!({"kty": "RSA", "n": "_________w", "e": "AQAB"}),
        ] {
            assert_eq!(left(&other), 0, "{other}");
        }
    }

    #[test]
    fn a_key_is_used_with_what_it_says_and_no_other() {
        let key = SigningKey::rsa("k");
        let (message, signature) = (b"m", key.sign(Algorithm::Rs256, b"m"));
        let verifies = |alg: &Value, algorithm| {
            let mut jwk = key.jwk();
            jwk["alg"] = alg.clone();
            let set = KeySet::parse(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap();
            set.verifies("k", algorithm, message, &signature)
        };
        assert!(verifies(&Value::Null, Algorithm::Rs256));
        assert!(verifies(&json!("RS256"), Algorithm::Rs256));
        assert!(!verifies(&json!("PS256"), Algorithm::Rs256));
        assert!(!verifies(&Value::Null, Algorithm::Rs384));
    }

    #[test]
    fn two_types_may_share_a_name() {
        let (rsa, ec) = (SigningKey::rsa("k"), SigningKey::es256("k"));
        let set = json!({"keys": [rsa.jwk(), ec.jwk()]}).to_string();
        let set = KeySet::parse(set.as_bytes()).unwrap();
        let signed = |key: &SigningKey, algorithm| {
            set.verifies("k", algorithm, b"m", &key.sign(algorithm, b"m"))
        };
        assert!(signed(&rsa, Algorithm::Rs256) && signed(&ec, Algorithm::Es256));
        assert!(set.names("k") && !set.names("K"));
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for text in ["", "[]", "{}", r#"{"keys":{}}"#, "<html>", r#"{"keys":[],"keys":[]}"#] {
            let error = KeySet::parse(text.as_bytes()).unwrap_err();
            assert!(matches!(error, SetError::Form(_)), "{text}");
        }
        assert!(matches!(KeySet::parse(br#"{"keys":[]}"#), Err(SetError::NoKey)));
        let many = json!({"keys": vec![SigningKey::es256("k").jwk(); MAX_KEYS + 1]}).to_string();
        assert!(matches!(KeySet::parse(many.as_bytes()), Err(SetError::TooMany(65))));
        let long = vec![b' '; MAX_DOCUMENT + 1];
        assert!(matches!(KeySet::parse(&long), Err(SetError::Length)));
    }
}
