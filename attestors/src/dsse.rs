//! Signed envelopes (DSSE 1.0): what an operator or a publisher signed, and by which key.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, ParsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::json;

/// A key that signs envelopes: Ed25519, or ECDSA on P-256 with SHA-256 or on P-384 with SHA-384.
#[derive(Clone)]
pub struct Key(ParsedPublicKey);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.0.algorithm())
    }
}

impl Key {
    /// The public key that is written in `pem`, as SubjectPublicKeyInfo.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::Key`] if it is none of these.
    pub fn from_pem(pem: &[u8]) -> Result<Self, EnvelopeError> {
        let block = pem::parse(pem).map_err(|_not_pem| EnvelopeError::Key)?;
        if block.tag() != "PUBLIC KEY" {
            return Err(EnvelopeError::Key);
        }
        let spki = block.contents();
        ParsedPublicKey::new(&ED25519, spki)
            .or_else(|_other| ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, spki))
            .or_else(|_other| ParsedPublicKey::new(&ECDSA_P384_SHA384_ASN1, spki))
            .map(Self)
            .map_err(|_other| EnvelopeError::Key)
    }
}

/// An envelope as it is written.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Envelope {
    /// What the payload is, as a media type.
    pub payload_type: String,
    /// The payload, in base64.
    pub payload: String,
    /// Signatures of it.
    pub signatures: Vec<Signature>,
}

/// One signature in an envelope.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// A hint which key made it. It is not relied upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyid: Option<String>,
    /// The signature, in base64.
    pub sig: String,
}

/// The most signatures that are looked at.
const MAX_SIGNATURES: usize = 16;

impl Envelope {
    /// Reads an envelope. It is not verified yet.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::Malformed`] if it is none, or has more than 16 signatures.
    pub fn parse(json: &[u8]) -> Result<Self, EnvelopeError> {
        let envelope: Self = json::read(json).map_err(|_not_json| EnvelopeError::Malformed)?;
        let bounded = envelope.signatures.len() <= MAX_SIGNATURES;
        bounded.then_some(envelope).ok_or(EnvelopeError::Malformed)
    }

    /// The payload, if it is of `payload_type` and one of `keys` signed it.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError`] if it is of another type or none of the keys signed it.
    pub fn open(&self, payload_type: &str, keys: &[Key]) -> Result<Vec<u8>, EnvelopeError> {
        if self.payload_type != payload_type {
            return Err(EnvelopeError::Type);
        }
        let decode = |text: &str| STANDARD.decode(text).map_err(|_text| EnvelopeError::Malformed);
        let payload = decode(&self.payload)?;
        let signed = authenticated(payload_type, &payload);
        for signature in &self.signatures {
            let signature = decode(&signature.sig)?;
            if keys.iter().any(|key| key.0.verify_sig(&signed, &signature).is_ok()) {
                return Ok(payload);
            }
        }
        Err(EnvelopeError::Unsigned)
    }
}

/// The bytes that are signed: DSSE's pre-authentication encoding.
#[must_use]
pub fn authenticated(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let (kind, size) = (payload_type.len(), payload.len());
    let mut bytes = format!("DSSEv1 {kind} {payload_type} {size} ").into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// Why an envelope says nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EnvelopeError {
    /// It is no envelope.
    #[error("it is no DSSE envelope in JSON, or it has more than 16 signatures")]
    Malformed,
    /// Its payload is something else.
    #[error("its payload is of another type")]
    Type,
    /// No signature is by a key that is trusted.
    #[error("none of the trusted keys signed it")]
    Unsigned,
    /// A key can't be used.
    #[error("it is no public key in PEM (Ed25519, or ECDSA on P-256 or P-384)")]
    Key,
}

#[cfg(test)]
pub(crate) mod fixture {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;

    /// `payload` in an envelope, and the key that signed it.
    pub(crate) fn sealed(payload_type: &str, payload: &[u8]) -> (Vec<u8>, Key) {
        let pair = Ed25519KeyPair::generate().unwrap();
        let sig = STANDARD.encode(pair.sign(&authenticated(payload_type, payload)));
        let envelope = Envelope {
            payload_type: payload_type.to_owned(),
            payload: STANDARD.encode(payload),
            signatures: vec![Signature { keyid: None, sig }],
        };
        let key = ParsedPublicKey::new(&ED25519, pair.public_key().as_ref()).unwrap();
        (serde_json::to_vec(&envelope).unwrap(), Key(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example in the specification of the protocol.
    #[test]
    fn what_is_signed_is_framed_as_specified() {
        let bytes = authenticated("http://example.com/HelloWorld", b"hello world");
        let expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world";
        assert_eq!(bytes, expected);
    }

    #[test]
    fn only_a_trusted_key_over_the_very_payload_counts() {
        let (json, key) = fixture::sealed("a/b", b"payload");
        let (_, stranger) = fixture::sealed("a/b", b"payload");
        let mut envelope = Envelope::parse(&json).unwrap();
        let keys = [stranger.clone(), key];
        assert_eq!(envelope.open("a/b", &keys).unwrap(), b"payload");
        assert_eq!(envelope.open("a/c", &keys).unwrap_err(), EnvelopeError::Type);
        assert_eq!(envelope.open("a/b", &[stranger]).unwrap_err(), EnvelopeError::Unsigned);
        assert_eq!(envelope.open("a/b", &[]).unwrap_err(), EnvelopeError::Unsigned);
        envelope.payload = STANDARD.encode("Payload");
        assert_eq!(envelope.open("a/b", &keys).unwrap_err(), EnvelopeError::Unsigned);
        envelope.signatures.clear();
        assert_eq!(envelope.open("a/b", &keys).unwrap_err(), EnvelopeError::Unsigned);
    }
}
