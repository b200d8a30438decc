//! The keys of envelopes: Ed25519, or ECDSA on P-256 with SHA-256 or on P-384 with SHA-384.

use std::fmt;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1,
    ECDSA_P384_SHA384_ASN1_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    ParsedPublicKey,
};
use claviger_core::evidence::KeyDigest;
use pem::{EncodeConfig, LineEnding, Pem};
use zeroize::Zeroizing;

use super::EnvelopeError;

/// A key that may have signed envelopes.
#[derive(Clone)]
pub struct Key {
    key: ParsedPublicKey,
    id: KeyDigest,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

impl Key {
    /// The public key that is written in `pem`, as SubjectPublicKeyInfo.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::Key`] if it is none of these, [`EnvelopeError::PrivateKey`] if it is a key to
    /// sign with.
    pub fn from_pem(pem: &[u8]) -> Result<Self, EnvelopeError> {
        let block = pem::parse(pem).map_err(|_not_pem| EnvelopeError::Key)?;
        let spki = Zeroizing::new(block.contents().to_vec());
        match block.tag() {
            "PUBLIC KEY" => Self::from_spki(&spki),
            tag if tag.ends_with("PRIVATE KEY") => Err(EnvelopeError::PrivateKey),
            _other => Err(EnvelopeError::Key),
        }
    }

    fn from_spki(spki: &[u8]) -> Result<Self, EnvelopeError> {
        let key = ParsedPublicKey::new(&ED25519, spki)
            .or_else(|_other| ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, spki))
            .or_else(|_other| ParsedPublicKey::new(&ECDSA_P384_SHA384_ASN1, spki))
            .map_err(|_other| EnvelopeError::Key)?;
        Ok(Self { key, id: KeyDigest::of_spki(spki) })
    }

    /// The SHA-256 of the key, as SubjectPublicKeyInfo: the `keyid` in our own envelopes.
    #[must_use]
    pub const fn id(&self) -> KeyDigest {
        self.id
    }

    /// Whether it made `signature` over `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
    }
}

/// How a new key signs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Algorithm {
    /// Ed25519.
    Ed25519,
    /// ECDSA on P-256 with SHA-256.
    EcdsaP256,
}

/// A key to sign envelopes with.
pub struct SigningKey(Pair);

enum Pair {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

impl SigningKey {
    /// A new key.
    ///
    /// # Errors
    ///
    /// [`Unspecified`] if there is no randomness.
    pub fn generate(algorithm: Algorithm) -> Result<Self, Unspecified> {
        let pair = match algorithm {
            Algorithm::Ed25519 => Pair::Ed25519(Ed25519KeyPair::generate()?),
            Algorithm::EcdsaP256 => {
                Pair::Ecdsa(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)?)
            }
        };
        Ok(Self(pair))
    }

    /// The private key that is written in `pem`, as PKCS #8 and not encrypted.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::SigningKey`] if it is none of these.
    pub fn from_pem(pem: &[u8]) -> Result<Self, EnvelopeError> {
        let block = pem::parse(pem).map_err(|_not_pem| EnvelopeError::SigningKey)?;
        let tag_fits = block.tag() == "PRIVATE KEY";
        let pkcs8 = Zeroizing::new(block.into_contents());
        if !tag_fits {
            return Err(EnvelopeError::SigningKey);
        }
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8(&pkcs8) {
            return Ok(Self(Pair::Ed25519(pair)));
        }
        [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING]
            .into_iter()
            .find_map(|algorithm| EcdsaKeyPair::from_pkcs8(algorithm, &pkcs8).ok())
            .map(|pair| Self(Pair::Ecdsa(pair)))
            .ok_or(EnvelopeError::SigningKey)
    }

