//! Signed envelopes (DSSE 1.0): what an operator or a publisher signed, and by which key.

mod keys;

use aws_lc_rs::error::Unspecified;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::{Deserialize, Serialize};

use crate::json;
pub use keys::{Algorithm, Key, SigningKey};

/// An envelope as it is written. Members that are not known here are passed over, as the protocol
/// wants it: they are not signed, and nothing goes by them.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
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
    /// Signs `payload`, which is of `payload_type`, with each of `keys`.
    ///
    /// # Errors
    ///
    /// [`Unspecified`] if the library can't.
    pub fn seal(
        payload_type: &str,
        payload: &[u8],
        keys: &[SigningKey],
    ) -> Result<Self, Unspecified> {
        let signed = authenticated(payload_type, payload);
        let sign = |key: &SigningKey| {
            let keyid = Some(key.id()?.to_string());
            Ok::<_, Unspecified>(Signature { keyid, sig: STANDARD.encode(key.sign(&signed)?) })
        };
        Ok(Self {
            payload_type: payload_type.to_owned(),
            payload: STANDARD.encode(payload),
            signatures: keys.iter().map(sign).collect::<Result<_, _>>()?,
        })
    }

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
        self.open_with(payload_type, keys).map(|(payload, _key)| payload)
    }

    /// The same, and the first of `keys` that signed it.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_with<'a>(
        &self,
        payload_type: &str,
        keys: &'a [Key],
    ) -> Result<(Vec<u8>, &'a Key), EnvelopeError> {
        let payload = self.unverified(payload_type)?;
        let signed = authenticated(payload_type, &payload);
        // A signature that can't be read is somebody else's matter, as long as another is ours.
        let signatures: Vec<_> =
            self.signatures.iter().filter_map(|one| decode(&one.sig)).collect();
        let signer = keys
            .iter()
            .find(|key| signatures.iter().any(|signature| key.verifies(&signed, signature)));
        signer.map(|key| (payload, key)).ok_or(EnvelopeError::Unsigned)
    }

    /// The payload, which nobody vouches for.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::Type`] if it is of another type, [`EnvelopeError::Malformed`] if it is not in
    /// base64.
    pub fn unverified(&self, payload_type: &str) -> Result<Vec<u8>, EnvelopeError> {
        if self.payload_type != payload_type {
            return Err(EnvelopeError::Type);
        }
        decode(&self.payload).ok_or(EnvelopeError::Malformed)
    }
}

/// Both kinds of base64 are in use.
fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).or_else(|_other| URL_SAFE.decode(text)).ok()
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
    /// A key to sign with was given where one to check with is wanted.
    #[error("it is a private key; name the public one here, and keep the private one elsewhere")]
    PrivateKey,
    /// A key can't be used to sign.
    #[error(
        "it is no private key in PEM, PKCS #8 and not encrypted (Ed25519, or ECDSA on P-256 or P-384)"
    )]
    SigningKey,
}

#[cfg(test)]
pub(crate) mod fixture {
    use super::*;

    /// `payload` in an envelope, and the key that signed it.
    pub(crate) fn sealed(payload_type: &str, payload: &[u8]) -> (Vec<u8>, Key) {
        let pair = SigningKey::generate(Algorithm::Ed25519).unwrap();
        let key = Key::from_pem(pair.public_pem().unwrap().as_bytes()).unwrap();
        let envelope = Envelope::seal(payload_type, payload, &[pair]).unwrap();
        (serde_json::to_vec(&envelope).unwrap(), key)
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
        // The hint says nothing about who signed.
        let keyid = Some(keys[1].id().to_string());
        envelope.signatures.push(Signature { keyid, sig: String::new() });
        assert_eq!(envelope.open("a/b", &keys).unwrap_err(), EnvelopeError::Unsigned);
    }

    #[test]
    fn signatures_of_others_and_unknown_members_do_no_harm() {
        let (json, key) = fixture::sealed("a/b", b"payload");
        let mut json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        json["payload"] = URL_SAFE.encode("payload").into();
        let others = [serde_json::json!({"sig": "!"}), serde_json::json!({"sig": "AA==", "x": 1})];
        json["signatures"].as_array_mut().unwrap().splice(0..0, others);
        let envelope = Envelope::parse(json.to_string().as_bytes()).unwrap();
        let stranger = fixture::sealed("a/b", b"").1;
        let keys = [stranger, key];
        let (payload, signer) = envelope.open_with("a/b", &keys).unwrap();
        assert_eq!((payload.as_slice(), signer.id()), (&b"payload"[..], keys[1].id()));
    }

    #[test]
    fn what_is_no_envelope_is_refused() {
        let signatures = vec![r#"{"sig":""}"#; MAX_SIGNATURES + 1].join(",");
        for json in [
            "[]".to_owned(),
            r#"{"payloadType":"a","payload":""}"#.to_owned(),
            r#"{"payloadType":"a","payloadType":"b","payload":"","signatures":[]}"#.to_owned(),
            format!(r#"{{"payloadType":"a","payload":"","signatures":[{signatures}]}}"#),
        ] {
            let error = Envelope::parse(json.as_bytes()).unwrap_err();
            assert_eq!(error, EnvelopeError::Malformed, "{json}");
        }
    }
}
