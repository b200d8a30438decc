//! What a JWT-SVID contains, and whether one is to be believed (JWT-SVID).

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::SvidTtl;
use crate::bundle::TokenAuthority;
use crate::id::{ParseIdError, SpiffeId, TrustDomain};
use crate::jose::Algorithm;
use crate::jose::compact::{self, Compact, CompactError};
use crate::time::UnixTime;

/// For whom a JWT-SVID is: 1 to [`Audience::MAX`] names, none empty, in the order they were asked
/// for.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Audience(Vec<String>);

impl Audience {
    /// The most names.
    pub const MAX: usize = 32;
    /// The longest name, in bytes.
    pub const MAX_NAME: usize = 1_024;
    /// All names together, in bytes, so that the token stays within what is looked at.
    pub const MAX_BYTES: usize = 4_096;

    /// The audience of these names.
    ///
    /// # Errors
    ///
    /// [`AudienceError`] if there are none or too many, or if one is empty, too long or repeated.
    pub fn new(names: Vec<String>) -> Result<Self, AudienceError> {
        if names.is_empty() {
            return Err(AudienceError::None);
        }
        if Self::MAX < names.len() || Self::MAX_BYTES < names.iter().map(String::len).sum() {
            return Err(AudienceError::TooMany);
        }
        if names.iter().any(String::is_empty) {
            return Err(AudienceError::Empty);
        }
        if names.iter().any(|name| Self::MAX_NAME < name.len()) {
            return Err(AudienceError::TooLong);
        }
        if names.iter().collect::<BTreeSet<_>>().len() != names.len() {
            return Err(AudienceError::Repeated);
        }
        Ok(Self(names))
    }

    /// The names.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }
}

/// Names that make no audience.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AudienceError {
    /// There are none.
    #[error("audience must be specified")]
    None,
    /// One is the empty string.
    #[error("audience must not contain an empty name")]
    Empty,
    /// There are too many, or they are too long together.
    #[error("audience has more than {} names or {} bytes", Audience::MAX, Audience::MAX_BYTES)]
    TooMany,
    /// One is too long.
    #[error("audience contains a name of more than {} bytes", Audience::MAX_NAME)]
    TooLong,
    /// One is there twice.
    #[error("audience contains a name twice")]
    Repeated,
}

/// What the signer is allowed to put into one JWT-SVID (JWT-SVID §2–3).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JwtSvidContents {
    /// The `sub`.
    pub subject: SpiffeId,
    /// The `aud`.
    pub audience: Audience,
    /// How long it is asked to last; the signer shortens it to the key's end.
    pub ttl: SvidTtl,
    /// Whether it carries a `jti`, and so is a token of its own each time.
    pub jti: bool,
}

impl JwtSvidContents {
    /// The `typ` of every JWT-SVID we make.
    pub const KIND: &'static str = "JWT";

    /// The claims of a token issued at `now` that ends at `expires_at`. `issuer` is for relying
    /// parties that look keys up by OpenID Connect Discovery; `jti` names this very token.
    #[must_use]
    pub fn claims(
        &self,
        now: UnixTime,
        expires_at: UnixTime,
        issuer: Option<&str>,
        jti: Option<&str>,
    ) -> Value {
        let mut claims = Map::new();
        claims.insert("aud".to_owned(), self.audience.names().into());
        claims.insert("exp".to_owned(), expires_at.as_secs().into());
        claims.insert("iat".to_owned(), now.as_secs().into());
        for (name, value) in [("iss", issuer), ("jti", jti)] {
            if let Some(value) = value {
                claims.insert(name.to_owned(), value.into());
            }
        }
        claims.insert("sub".to_owned(), json!(self.subject));
        Value::Object(claims)
    }
}

/// A JWT-SVID whose signature and claims are in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JwtSvid {
    /// Whose it is.
    pub subject: SpiffeId,
    /// The name of the key that signed it.
    pub key_id: String,
    /// When it ends.
    pub expires_at: UnixTime,
    /// Everything it claims.
    pub claims: Map<String, Value>,
}

/// The claims that a validator looks at.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    aud: OneOrMany,
    exp: u64,
    nbf: Option<u64>,
}

