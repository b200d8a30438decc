//! Signed tokens of other issuers (JWT, RFC 7519), and the keys that check them (JWK Sets, RFC 7517).
//!
//! | to find | look in |
//! |---|---|
//! | checking who signed a token | [`Jwks`] |
//! | tokens: what they say, before and after | [`token`] |
//! | what a verified token claims | [`claims`] |
//! | for whom a token is, and how one is bound to a key | [`audience`] |
//! | the keys of one document | [`set`] |
//! | keeping keys: freshness, back-off, issuers that are away | `cache` |
//! | where keys come from: an address, an issuer's discovery, a file | [`source`] |
//!
//! This tells who signed a token and nothing else. Whether its issuer, its audience and its times are
//! the right ones is for the verifier of each kind of evidence to say.

pub mod audience;
pub mod claims;
pub mod set;
pub mod source;
pub mod token;

mod cache;

#[cfg(test)]
pub(crate) mod fixture;

use std::path::Path;
use std::sync::Arc;

use crate::VerifyError;
use crate::fetch::{Endpoint, Fetch};

use cache::Cache;
pub use cache::{MAX_AGE, Unavailable};
pub use set::{KeySet, SetError};
pub use source::{KeySource, OpenError};
pub use token::{Token, TokenError, Verified};

/// The keys of one issuer.
#[derive(Debug)]
pub struct Jwks(Keys);

#[derive(Debug)]
enum Keys {
    /// They never change.
    Fixed(KeySet),
    /// They are asked for.
    Cached(Cache),
}

impl Jwks {
    /// The keys in `document`, for ever.
    ///
    /// # Errors
    ///
    /// [`SetError`] if there are none in it.
    pub fn from_json(document: &[u8]) -> Result<Self, SetError> {
        Ok(Self(Keys::Fixed(KeySet::parse(document)?)))
    }

    /// The keys in the file at `path`, which somebody keeps up to date: it is read again like an
    /// address is asked again. For servers that can't reach the issuer.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if there are none in it now.
    pub fn from_file(path: &Path) -> Result<Self, OpenError> {
        source::File::open(path).map(Self::from_source)
    }

    /// The keys at `url`.
    #[must_use]
    pub fn from_url(url: Endpoint, fetch: Fetch) -> Self {
        Self::from_source(source::Address::new(url, fetch))
    }

    /// The keys of `issuer`, at the address that it names by OpenID Connect Discovery.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if `issuer` can't be asked.
    pub fn from_issuer(issuer: &str, fetch: Fetch) -> Result<Self, OpenError> {
        source::Discovery::new(issuer, fetch).map(Self::from_source)
    }

    /// The keys that `source` has.
    #[must_use]
    pub fn from_source(source: impl KeySource) -> Self {
        Self(Keys::Cached(Cache::new(Arc::new(source))))
    }

    /// Takes `token` apart and checks who signed it; see [`Self::check`].
    ///
    /// # Errors
    ///
    /// [`JwksError`] if one of these keys did not.
    pub async fn verify(&self, token: &[u8]) -> Result<Verified, JwksError> {
        self.check(Token::parse(token)?).await
    }

    /// Checks that one of these keys signed `token`. Its claims are not judged.
    ///
    /// # Errors
    ///
    /// [`JwksError`] if none did.
    pub async fn check(&self, token: Token<'_>) -> Result<Verified, JwksError> {
        match &self.0 {
            Keys::Fixed(keys) => token.check(keys, false),
            Keys::Cached(cache) => {
                let found = cache.find(token.key_id()).await?;
                token.check(&found.keys, found.stale)
            }
        }
    }
}

/// Why nobody vouches for a token.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// It is no token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The issuer has no such key.
    #[error("the token's kid names no key of its issuer's that can be used")]
    UnknownKey,
    /// Somebody else signed it, or it was changed.
    #[error("the token's signature does not verify")]
    Signature,
    /// The keys can't be had.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<JwksError> for VerifyError {
    fn from(error: JwksError) -> Self {
        match error {
            JwksError::Token(_) => Self::Malformed,
            JwksError::UnknownKey | JwksError::Signature => Self::not_genuine(error.to_string()),
            JwksError::Unavailable(source) => Self::Unavailable(source.into()),
        }
    }
}

#[cfg(test)]
mod tests;
