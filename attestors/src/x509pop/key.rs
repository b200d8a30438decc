//! The key that a node's certificate names.

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::signature::{
    RSA_PSS_2048_8192_SHA256, RsaParameters, RsaPssSaltLength, UnparsedPublicKey,
};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521,
    OID_PKCS1_RSAENCRYPTION,
};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::wire::{Challenge, Response};
use crate::VerifyError;
use crate::possession::ecdsa::Curve;
use crate::possession::rsa::RsaKey;
use crate::possession::{Nonce, both};

/// A key that can be asked for a signature.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Key {
    Rsa(RsaKey),
    Ecdsa { curve: Curve, point: Vec<u8> },
}

impl Key {
    /// The key in `spki`.
    pub(super) fn parse(
        spki: &SubjectPublicKeyInfo<'_>,
        max_rsa_bits: usize,
    ) -> Result<Self, VerifyError> {
        if let Some(key) = measure(spki, max_rsa_bits)? {
            return Ok(Self::Rsa(key));
        }
        let is_ec = spki.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY;
        let curve = spki.algorithm.parameters.as_ref().filter(|_| is_ec);
        let curve = curve.and_then(|parameters| parameters.as_oid().ok()).and_then(|oid| {
            let known = [
                (OID_EC_P256, Curve::P256),
                (OID_NIST_EC_P384, Curve::P384),
                (OID_NIST_EC_P521, Curve::P521),
            ];
            known.into_iter().find_map(|(known, curve)| (known == oid).then_some(curve))
        });
        let point = spki.subject_public_key.as_ref().to_vec();
        curve.map(|curve| Self::Ecdsa { curve, point }).ok_or_else(|| {
            VerifyError::not_genuine(
                "the certificate's key is neither RSA nor ECDSA on P-256, P-384 or P-521",
            )
        })
    }

    /// The question for a key of this kind.
    pub(super) fn challenge(&self, nonce: &Nonce) -> Challenge {
        match self {
            Self::Rsa(_) => Challenge::rsa(nonce),
            Self::Ecdsa { .. } => Challenge::ecdsa(nonce),
        }
    }

    /// The node's own nonce, if it and the server's are signed with this key.
    pub(super) fn signed_nonce(&self, server: &Nonce, response: &Response) -> Option<Nonce> {
        match self {
            Self::Rsa(key) => {
                let answer = response.rsa_signature.as_ref()?;
                let nonce = answer.nonce.nonce()?;
                let signed = both(server, &nonce);
                let verifies = |parameters: &RsaParameters| {
                    key.has_signed(parameters, &signed, &answer.signature.0)
                };
                SALTS.iter().any(verifies).then_some(nonce)
            }
            Self::Ecdsa { curve, point } => {
                let answer = response.ecdsa_signature.as_ref()?;
                let nonce = answer.nonce.nonce()?;
                let signature = curve.fixed(&answer.r.0, &answer.s.0)?;
                let signed = both(server, &nonce);
                ecdsa_verifies(*curve, point, &signed, &signature).ok().map(|()| nonce)
            }
        }
    }
}

/// RSASSA-PSS with SHA-256 and as long a salt as the hash, as we sign; or as fits, as Go signs.
static SALTS: [RsaParameters; 2] = [
    RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256.with_pss_salt_length(RsaPssSaltLength::Max),
];

fn ecdsa_verifies(
    curve: Curve,
    point: &[u8],
    signed: &[u8],
    signature: &[u8],
) -> Result<(), Unspecified> {
    let key = UnparsedPublicKey::new(curve.verification(), point);
    key.verify_digest(&curve.sha256(signed)?, signature)
}

/// The RSA key in `spki`, if it is one; refused if it would be too dear to compute with.
pub(super) fn measure(
    spki: &SubjectPublicKeyInfo<'_>,
    max_rsa_bits: usize,
) -> Result<Option<RsaKey>, VerifyError> {
    if spki.algorithm.algorithm != OID_PKCS1_RSAENCRYPTION {
        return Ok(None);
    }
    let Ok(PublicKey::RSA(key)) = spki.parsed() else { return Err(VerifyError::Malformed) };
    let key = RsaKey::measure(key.modulus, key.exponent, max_rsa_bits);
    key.map(Some).map_err(|error| VerifyError::not_genuine(error.to_string()))
}
