//! Public keys of hosts and of authorities, and what they signed.

use aws_lc_rs::signature::{
    ED25519, RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey,
};

use super::encoding::Reader;
use crate::possession::ecdsa::Curve;
use crate::possession::rsa::{MAX_BITS, RsaKey};

/// A key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Key {
    Ed25519(Vec<u8>),
    Ecdsa(Curve, Vec<u8>),
    Rsa(RsaKey),
}

/// A signature: its algorithm, and the bytes in that algorithm's format.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signature<'a> {
    pub(super) format: &'a str,
    pub(super) blob: &'a [u8],
}

/// What a signature is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Purpose {
    /// An authority's, under something that others had a hand in. SHA-1 is refused: they could have
    /// prepared two certificates of one hash.
    Certificate,
    /// A node's, under the hash of two nonces. SHA-1 is taken, because SPIRE's agent uses it with RSA
    /// keys; to abuse it would take a second preimage of a hash that nobody chose.
    Possession,
}

impl Key {
    /// The key that `blob` is, in the format of RFC 4253 §6.6.
    pub(super) fn parse(blob: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(blob);
        let kind = reader.text()?;
        let key = Self::fields(kind, &mut reader)?;
        reader.finish(key)
    }

    /// The key of this kind whose fields come next. An RSA key that would be too dear to compute
    /// with is none.
    pub(super) fn fields(kind: &str, reader: &mut Reader<'_>) -> Option<Self> {
        match kind {
            "ssh-ed25519" => {
                let point = reader.string()?;
                (point.len() == 32).then(|| Self::Ed25519(point.to_vec()))
            }
            "ssh-rsa" => {
                let (exponent, modulus) = (reader.mpint()?, reader.mpint()?);
                RsaKey::measure(modulus, exponent, MAX_BITS).ok().map(Self::Rsa)
            }
            other => {
                let named = |curve: &Curve| ecdsa_name(*curve) == other;
                let curve = Curve::ALL.into_iter().find(named)?;
                let name = reader.text()?;
                let point = reader.string()?;
                other.ends_with(name).then(|| Self::Ecdsa(curve, point.to_vec()))
            }
        }
    }

    /// Whether `signature` is this key's, of `message`.
    pub(super) fn has_signed(
        &self,
        message: &[u8],
        signature: Signature<'_>,
        purpose: Purpose,
    ) -> bool {
        match self {
            Self::Ed25519(point) => {
                let key = UnparsedPublicKey::new(&ED25519, point);
                signature.format == "ssh-ed25519" && key.verify(message, signature.blob).is_ok()
            }
            Self::Ecdsa(curve, point) => {
                let key = UnparsedPublicKey::new(curve.verification(), point);
                signature.format == ecdsa_name(*curve)
                    && ecdsa_numbers(*curve, signature.blob)
                        .is_some_and(|numbers| key.verify(message, &numbers).is_ok())
            }
            Self::Rsa(key) => {
                let parameters = match signature.format {
                    "rsa-sha2-256" => &RSA_PKCS1_2048_8192_SHA256,
                    "rsa-sha2-512" => &RSA_PKCS1_2048_8192_SHA512,
                    "ssh-rsa" if purpose == Purpose::Possession => {
                        &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY
                    }
                    _ => return false,
                };
                key.has_signed(parameters, message, signature.blob)
            }
        }
    }
}

/// The name of a curve's keys and signatures (RFC 5656 §3.1).
pub(super) const fn ecdsa_name(curve: Curve) -> &'static str {
    match curve {
        Curve::P256 => "ecdsa-sha2-nistp256",
        Curve::P384 => "ecdsa-sha2-nistp384",
        Curve::P521 => "ecdsa-sha2-nistp521",
    }
}

/// `r || s` of a signature in the format of RFC 5656 §3.1.2.
fn ecdsa_numbers(curve: Curve, blob: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader::new(blob);
    let (r, s) = (reader.mpint()?, reader.mpint()?);
    reader.finish(curve.fixed(r, s)?)
}
