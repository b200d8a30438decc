//! What is asked for, as it stands in a body. Every byte of it is a stranger's.

use std::fmt;

use claviger_core::id::SpiffeId;
use claviger_core::psk::{PskTtl, Purpose};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Evidence in a body.
#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub(crate) struct Evidence {
    pub(crate) kind: String,
    /// Standard base64, with padding.
    pub(crate) payload: String,
    /// What `POST /v1/challenge` gave, if the payload carries it.
    pub(crate) challenge: Option<String>,
}

/// `POST /v1/challenge`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Challenge {}

/// `POST /v1/svid/x509`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct X509 {
    /// PKCS #10, as PEM or as DER in base64.
    pub(crate) csr: String,
    pub(crate) spiffe_id: Option<SpiffeId>,
    pub(crate) evidence: Option<Evidence>,
}

/// `POST /v1/svid/jwt`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Jwt {
    pub(crate) audience: Vec<String>,
    pub(crate) spiffe_id: Option<SpiffeId>,
    pub(crate) evidence: Option<Evidence>,
    /// A SubjectPublicKeyInfo in standard base64, with padding.
    pub(crate) seal_to: Option<String>,
}

/// `POST /v1/psk`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Psk {
    /// Who will answer.
    pub(crate) peer: SpiffeId,
    pub(crate) purpose: Purpose,
    pub(crate) ttl_seconds: Option<PskTtl>,
    pub(crate) spiffe_id: Option<SpiffeId>,
    pub(crate) evidence: Option<Evidence>,
    /// As in [`Jwt`].
    pub(crate) seal_to: Option<String>,
}

/// What is wrong with a body. It may quote the body, so it is for the caller only.
pub(crate) struct Malformed {
    /// Which field.
    pub(crate) field: String,
    /// What is wrong with it.
    pub(crate) why: String,
}

impl Malformed {
    fn new(field: impl Into<String>, why: &impl fmt::Display) -> Self {
        Self { field: field.into(), why: why.to_string() }
    }
}

/// Reads all of `body`.
///
/// # Errors
///
/// [`Malformed`] names the first field that is wrong.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Malformed> {
    // Serde would take an array for the members of an object in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Malformed::new("body", &"is no JSON object"));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        // What concerns the whole names no field, and neither does a field without a name.
        let field = if matches!(field.as_str(), "." | "") { "body".to_owned() } else { field };
        Malformed::new(field, error.inner())
    })?;
    json.end().map_err(|error| Malformed::new("body", &error))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_an_object() {
        parse::<Challenge>(b" {} ").map_err(|malformed| malformed.why).unwrap();
        for body in [&b"[]"[..], b"", b"null", b"\"\"", b"{}{}", b"{\"more\":1}"] {
            let problem = parse::<Challenge>(body).err().unwrap();
            assert!(!problem.field.is_empty(), "{body:?}");
        }
        // The members of an object in their order are no object.
        let listed = br#"[["db"], null, null, null]"#;
        assert_eq!(parse::<Jwt>(listed).err().unwrap().field, "body");
    }
}
