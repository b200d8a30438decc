//! What our tokens look like (JWT-SVID §2–3, WIT-SVID §2–3): ES256, and nothing in the header but
//! `alg`, `kid` and `typ`.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use claviger_core::bundle::{Bundle, TokenAuthority};
use claviger_core::evidence::KeyDigest;
use claviger_core::evidence::ear;
use claviger_core::grant::{IssueEar, IssueJwt, IssueWit};
use claviger_core::jose::{Algorithm, PublicKey};
use claviger_core::policies::{self, PoliciesContents};
use claviger_core::svid::{Profile, Validity, jwt, wit};
use claviger_core::time::UnixTime;
use rcgen::PublicKeyData as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::SignedToken;
use super::keys::AuthorityKey;
use super::slots::Slot;
use super::succession::Craft;
use super::x509::SignError;

/// How keys for tokens of one profile are made.
#[derive(Debug)]
pub(super) struct Tokens {
    pub(super) profile: Profile,
    /// The `iss` of each token, if it has one.
    pub(super) issuer: Option<String>,
}

impl Craft for Tokens {
    type Public = TokenKey;
    type Signer = TokenSigner;

    fn profile(&self) -> Profile {
        self.profile
    }

    fn public(&self, key: &AuthorityKey, _validity: Validity) -> Result<TokenKey, SignError> {
        let public_key = PublicKey::from_spki(&key.subject_public_key_info());
        Ok(TokenKey { public_key: public_key.map_err(|_malformed| SignError::Token)? })
    }

    fn signer(&self, key: AuthorityKey, slot: &Slot<TokenKey>) -> Result<TokenSigner, SignError> {
        let (key_id, issuer) = (key_id(&slot.key), self.issuer.clone());
        Ok(TokenSigner { key, key_id, end: slot.validity.not_after, issuer })
    }

    fn publish(&self, slots: &[Slot<TokenKey>], bundle: &mut Bundle) {
        let authority = |slot: &Slot<TokenKey>| TokenAuthority {
            key_id: key_id(&slot.key),
            public_key: slot.public.public_key.clone(),
            expires_at: Some(slot.validity.not_after),
            tainted: false,
        };
        let authorities = slots.iter().map(authority).collect();
        match self.profile {
            Profile::Jwt => bundle.jwt_authorities = authorities,
            Profile::Wit => bundle.wit_authorities = authorities,
            // The bundle has certificates there; see `x509::X509`.
            Profile::X509 => {}
        }
    }
}

/// The `kid`: 16 bytes of the key's digest. No two keys of ours share it, whatever they sign
/// (WIT-SVID §6.1).
fn key_id(key: &KeyDigest) -> String {
    let (name, _) = key.as_bytes().split_at(16);
    hex::encode(name)
}

/// A public key, as it is stored.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct TokenKey {
    /// As SubjectPublicKeyInfo.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub(super) public_key: PublicKey,
}

fn to_base64<S: Serializer>(key: &PublicKey, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(key.spki()))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PublicKey, D::Error> {
    use serde::de::Error as _;
    let spki = STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)?;
    PublicKey::from_spki(&spki).map_err(D::Error::custom)
}

/// Signs tokens with one key.
pub(super) struct TokenSigner {
    key: AuthorityKey,
    key_id: String,
    end: UnixTime,
    issuer: Option<String>,
}

impl TokenSigner {
    /// Signs the JWT-SVID that `act` describes.
    pub(super) fn sign_jwt(&self, act: &IssueJwt, now: UnixTime) -> Result<SignedToken, SignError> {
        let contents = &act.contents;
        let expires_at = self.expiry(now, contents.ttl.duration())?;
        let jti = contents.jti.then(random_name).transpose()?;
        let claims = contents.claims(now, expires_at, self.issuer.as_deref(), jti.as_deref());
        let token = jwt::encode(Algorithm::Es256, &self.key_id, &claims, |text| self.sign(text))?;
        Ok(SignedToken { token, issued_at: now, expires_at })
    }

    /// Signs the WIT-SVID that `act` describes.
    pub(super) fn sign_wit(&self, act: &IssueWit, now: UnixTime) -> Result<SignedToken, SignError> {
        let expires_at = self.expiry(now, act.contents.ttl.duration())?;
        let claims = act.contents.claims(now, expires_at, self.issuer.as_deref());
        let token = wit::encode(Algorithm::Es256, &self.key_id, &claims, |text| self.sign(text))?;
        Ok(SignedToken { token, issued_at: now, expires_at })
    }

    /// Signs the attestation result that `act` describes.
    pub(super) fn sign_ear(&self, act: &IssueEar, now: UnixTime) -> Result<SignedToken, SignError> {
        let expires_at = self.expiry(now, act.contents.ttl.duration())?;
        let claims = act.contents.claims(now, expires_at);
        let token = ear::encode(Algorithm::Es256, &self.key_id, &claims, |text| self.sign(text))?;
        Ok(SignedToken { token, issued_at: now, expires_at })
    }

    /// Signs what `contents` says about policies.
    pub(super) fn sign_policies(
        &self,
        contents: &PoliciesContents,
        now: UnixTime,
    ) -> Result<SignedToken, SignError> {
        let expires_at = self.expiry(now, contents.ttl.duration())?;
        let claims = contents.claims(now, expires_at);
        let sign = |text: &[u8]| self.sign(text);
        let token = policies::encode(Algorithm::Es256, &self.key_id, &claims, sign)?;
        Ok(SignedToken { token, issued_at: now, expires_at })
    }

    /// When a token made now ends. None outlives its key: that is how long the key is published.
    fn expiry(&self, now: UnixTime, ttl: Duration) -> Result<UnixTime, SignError> {
        if now < self.end {
            Ok(now.after(ttl).min(self.end))
        } else {
            Err(SignError::AuthorityExpired(self.end))
        }
    }

    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, SignError> {
        self.key.sign(text).map_err(|_unspecified| SignError::Token)
    }
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSigner").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// A `jti`: 16 random bytes, base64url.
fn random_name() -> Result<String, SignError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_unspecified| SignError::NoRandomness)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests;
