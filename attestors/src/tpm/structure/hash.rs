//! Hash algorithms (Part 2 §6.3). SHA-1 is none of them: what relies on it proves nothing.

use aws_lc_rs::digest::{self, Digest, SHA256, SHA384, digest};
use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};

use super::Malformed;

/// One of those that are believed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
}

impl Hash {
    /// The one with this number (`TPM_ALG_ID`).
    pub(in crate::tpm) const fn parse(number: u16) -> Result<Self, Malformed> {
        match number {
            0x000b => Ok(Self::Sha256),
            0x000c => Ok(Self::Sha384),
            _ => Err(Malformed("a hash algorithm is neither SHA-256 nor SHA-384")),
        }
    }

    pub(in crate::tpm) const fn number(self) -> u16 {
        match self {
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
        }
    }

    /// How long its digests are, in bytes.
    pub(in crate::tpm) const fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
        }
    }

    pub(in crate::tpm) const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
        }
    }

    pub(in crate::tpm) const fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &SHA256,
            Self::Sha384 => &SHA384,
        }
    }

    pub(in crate::tpm) const fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
        }
    }

    pub(in crate::tpm) fn of(self, bytes: &[u8]) -> Digest {
        digest(self.algorithm(), bytes)
    }
}
