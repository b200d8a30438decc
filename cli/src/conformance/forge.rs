//! Tokens that nobody should accept, and the keys to sign them with.

use aws_lc_rs::error::{KeyRejected, Unspecified};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A P-256 key that signs ES256.
#[derive(Debug)]
pub(super) struct Signer(EcdsaKeyPair);

impl Signer {
    /// A key that nobody knows.
    pub(super) fn generate() -> Result<Self, Unspecified> {
        EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Self)
    }

    /// A key from a file.
    pub(super) fn from_pkcs8(der: &[u8]) -> Result<Self, KeyRejected> {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map(Self)
    }

    /// The public half as a JWK.
    pub(super) fn jwk(&self) -> Value {
        // An uncompressed point: 4, then both coordinates (SEC 1 §2.3.3).
        let point = self.0.public_key().as_ref().get(1..).unwrap_or_default();
        let (x, y) = point.split_at(point.len() / 2);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y })
    }

    /// A token of these texts, which need not be JSON.
    pub(super) fn sign(&self, header: &str, claims: &str) -> Result<String, Unspecified> {
        let signed = unsigned(header, claims);
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes())?;
        Ok(with_signature(&signed, signature.as_ref()))
    }
}

/// A token signed with EdDSA.
pub(super) fn eddsa(key: &Ed25519KeyPair, header: &str, claims: &str) -> String {
    let signed = unsigned(header, claims);
    with_signature(&signed, key.sign(signed.as_bytes()).as_ref())
}

/// A token whose "signature" is a MAC, keyed with something public.
pub(super) fn hs256(secret: &[u8], header: &str, claims: &str) -> String {
    let signed = unsigned(header, claims);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    with_signature(&signed, hmac::sign(&key, signed.as_bytes()).as_ref())
}

/// Header and payload, encoded.
pub(super) fn unsigned(header: &str, claims: &str) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}

/// The three parts together.
pub(super) fn with_signature(signed: &str, signature: &[u8]) -> String {
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::jose::Token;

    #[test]
    fn a_forged_token_is_a_token() {
        let signer = Signer::generate().unwrap();
        let token = signer.sign(r#"{"alg":"ES256"}"#, r#"{"sub":"x"}"#).unwrap();
        let token = Token::parse(&token).unwrap();
        assert_eq!(token.claim("sub"), Some("x"));
        assert_eq!(token.is_signed_by(signer.jwk().as_object().unwrap()), Some(true));
        let stranger = Signer::generate().unwrap().jwk();
        assert_eq!(token.is_signed_by(stranger.as_object().unwrap()), Some(false));
    }
}