    /// The private key as DER, PKCS #8.
    ///
    /// # Errors
    ///
    /// [`Unspecified`] if the library can't write it.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, Unspecified> {
        let document = match &self.0 {
            Pair::Ed25519(pair) => pair.to_pkcs8v1()?,
            Pair::Ecdsa(pair) => pair.to_pkcs8v1()?,
        };
        Ok(Zeroizing::new(document.as_ref().to_vec()))
    }

    /// The public key in PEM, as [`Key::from_pem`] reads it.
    ///
    /// # Errors
    ///
    /// [`Unspecified`] if the library can't write it.
    pub fn public_pem(&self) -> Result<String, Unspecified> {
        let pem = Pem::new("PUBLIC KEY", self.public_spki()?);
        Ok(pem::encode_config(&pem, EncodeConfig::new().set_line_ending(LineEnding::LF)))
    }

    /// The [`Key::id`] of its public key.
    ///
    /// # Errors
    ///
    /// [`Unspecified`] if the library can't write the key.
    pub fn id(&self) -> Result<KeyDigest, Unspecified> {
        Ok(KeyDigest::of_spki(&self.public_spki()?))
    }

    fn public_spki(&self) -> Result<Vec<u8>, Unspecified> {
        let spki = match &self.0 {
            Pair::Ed25519(pair) => pair.public_key().as_der()?,
            Pair::Ecdsa(pair) => pair.public_key().as_der()?,
        };
        Ok(spki.as_ref().to_vec())
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        match &self.0 {
            Pair::Ed25519(pair) => Ok(pair.try_sign(message)?.as_ref().to_vec()),
            Pair::Ecdsa(pair) => Ok(pair.sign(&SystemRandom::new(), message)?.as_ref().to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(tag: &str, der: &[u8]) -> String {
        pem::encode(&Pem::new(tag, der))
    }

    #[test]
    fn a_key_survives_its_file_and_knows_what_it_signed() {
        let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).unwrap();
        for key in [
            SigningKey::generate(Algorithm::Ed25519).unwrap(),
            SigningKey::generate(Algorithm::EcdsaP256).unwrap(),
            SigningKey(Pair::Ecdsa(p384)),
        ] {
            let private = pem("PRIVATE KEY", &key.to_pkcs8().unwrap());
            let again = SigningKey::from_pem(private.as_bytes()).unwrap();
            let public = Key::from_pem(key.public_pem().unwrap().as_bytes()).unwrap();
            assert_eq!(public.id(), again.id().unwrap());
            let signature = again.sign(b"message").unwrap();
            assert!(public.verifies(b"message", &signature));
            assert!(!public.verifies(b"Message", &signature));
            assert_eq!(Key::from_pem(private.as_bytes()).unwrap_err(), EnvelopeError::PrivateKey);
            assert!(!format!("{key:?}").contains(&hex::encode(key.to_pkcs8().unwrap())));
        }
    }

    #[test]
    fn other_keys_are_refused() {
        let rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let p521 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
        for key in [rsa, p521] {
            let public = Key::from_pem(key.public_key_pem().as_bytes());
            assert_eq!(public.unwrap_err(), EnvelopeError::Key);
            let private = SigningKey::from_pem(key.serialize_pem().as_bytes());
            assert_eq!(private.unwrap_err(), EnvelopeError::SigningKey);
        }
        let der = SigningKey::generate(Algorithm::EcdsaP256).unwrap().to_pkcs8().unwrap();
        for tag in ["EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "PUBLIC KEY"] {
            let read = SigningKey::from_pem(pem(tag, &der).as_bytes());
            assert_eq!(read.unwrap_err(), EnvelopeError::SigningKey, "{tag}");
        }
        for tag in ["CERTIFICATE", "PUBLIC KEY"] {
            let read = Key::from_pem(pem(tag, &der).as_bytes());
            assert_eq!(read.unwrap_err(), EnvelopeError::Key, "{tag}");
        }
        assert_eq!(Key::from_pem(b"no pem").unwrap_err(), EnvelopeError::Key);
    }
}
