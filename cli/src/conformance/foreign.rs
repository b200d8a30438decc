//! A trust domain of the suite's own.
//!
//! A validator that refuses a badly signed token does not show that it looked at its claims. With a
//! trust domain whose keys the suite holds, federated with the one under test, it can sign tokens
//! that break one rule and no other.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::{KeyRejected, Unspecified};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::forge::Signer;
use super::jose::{JwkSet, Object, same_key};

/// Its keys, with which the suite signs.
#[derive(Debug)]
pub(crate) struct ForeignDomain {
    pub(super) es256: Signer,
    pub(super) ed25519: Ed25519KeyPair,
}

/// The name that its key identifiers begin with.
const KID: &str = "conformance-";

impl ForeignDomain {
    /// Its name; RFC 6761 reserves `.test` for such things.
    pub(crate) const NAME: &'static str = "conformance.test";

    /// From a P-256 and an Ed25519 key, both in PKCS #8.
    ///
    /// # Errors
    ///
    /// If either is none.
    pub(crate) fn new(es256: &[u8], ed25519: &[u8]) -> Result<Self, KeyRejected> {
        Ok(Self {
            es256: Signer::from_pkcs8(es256)?,
            ed25519: Ed25519KeyPair::from_pkcs8_maybe_unchecked(ed25519)?,
        })
    }

    /// Two new keys, both in PKCS #8, for [`new`](Self::new).
    ///
    /// # Errors
    ///
    /// If the system has no randomness.
    pub(crate) fn generate() -> Result<[Zeroizing<Vec<u8>>; 2], Unspecified> {
        let es256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?.to_pkcs8v1()?;
        let ed25519 = Ed25519KeyPair::generate()?.to_pkcs8v1()?;
        Ok([es256, ed25519].map(|key| Zeroizing::new(key.as_ref().to_vec())))
    }

    /// The bundle to federate with (SPIFFE Trust Domain and Bundle §4).
    pub(crate) fn bundle(&self) -> Value {
        let key = |jwk: Value, kid: String| {
            let mut key = jwk.as_object().cloned().unwrap_or_default();
            key.insert("use".to_owned(), json!("jwt-svid"));
            key.insert("kid".to_owned(), json!(kid));
            key
        };
        let keys = [key(self.es256.jwk(), self.kid()), key(self.ed25519_jwk(), self.ed25519_kid())];
        json!({ "keys": keys, "spiffe_sequence": 1 })
    }

    /// The identifier of the key for ES256.
    pub(super) fn kid(&self) -> String {
        format!("{KID}{}", thumbprint(&self.es256.jwk()))
    }

    /// The identifier of the key for EdDSA.
    pub(super) fn ed25519_kid(&self) -> String {
        format!("{KID}{}", thumbprint(&self.ed25519_jwk()))
    }

    fn ed25519_jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.ed25519.public_key().as_ref());
        json!({ "kty": "OKP", "crv": "Ed25519", "x": x })
    }

    /// Whether a JWT bundle has its key.
    pub(super) fn is_in(&self, bundle: &JwkSet) -> bool {
        let jwk = self.es256.jwk();
        let ours = jwk.as_object().cloned().unwrap_or_default();
        bundle.find(&self.kid()).is_some_and(|key: &Object| same_key(key, &ours))
    }
}

fn thumbprint(jwk: &Value) -> String {
    let hash = digest(&SHA256, jwk.to_string().as_bytes());
    hex::encode(hash.as_ref().get(..8).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_bundle_has_its_keys() {
        let [es256, ed25519] = ForeignDomain::generate().unwrap();
        let domain = ForeignDomain::new(&es256, &ed25519).unwrap();
        let bundle = JwkSet::parse(domain.bundle().to_string().as_bytes()).unwrap();
        assert!(domain.is_in(&bundle));
        assert_ne!(domain.kid(), domain.ed25519_kid());
        let [es256, ed25519] = ForeignDomain::generate().unwrap();
        assert!(!ForeignDomain::new(&es256, &ed25519).unwrap().is_in(&bundle));
        ForeignDomain::new(&ed25519, &es256).unwrap_err();
    }
}
