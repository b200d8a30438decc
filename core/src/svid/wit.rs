//! What a WIT-SVID contains, and whether one is to be believed (WIT-SVID): a token that is worth
//! nothing without the key it is bound to.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::SvidTtl;
use super::jwt::{TokenError, check_signature, check_times, claims};
use crate::bundle::TokenAuthority;
use crate::id::{SpiffeId, TrustDomain};
use crate::jose::compact::{self, Compact};
use crate::jose::key::Jwk;
use crate::jose::{Algorithm, PublicKey};
use crate::time::UnixTime;

/// What the signer is allowed to put into one WIT-SVID (WIT-SVID §2–3).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WitSvidContents {
    /// The `sub`.
    pub subject: SpiffeId,
    /// The key whose possession its holder proves; the `cnf`.
    pub key: PublicKey,
    /// How long it is asked to last; the signer shortens it to the signing key's end.
    pub ttl: SvidTtl,
}

impl WitSvidContents {
    /// The `typ` of every WIT-SVID (WIT-SVID §2.2).
    pub const KIND: &'static str = "wit+jwt";

    /// The claims of a token issued at `now` that ends at `expires_at`. There is no `aud`: it must
    /// not have one (WIT-SVID §3.8).
    #[must_use]
    pub fn claims(&self, now: UnixTime, expires_at: UnixTime, issuer: Option<&str>) -> Value {
        let mut claims = Map::new();
        claims.insert("cnf".to_owned(), json!({"jwk": Confirmation::of(&self.key)}));
        claims.insert("exp".to_owned(), expires_at.as_secs().into());
        claims.insert("iat".to_owned(), now.as_secs().into());
        if let Some(issuer) = issuer {
            claims.insert("iss".to_owned(), issuer.into());
        }
        claims.insert("sub".to_owned(), json!(self.subject));
        Value::Object(claims)
    }
}

/// A public key together with the algorithm it is used with (WIT-SVID §3.2).
#[derive(Deserialize, serde::Serialize)]
struct Confirmation {
    #[serde(flatten)]
    key: Jwk,
    alg: String,
}

impl Confirmation {
    fn of(key: &PublicKey) -> Self {
        Self { key: key.to_jwk(), alg: key.default_algorithm().name().to_owned() }
    }
}

/// A WIT-SVID whose signature and claims are in order. Its holder has yet to prove that it has the
/// key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WitSvid {
    /// Whose it is.
    pub subject: SpiffeId,
    /// The key its holder must prove to have.
    pub key: PublicKey,
    /// How that key signs.
    pub algorithm: Algorithm,
    /// When it ends.
    pub expires_at: UnixTime,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: u64,
    nbf: Option<u64>,
    cnf: Option<Cnf>,
}

#[derive(Deserialize)]
struct Cnf {
    jwk: Confirmation,
}

impl WitSvid {
    /// Validates `token` at `now`. `authorities` are those of a trust domain, if it is known.
    ///
    /// # Errors
    ///
    /// [`TokenError`] says what is wrong with it.
    pub fn validate<'a>(
        token: &str,
        now: UnixTime,
        authorities: impl FnOnce(&TrustDomain) -> Option<&'a [TokenAuthority]>,
    ) -> Result<Self, TokenError> {
        let token = Compact::parse(token)?;
        if token.kind.as_deref() != Some(WitSvidContents::KIND) {
            return Err(TokenError::Kind);
        }
        let everything: Map<String, Value> = claims(&token.payload)?;
        let claims: Claims = claims(&token.payload)?;
        let subject: SpiffeId = claims.sub.parse()?;
        check_signature(&token, &subject, authorities)?;
        if everything.contains_key("aud") {
            return Err(TokenError::Forbidden("aud"));
        }
        check_times(claims.exp, claims.nbf, now)?;
        let confirmation = claims.cnf.ok_or(TokenError::Confirmation)?.jwk;
        let key =
            PublicKey::from_jwk(&confirmation.key).map_err(|_no_key| TokenError::Confirmation)?;
        let algorithm =
            confirmation.alg.parse().map_err(|_not_permitted| TokenError::Confirmation)?;
        Ok(Self { subject, key, algorithm, expires_at: UnixTime::from_secs(claims.exp) })
    }
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
    compact::build(algorithm, key_id, WitSvidContents::KIND, claims, sign)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::fixture::TokenKey;

    const NOW: u64 = 1_000;

    fn claims(holder: &TokenKey) -> Value {
        let contents = WitSvidContents {
            subject: "spiffe://example.org/web".parse().unwrap(),
            key: holder.authority().public_key,
            ttl: SvidTtl::HOUR,
        };
        contents.claims(UnixTime::from_secs(NOW), UnixTime::from_secs(NOW + 60), None)
    }

    fn validate(key: &TokenKey, token: &str) -> Result<WitSvid, TokenError> {
        let authorities = [key.authority()];
        WitSvid::validate(token, UnixTime::from_secs(NOW), |_| Some(&authorities))
    }

    #[test]
    fn a_token_names_its_holders_key() {
        let (key, holder) = (TokenKey::generate("k"), TokenKey::generate("h"));
        let svid = validate(&key, &key.token("wit+jwt", &claims(&holder))).unwrap();
        assert_eq!(svid.key, holder.authority().public_key);
        assert_eq!(svid.algorithm, Algorithm::Es256);
        assert_eq!(svid.subject.to_string(), "spiffe://example.org/web");
    }

    #[test]
    fn tokens_that_break_a_rule_are_refused() {
        let (key, holder) = (TokenKey::generate("k"), TokenKey::generate("h"));
        let changed = |change: &dyn Fn(&mut Value)| {
            let mut claims = claims(&holder);
            change(&mut claims);
            validate(&key, &key.token("wit+jwt", &claims)).unwrap_err()
        };
        assert_eq!(changed(&|c| c["aud"] = json!(["a"])), TokenError::Forbidden("aud"));
        assert_eq!(changed(&|c| c["aud"] = Value::Null), TokenError::Forbidden("aud"));
        assert_eq!(changed(&|c| c["exp"] = json!(NOW)), TokenError::Expired);
        assert_eq!(changed(&|c| c["nbf"] = json!(NOW + 1)), TokenError::NotYet);
        assert_eq!(changed(&|c| c["cnf"] = Value::Null), TokenError::Confirmation);
        assert_eq!(changed(&|c| c["cnf"]["jwk"]["alg"] = json!("EdDSA")), TokenError::Confirmation);
        assert_eq!(changed(&|c| c["cnf"]["jwk"]["x"] = json!("AA")), TokenError::Confirmation);
        assert!(matches!(changed(&|c| c["sub"] = json!("web")), TokenError::Subject(_)));
        let token = key.token("JWT", &claims(&holder));
        assert_eq!(validate(&key, &token).unwrap_err(), TokenError::Kind);
    }
}
