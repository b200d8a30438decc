//! Tokens of other issuers.

use aws_lc_rs::digest::{SHA256, digest};
use claviger_core::jose::compact::{Compact, CompactError};

use super::JwksError;
use super::claims::{Claims, ClaimsError};
use super::set::KeySet;

/// A token taken apart. Nobody has looked at its signature yet.
#[derive(Debug)]
pub struct Token<'a> {
    compact: Compact<'a>,
    claims: Claims,
}

impl<'a> Token<'a> {
    /// Takes the compact form apart: at most 16 KiB of it.
    ///
    /// # Errors
    ///
    /// [`TokenError`] if it is no token, or signed in a way that no issuer should use.
    pub fn parse(token: &'a [u8]) -> Result<Self, TokenError> {
        let token = str::from_utf8(token).map_err(|_not_text| TokenError::Text)?;
        let compact = Compact::parse_foreign(token)?;
        let claims = Claims::parse(&compact.payload)?;
        Ok(Self { compact, claims })
    }

    /// What it says about itself, which nobody vouches for: good for finding out whom to ask.
    #[must_use]
    pub const fn unverified(&self) -> &Claims {
        &self.claims
    }

    /// Which key it says signed it.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.compact.key_id
    }

    /// The token, if one of `keys` signed it. `stale` goes on record.
    ///
    /// # Errors
    ///
    /// [`JwksError`] if none did.
    pub fn check(self, keys: &KeySet, stale: bool) -> Result<Verified, JwksError> {
        let Compact { algorithm, key_id, signed, payload, signature, kind: _ } = self.compact;
        if !keys.names(&key_id) {
            return Err(JwksError::UnknownKey);
        }
        if !keys.verifies(&key_id, algorithm, signed.as_bytes(), &signature) {
            return Err(JwksError::Signature);
        }
        let mut id = [0; 32];
        id.copy_from_slice(digest(&SHA256, signed.as_bytes()).as_ref());
        Ok(Verified { claims: self.claims, payload, digest: id, stale })
    }
}

/// A token that its issuer signed.
#[derive(Clone, Debug)]
#[must_use]
pub struct Verified {
    claims: Claims,
    payload: Vec<u8>,
    digest: [u8; 32],
    stale: bool,
}

impl Verified {
    /// What it claims.
    #[must_use]
    pub const fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The same, as the bytes that were signed: JSON, an object without a name twice.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The SHA-256 of what was signed, header and all: names this token and no other, however it is
    /// spelled.
    #[must_use]
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Whether the keys that were used should have been asked for again, and could not be.
    #[must_use]
    pub const fn stale(&self) -> bool {
        self.stale
    }
}

/// Why bytes are no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// They are no text.
    #[error("the token is not text")]
    Text,
    /// The form is wrong.
    #[error(transparent)]
    Form(#[from] CompactError),
    /// What it says can't be read.
    #[error(transparent)]
    Claims(#[from] ClaimsError),
}
