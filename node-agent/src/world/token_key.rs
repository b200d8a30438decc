//! What signs tokens in tests.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use claviger_core::bundle::TokenAuthority;
use claviger_core::jose::{Algorithm, PublicKey, compact};
use serde_json::Value;

/// A key of a trust domain, for JWT-SVIDs or for WIT-SVIDs.
pub(crate) struct TokenKey {
    key_id: String,
    pair: EcdsaKeyPair,
    pub(super) tainted: bool,
}

impl TokenKey {
    pub(crate) fn new(key_id: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { key_id: key_id.to_owned(), pair, tainted: false }
    }

    pub(crate) fn authority(&self) -> TokenAuthority {
        let spki: PublicKeyX509Der<'_> = self.pair.public_key().as_der().unwrap();
        let public_key = PublicKey::from_spki(spki.as_ref()).unwrap();
        let (key_id, tainted) = (self.key_id.clone(), self.tainted);
        TokenAuthority { key_id, public_key, expires_at: None, tainted }
    }

    /// A token that says it is a `kind`.
    pub(crate) fn token(&self, kind: &str, claims: &Value) -> String {
        let sign = |message: &[u8]| {
            let signature = self.pair.sign(&SystemRandom::new(), message);
            signature.map(|signature| signature.as_ref().to_vec())
        };
        compact::build(Algorithm::Es256, &self.key_id, kind, claims, sign).unwrap()
    }
}
