//! Which algorithms each profile stands for, in the words of both TLS stacks.
//!
//! | profile | key exchange, best first | suites | signatures |
//! |---|---|---|---|
//! | `modern` | X25519MLKEM768, SecP256r1MLKEM768; X25519, P-256, P-384 | AES-GCM, ChaCha20-Poly1305 | whatever AWS-LC verifies |
//! | `nist-800-52r2` | X25519MLKEM768, SecP256r1MLKEM768; P-256, P-384 | AES-GCM | ECDSA P-256 and P-384, RSA |
//! | `cnsa2` | ML-KEM-1024; P-384 | AES-256-GCM | ECDSA P-384, ML-DSA-87 |
//!
//! By one-time keys there is SecP384r1MLKEM1024 as well, and P-521 within `nist-800-52r2`: rustls does not
//! have them.
//!
//! X25519MLKEM768 is in good standing with NIST, though X25519 by itself is not: the secret of ML-KEM
//! comes first, and what is added to an approved secret does not count against it (SP 800-56C rev. 2
//! §2, SP 800-227 §4.6).
//!
//! `cnsa2` needs SVIDs with keys of P-384 or ML-DSA-87, signed by such keys. Claviger's own server and agent
//! make keys of P-256, and a shim that is given those says so and shakes no hands.
//!
//! `cnsa2` has no one-time keys either. A key is made for one hash (RFC 8446 §4.2.11), ours for SHA-256, and
//! the one suite of that profile has SHA-384. P-384 stands in where the peer has no ML-KEM-1024, as it
//! may until 2033; take `context.transport.post_quantum` into the policies to rule it out.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use webpki::aws_lc_rs as algorithms;

use crate::route::{Mode, Profile};

impl Profile {
    /// Whether routes of `mode` can be had in this profile.
    ///
    /// # Errors
    ///
    /// [`ProfileError`] says which cannot, and what to do.
    pub const fn check(self, mode: Mode) -> Result<(), ProfileError> {
        match (self, mode) {
            (Self::Cnsa2, Mode::Psk) => Err(ProfileError),
            (Self::Modern | Self::Nist80052r2 | Self::Cnsa2, _) => Ok(()),
        }
    }

    /// The security policy of s2n-tls. A dated policy never changes; a test pins what each negotiates.
    pub(crate) const fn s2n_policy(self) -> Result<&'static str, ProfileError> {
        match self {
            Self::Modern => Ok("CloudFront-Upstream-TLS-1-3-2025-PQ"),
            Self::Nist80052r2 => Ok("ELBSecurityPolicy-TLS13-1-3-FIPS-PQ-2025-09"),
            Self::Cnsa2 => Err(ProfileError),
        }
    }

    /// The algorithms of rustls.
    pub(crate) fn provider(self) -> Arc<CryptoProvider> {
        use cipher_suite::{
            TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
        };
        use kx_group::{
            MLKEM1024, SECP256R1, SECP256R1MLKEM768, SECP384R1, X25519, X25519MLKEM768,
        };

        let provider = default_provider();
        let all = provider.signature_verification_algorithms;
        let (cipher_suites, kx_groups, signatures) = match self {
            Self::Modern => (
                vec![
                    TLS13_AES_128_GCM_SHA256,
                    TLS13_AES_256_GCM_SHA384,
                    TLS13_CHACHA20_POLY1305_SHA256,
                ],
                vec![X25519MLKEM768, SECP256R1MLKEM768, X25519, SECP256R1, SECP384R1],
                all,
            ),
            Self::Nist80052r2 => (
                vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384],
                vec![X25519MLKEM768, SECP256R1MLKEM768, SECP256R1, SECP384R1],
                NIST,
            ),
            Self::Cnsa2 => (vec![TLS13_AES_256_GCM_SHA384], vec![MLKEM1024, SECP384R1], CNSA2),
        };
        Arc::new(CryptoProvider {
            cipher_suites,
            kx_groups,
            signature_verification_algorithms: signatures,
            ..provider
        })
    }

    /// What SVIDs have to be able to sign by.
    pub(crate) fn schemes(self) -> Vec<SignatureScheme> {
        self.provider().signature_verification_algorithms.supported_schemes()
    }
}

/// ECDSA and RSA, with SHA-2 throughout.
const NIST: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        algorithms::ECDSA_P256_SHA256,
        algorithms::ECDSA_P256_SHA384,
        algorithms::ECDSA_P384_SHA256,
        algorithms::ECDSA_P384_SHA384,
        algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
        algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
        algorithms::RSA_PKCS1_2048_8192_SHA256,
        algorithms::RSA_PKCS1_2048_8192_SHA384,
        algorithms::RSA_PKCS1_2048_8192_SHA512,
    ],
    mapping: &[
        (SignatureScheme::ECDSA_NISTP256_SHA256, &[algorithms::ECDSA_P256_SHA256]),
        (SignatureScheme::ECDSA_NISTP384_SHA384, &[algorithms::ECDSA_P384_SHA384]),
        (SignatureScheme::RSA_PSS_SHA256, &[algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY]),
        (SignatureScheme::RSA_PSS_SHA384, &[algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY]),
        (SignatureScheme::RSA_PSS_SHA512, &[algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY]),
    ],
};

/// P-384 with SHA-384, and ML-DSA-87.
const CNSA2: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[algorithms::ML_DSA_87, algorithms::ECDSA_P384_SHA384],
    mapping: &[
        (SignatureScheme::ML_DSA_87, &[algorithms::ML_DSA_87]),
        (SignatureScheme::ECDSA_NISTP384_SHA384, &[algorithms::ECDSA_P384_SHA384]),
    ],
};

/// One-time keys are for SHA-256, and `cnsa2` has none but SHA-384.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "the profile `cnsa2` has no one-time keys, which are made for SHA-256; use the mode `mtls`, or \
     another profile"
)]
pub struct ProfileError;
