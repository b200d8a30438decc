//! Issuers for tests.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use claviger_core::jose::{Algorithm, PublicKey, compact};
use serde_json::{Value, json};

/// A key of an issuer's.
pub(crate) struct SigningKey {
    id: String,
    pair: Pair,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl SigningKey {
    pub(crate) fn es256(id: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { id: id.to_owned(), pair: Pair::Ec(pair) }
    }

    pub(crate) fn rsa(id: &str) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        Self { id: id.to_owned(), pair: Pair::Rsa(pair) }
    }

    /// The public half.
    pub(crate) fn jwk(&self) -> Value {
        let spki: PublicKeyX509Der<'_> = match &self.pair {
            Pair::Ec(pair) => pair.public_key().as_der(),
            Pair::Rsa(pair) => pair.public_key().as_der(),
        }
        .unwrap();
        let key = PublicKey::from_spki(spki.as_ref()).unwrap();
        let mut jwk = serde_json::to_value(key.to_jwk()).unwrap();
        jwk["kid"] = json!(self.id);
        jwk
    }

    /// A set of this key alone.
    pub(crate) fn set(&self) -> String {
        json!({"keys": [self.jwk()]}).to_string()
    }

    pub(crate) fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ec(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let padding: &'static dyn RsaEncoding =
                    if algorithm == Algorithm::Ps256 { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// A token that claims this.
    pub(crate) fn token(&self, claims: &Value) -> String {
        let algorithm = match &self.pair {
            Pair::Ec(_) => Algorithm::Es256,
            Pair::Rsa(_) => Algorithm::Rs256,
        };
        let sign =
            |message: &[u8]| Ok::<_, std::convert::Infallible>(self.sign(algorithm, message));
        compact::build(algorithm, &self.id, "JWT", claims, sign).unwrap()
    }

    /// A token with a header of its own, signed as RS256 or ES256.
    pub(crate) fn token_with_header(&self, header: &Value, claims: &[u8]) -> String {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let signed = format!("{}.{}", text(header.to_string().as_bytes()), text(claims));
        let signature = self.sign(Algorithm::Rs256, signed.as_bytes());
        format!("{signed}.{}", text(&signature))
    }
}