/// RFC 7519 §4.1.3: an audience of one may be a string.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl JwtSvid {
    /// Validates `token` at `now` for `audience`. `authorities` are those of a trust domain, if it
    /// is known; only the subject's own are asked (SPIFFE Workload API §6.2.3).
    ///
    /// # Errors
    ///
    /// [`TokenError`] says what is wrong with it.
    pub fn validate<'a>(
        token: &str,
        audience: &str,
        now: UnixTime,
        authorities: impl FnOnce(&TrustDomain) -> Option<&'a [TokenAuthority]>,
    ) -> Result<Self, TokenError> {
        let token = Compact::parse(token)?;
        if !matches!(token.kind.as_deref(), None | Some("JWT" | "JOSE")) {
            return Err(TokenError::Kind);
        }
        let claims: Claims = claims(&token.payload)?;
        let subject: SpiffeId = claims.sub.parse()?;
        check_signature(&token, &subject, authorities)?;
        check_times(claims.exp, claims.nbf, now)?;
        let contains = match &claims.aud {
            OneOrMany::One(name) => name == audience,
            OneOrMany::Many(names) => names.iter().any(|name| name == audience),
        };
        if !contains {
            return Err(TokenError::Audience);
        }
        let expires_at = UnixTime::from_secs(claims.exp);
        let claims = self::claims(&token.payload)?;
        Ok(Self { subject, key_id: token.key_id, expires_at, claims })
    }
}

/// Reads `T` from a token's payload.
pub(super) fn claims<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<T, TokenError> {
    serde_json::from_slice(payload).map_err(|error| TokenError::Claims(error.to_string()))
}

/// Checks that `now` is not before the start, if there is one, and before the end.
pub(super) fn check_times(end: u64, start: Option<u64>, now: UnixTime) -> Result<(), TokenError> {
    if end <= now.as_secs() {
        return Err(TokenError::Expired);
    }
    if start.is_some_and(|start| now.as_secs() < start) {
        return Err(TokenError::NotYet);
    }
    Ok(())
}

/// Checks that an authority of the subject's trust domain signed `token`.
pub(super) fn check_signature<'a>(
    token: &Compact<'_>,
    subject: &SpiffeId,
    authorities: impl FnOnce(&TrustDomain) -> Option<&'a [TokenAuthority]>,
) -> Result<(), TokenError> {
    let untrusted = || TokenError::UnknownTrustDomain(subject.trust_domain().clone());
    let authorities = authorities(subject.trust_domain()).ok_or_else(untrusted)?;
    let named = authorities.iter().find(|authority| authority.key_id == token.key_id);
    let authority = named.ok_or(TokenError::UnknownKey)?;
    let genuine =
        authority.public_key.verifies(token.algorithm, token.signed.as_bytes(), &token.signature);
    if genuine { Ok(()) } else { Err(TokenError::Signature) }
}

