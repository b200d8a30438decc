//! Private keys, made where they are used.

use std::fmt;

use aws_lc_rs::encoding::{AsBigEndian, AsDer, EcPrivateKeyBin, PublicKeyX509Der};
use aws_lc_rs::error::{KeyRejected, Unspecified};
use aws_lc_rs::pkcs8::Document;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use claviger_core::jose::PublicKey;
use claviger_core::jose::key::Jwk;
use rcgen::{CertificateParams, DistinguishedName, PublicKeyData, SignatureAlgorithm, SigningKey};
use serde::Serialize;
use zeroize::Zeroizing;

/// A P-256 key pair. Both forms of the private key are wiped on drop: this one's, and the library's
/// in its own memory.
pub(crate) struct Key {
    pair: EcdsaKeyPair,
    pkcs8: Document,
}

impl Key {
    /// Makes a key.
    pub(crate) fn generate() -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)?;
        let pkcs8 = pair.to_pkcs8v1()?;
        Ok(Self { pair, pkcs8 })
    }

    /// The key in `pkcs8`, DER.
    pub(crate) fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8)?;
        let pkcs8 = pair.to_pkcs8v1()?;
        Ok(Self { pair, pkcs8 })
    }

    /// The private key, PKCS#8 DER.
    pub(crate) fn pkcs8(&self) -> &[u8] {
        self.pkcs8.as_ref()
    }

    /// The private key, PKCS#8 DER, to share; it is wiped with the last reference to it.
    pub(crate) fn into_shared_pkcs8(self) -> Bytes {
        Bytes::from_owner(self.pkcs8)
    }

    /// The private key as a JWK (RFC 7518 §6.2.2), in JSON.
    pub(crate) fn private_jwk(&self) -> Result<Zeroizing<String>, KeyError> {
        /// The members of the public key, and what makes it a private one.
        #[derive(Serialize)]
        struct PrivateJwk<'a> {
            #[serde(flatten)]
            public: Jwk,
            alg: &'static str,
            d: &'a str,
        }
        /// More than it takes, so that no part of it is left behind where it grew.
        const ROOM: usize = 512;

        let public = PublicKey::from_spki(&self.spki()?).map_err(|_ours| Unspecified)?;
        let secret: EcPrivateKeyBin<'_> = self.pair.private_key().as_be_bytes()?;
        let mut d = Zeroizing::new(String::with_capacity(ROOM));
        URL_SAFE_NO_PAD.encode_string(secret.as_ref(), &mut d);
        let alg = public.default_algorithm().name();
        let jwk = PrivateJwk { public: public.to_jwk(), alg, d: &d };
        let mut text = Zeroizing::new(Vec::with_capacity(ROOM));
        serde_json::to_writer(&mut *text, &jwk).map_err(|_never| Unspecified)?;
        let text = String::from_utf8(std::mem::take(&mut *text)).map_err(|_never| Unspecified)?;
        Ok(Zeroizing::new(text))
    }

    /// The public key, SubjectPublicKeyInfo DER.
    pub(crate) fn spki(&self) -> Result<Vec<u8>, KeyError> {
        let spki: PublicKeyX509Der<'_> = self.pair.public_key().as_der()?;
        Ok(spki.as_ref().to_vec())
    }

    /// A certificate request, DER. It names nobody: whose certificate it becomes is for the server
    /// to say, and only the key and the proof of its possession count.
    pub(crate) fn request(&self) -> Result<Vec<u8>, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        Ok(params.serialize_request(self)?.der().to_vec())
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.pair.sign(&SystemRandom::new(), message);
        Ok(signature.map_err(|_unspecified| rcgen::Error::RingUnspecified)?.as_ref().to_vec())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// A key can't be made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The library does not say why; in practice, the system is out of memory or randomness.
    #[error("the cryptographic library failed")]
    Library(#[from] Unspecified),
    /// Bytes are not a P-256 key.
    #[error("not a P-256 private key in PKCS#8 form")]
    Rejected(#[from] KeyRejected),
    /// A request can't be written.
    #[error("cannot write a certificate request")]
    Request(#[from] rcgen::Error),
}

#[cfg(test)]
mod tests {
    use rcgen::CertificateSigningRequestParams;
    use rustls_pki_types::CertificateSigningRequestDer;

    use super::*;

    #[test]
    fn a_request_proves_possession_and_names_nobody() {
        let key = Key::generate().unwrap();
        let der = CertificateSigningRequestDer::from(key.request().unwrap());
        // Parsing checks the signature.
        let request = CertificateSigningRequestParams::from_der(&der).unwrap();
        assert_eq!(request.params.distinguished_name.iter().count(), 0);
        assert_eq!(request.params.subject_alt_names, []);
        assert_eq!(request.public_key.subject_public_key_info(), key.spki().unwrap());
    }

    #[test]
    fn a_key_comes_back_from_its_bytes() {
        let key = Key::generate().unwrap();
        let same = Key::from_pkcs8(key.pkcs8()).unwrap();
        assert_eq!(same.spki().unwrap(), key.spki().unwrap());
        assert_eq!(same.pkcs8(), key.pkcs8());
        assert_eq!(key.into_shared_pkcs8(), same.pkcs8());
        Key::from_pkcs8(b"junk").unwrap_err();
    }

    #[test]
    fn a_jwk_holds_both_halves_of_the_key() {
        let key = Key::generate().unwrap();
        let jwk: serde_json::Value = serde_json::from_str(&key.private_jwk().unwrap()).unwrap();
        let mut members: Vec<_> = jwk.as_object().unwrap().keys().map(String::as_str).collect();
        members.sort_unstable();
        assert_eq!(members, ["alg", "crv", "d", "kty", "x", "y"]);
        assert_eq!(
            (&jwk["kty"], &jwk["crv"], &jwk["alg"]),
            (&"EC".into(), &"P-256".into(), &"ES256".into())
        );
        let public = PublicKey::from_jwk(&serde_json::from_value(jwk.clone()).unwrap()).unwrap();
        assert_eq!(public.spki(), key.spki().unwrap());
        let secret = URL_SAFE_NO_PAD.decode(jwk["d"].as_str().unwrap()).unwrap();
        let point = key.pair.public_key().as_ref();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        EcdsaKeyPair::from_private_key_and_public_key(algorithm, &secret, point).unwrap();
    }

    #[test]
    fn a_key_is_not_printed() {
        assert_eq!(format!("{:?}", Key::generate().unwrap()), "Key(..)");
    }
}
