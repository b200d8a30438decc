//! Keys for tests.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::Value;

use super::TokenAuthority;
use crate::jose::{Algorithm, PublicKey, compact};

/// A key that signs tokens.
pub(crate) struct TokenKey {
    key_id: String,
    pair: EcdsaKeyPair,
}

impl TokenKey {
    pub(crate) fn generate(key_id: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { key_id: key_id.to_owned(), pair }
    }

    pub(crate) fn authority(&self) -> TokenAuthority {
        let spki: PublicKeyX509Der<'_> = self.pair.public_key().as_der().unwrap();
        let public_key = PublicKey::from_spki(spki.as_ref()).unwrap();
        TokenAuthority { key_id: self.key_id.clone(), public_key, expires_at: None, tainted: false }
    }

    /// A token that says it is a `kind`.
    pub(crate) fn token(&self, kind: &str, claims: &Value) -> String {
        let sign = |message: &[u8]| {
            self.pair
                .sign(&SystemRandom::new(), message)
                .map(|signature| signature.as_ref().to_vec())
        };
        compact::build(Algorithm::Es256, &self.key_id, kind, claims, sign).unwrap()
    }
}
