//! The signed envelope: COSE_Sign1 (RFC 9052 §4.2), in the one form that the hypervisor writes.
//!
//! What is left to whoever writes an envelope, and so to whoever copies it, does not matter to the
//! verdict: a tag, a length with leading zeros. Nothing is ever recognised by these bytes.

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

use super::MAX_PAYLOAD;

/// A COSE_Sign1 structure, not verified yet.
#[derive(Debug)]
pub(super) struct Envelope<'a> {
    protected: &'a [u8],
    pub(super) payload: &'a [u8],
    signature: &'a [u8],
}

/// The tag of COSE_Sign1, which may be left out (RFC 9052 §2).
const SIGN1: u64 = 18;

/// The protected header, `{1: -35}`: the algorithm is ES384 (RFC 9053 §2.1).
const ES384: &[u8] = &[0xa1, 0x01, 0x38, 0x22];

/// Two numbers as long as the curve, one after the other (RFC 9053 §2.1).
const SIGNATURE: usize = 96;

impl<'a> Envelope<'a> {
    /// Reads the envelope that is all of `bytes`, of which there are no more than `MAX_DOCUMENT`.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        let mut decoder = Decoder::new(bytes);
        if decoder.datatype()? == Type::Tag && decoder.tag()?.as_u64() != SIGN1 {
            return Err(EnvelopeError::Tag);
        }
        if decoder.array()? != Some(4) {
            return Err(EnvelopeError::Parts);
        }
        let protected = decoder.bytes()?;
        if decoder.map()? != Some(0) {
            return Err(EnvelopeError::Unprotected);
        }
        let (payload, signature) = (decoder.bytes()?, decoder.bytes()?);
        if !(1..=MAX_PAYLOAD).contains(&payload.len()) {
            return Err(EnvelopeError::Payload(payload.len()));
        }
        let trailing = bytes.len().saturating_sub(decoder.position());
        if trailing != 0 {
            return Err(EnvelopeError::Trailing(trailing));
        }
        Ok(Self { protected, payload, signature })
    }

    /// That it is signed with ES384 and says nothing else about itself.
    pub(super) fn check_algorithm(&self) -> Result<(), EnvelopeError> {
        if self.protected == ES384 {
            return Ok(());
        }
        let header = self.protected.iter().take(32).copied().collect::<Vec<_>>();
        Err(EnvelopeError::Algorithm(hex::encode(header)))
    }

    /// That the key at this `point` of P-384 signed the payload.
    pub(super) fn check_signature(&self, point: &[u8]) -> Result<(), EnvelopeError> {
        if self.signature.len() != SIGNATURE {
            return Err(EnvelopeError::Length(self.signature.len()));
        }
        let signed = self.signed().ok_or(EnvelopeError::Signature)?;
        UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point)
            .verify(&signed, self.signature)
            .map_err(|_unspecified| EnvelopeError::Signature)
    }

    /// The bytes that are signed: `Sig_structure` (RFC 9052 §4.4).
    fn signed(&self) -> Option<Vec<u8>> {
        let mut encoder = Encoder::new(Vec::with_capacity(self.payload.len().saturating_add(32)));
        encoder.array(4).ok()?.str("Signature1").ok()?.bytes(self.protected).ok()?;
        encoder.bytes(&[]).ok()?.bytes(self.payload).ok()?;
        Some(encoder.into_writer())
    }
}

/// Why bytes are no envelope of the hypervisor's, or not a signed one.
#[derive(Debug, thiserror::Error)]
pub(super) enum EnvelopeError {
    #[error("it is no COSE_Sign1: {0}")]
    Cbor(minicbor::decode::Error),
    #[error("its tag is another one than that of COSE_Sign1")]
    Tag,
    #[error("it is no array of four parts")]
    Parts,
    #[error("its unprotected header is not empty")]
    Unprotected,
    #[error("its payload has {0} bytes; 1 to {MAX_PAYLOAD} are allowed")]
    Payload(usize),
    #[error("{0} bytes follow its end")]
    Trailing(usize),
    #[error("its protected header is {0}; {{1: -35}} (a1013822) alone is allowed")]
    Algorithm(String),
    #[error("the signature has {0} bytes; one of ES384 has {SIGNATURE}")]
    Length(usize),
    #[error("the key of the last certificate did not sign it")]
    Signature,
}

impl From<minicbor::decode::Error> for EnvelopeError {
    fn from(error: minicbor::decode::Error) -> Self {
        Self::Cbor(error)
    }
}