/// Makes a token of `claims`.
///
/// # Errors
///
/// Whatever `sign` says.
pub fn encode<E>(
    algorithm: Algorithm,
    key_id: &str,
    claims: &Value,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<String, E> {
    compact::build(algorithm, key_id, JwtSvidContents::KIND, claims, sign)
}

/// Why a token is not to be believed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TokenError {
    /// It is no token.
    #[error(transparent)]
    Form(#[from] CompactError),
    /// It says that it is something else.
    #[error("the token's typ says that it is something else")]
    Kind,
    /// A claim is missing or of the wrong type.
    #[error("the token's claims are not as they have to be: {0}")]
    Claims(String),
    /// It is nobody's.
    #[error("the token's sub is not a SPIFFE ID")]
    Subject(#[from] ParseIdError),
    /// It is of a trust domain that we know no keys of.
    #[error("no bundle for trust domain `{0}`")]
    UnknownTrustDomain(TrustDomain),
    /// The key is none of its trust domain's.
    #[error("the token's kid names no key of its trust domain")]
    UnknownKey,
    /// The signature is wrong.
    #[error("the token's signature does not verify")]
    Signature,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    NotYet,
    /// It is for others.
    #[error("the token is not for this audience")]
    Audience,
    /// It has a claim that it must not have.
    #[error("the token must not have the claim {0}")]
    Forbidden(&'static str),
    /// It is not bound to a key that could prove its possession.
    #[error("the token's cnf is no key with a permitted algorithm")]
    Confirmation,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bundle::fixture::TokenKey;

    const NOW: u64 = 1_000;

    fn contents() -> JwtSvidContents {
        JwtSvidContents {
            subject: "spiffe://example.org/web".parse().unwrap(),
            audience: Audience::new(vec!["a".to_owned(), "b".to_owned()]).unwrap(),
            ttl: SvidTtl::HOUR,
            jti: false,
        }
    }

    fn claims() -> Value {
        contents().claims(UnixTime::from_secs(NOW), UnixTime::from_secs(NOW + 60), None, None)
    }

    fn validate(key: &TokenKey, token: &str, audience: &str) -> Result<JwtSvid, TokenError> {
        let authorities = [key.authority()];
        let ours =
            |domain: &TrustDomain| (domain.as_str() == "example.org").then_some(&authorities[..]);
        JwtSvid::validate(token, audience, UnixTime::from_secs(NOW), ours)
    }

    /// Signs the claims with one of them changed, and says why that is refused.
    #[track_caller]
    fn refused(change: &str, to: Option<Value>) -> TokenError {
        let key = TokenKey::generate("k");
        let mut claims = claims();
        match to {
            Some(value) => claims[change] = value,
            None => drop(claims.as_object_mut().unwrap().remove(change)),
        }
        validate(&key, &key.token("JWT", &claims), "a").unwrap_err()
    }

    #[test]
    fn a_token_is_valid_for_each_of_its_audience() {
        let key = TokenKey::generate("k");
        let token = key.token("JWT", &claims());
        let svid = validate(&key, &token, "b").unwrap();
        assert_eq!(svid.subject, contents().subject);
        assert_eq!(svid.expires_at, UnixTime::from_secs(NOW + 60));
        assert_eq!(
            Value::Object(svid.claims),
            json!({"aud": ["a", "b"], "exp": 1060, "iat": 1000, "sub": "spiffe://example.org/web"})
        );
        assert_eq!(validate(&key, &token, "c").unwrap_err(), TokenError::Audience);
        let one = json!({"aud": "a", "exp": 1060, "sub": "spiffe://example.org/web"});
        validate(&key, &key.token("JOSE", &one), "a").unwrap();
        assert_eq!(validate(&key, &key.token("at+jwt", &one), "a").unwrap_err(), TokenError::Kind);
    }

    #[test]
    fn issuer_and_name_are_claimed_if_there_are_any() {
        let at = UnixTime::from_secs;
        let claims = contents().claims(at(1), at(2), Some("https://issuer"), Some("id"));
        assert_eq!(claims["iss"], "https://issuer");
        assert_eq!(claims["jti"], "id");
    }

    #[test]
    fn claims_that_are_missing_or_wrong_are_refused() {
        for missing in ["sub", "aud", "exp"] {
            assert!(matches!(refused(missing, None), TokenError::Claims(_)), "{missing}");
        }
        assert!(matches!(refused("exp", Some(json!(1060.5))), TokenError::Claims(_)));
        assert!(matches!(refused("exp", Some(json!(1060.0))), TokenError::Claims(_)));
        assert!(matches!(refused("exp", Some(json!("1060"))), TokenError::Claims(_)));
        assert!(matches!(refused("exp", Some(json!(-1))), TokenError::Claims(_)));
        assert_eq!(refused("exp", Some(json!(NOW))), TokenError::Expired);
        assert_eq!(refused("nbf", Some(json!(NOW + 1))), TokenError::NotYet);
        assert!(matches!(refused("sub", Some(json!("web"))), TokenError::Subject(_)));
        assert!(matches!(
            refused("sub", Some(json!("spiffe://other.org/web"))),
            TokenError::UnknownTrustDomain(_)
        ));
        assert_eq!(refused("aud", Some(json!([]))), TokenError::Audience);
    }

    #[test]
    fn only_the_key_that_is_named_will_do() {
        let (key, other) = (TokenKey::generate("k"), TokenKey::generate("other"));
        let token = other.token("JWT", &claims());
        assert_eq!(validate(&key, &token, "a").unwrap_err(), TokenError::UnknownKey);
        let impostor = TokenKey::generate("k");
        let token = impostor.token("JWT", &claims());
        assert_eq!(validate(&key, &token, "a").unwrap_err(), TokenError::Signature);
    }

    #[test]
    fn an_audience_has_names_and_bounds() {
        let of =
            |names: &[&str]| Audience::new(names.iter().map(|&name| name.to_owned()).collect());
        assert_eq!(of(&["b", "a"]).unwrap().names(), ["b", "a"]);
        assert_eq!(of(&[]), Err(AudienceError::None));
        assert_eq!(of(&["a", ""]), Err(AudienceError::Empty));
        assert_eq!(of(&["a", "a"]), Err(AudienceError::Repeated));
        assert_eq!(of(&[&"a".repeat(1_025)]), Err(AudienceError::TooLong));
        assert_eq!(
            Audience::new((0..33).map(|n| n.to_string()).collect()),
            Err(AudienceError::TooMany)
        );
    }
}
