//! Tokens that an issuer signs (RFC 7515, RFC 7519).

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use claviger_core::jose::PublicKey;
use serde_json::{Value, json};

use crate::failure::Failure;

const KID: &str = "demo";

/// A key, made for this one demo.
#[derive(Debug)]
pub(super) struct Signer(EcdsaKeyPair);

impl Signer {
    pub(super) fn new() -> Result<Self, Failure> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        key.map(Self).map_err(|error| Failure::because(&error))
    }

    /// Its public half, as a JWK Set (RFC 7517 §5).
    pub(super) fn keys(&self) -> Result<Value, Failure> {
        let spki: PublicKeyX509Der<'_> =
            self.0.public_key().as_der().map_err(|error| Failure::because(&error))?;
        let key = PublicKey::from_spki(spki.as_ref()).map_err(|error| Failure::because(&error))?;
        let mut key =
            serde_json::to_value(key.to_jwk()).map_err(|error| Failure::because(&error))?;
        if let Some(members) = key.as_object_mut() {
            for (name, value) in [("kid", KID), ("use", "sig"), ("alg", "ES256")] {
                members.insert(name.to_owned(), value.into());
            }
        }
        Ok(json!({ "keys": [key] }))
    }

    /// A token with these `claims`.
    pub(super) fn token(&self, claims: &Value) -> Result<String, Failure> {
        let header = json!({"alg": "ES256", "kid": KID, "typ": "JWT"});
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.map_err(|error| Failure::because(&error))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }
}
