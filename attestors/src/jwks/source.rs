//! Where keys come from.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde::Deserialize;

use super::set::{KeySet, MAX_DOCUMENT, SetError};
use crate::fetch::{Endpoint, EndpointError, Fetch, FetchError, Plain};
use crate::files;

/// Has the keys of one issuer; its text says whose, for the operator.
#[async_trait]
pub trait KeySource: fmt::Debug + fmt::Display + Send + Sync + 'static {
    /// The set of keys as it is now: a JWK Set. What is too long, too late or nonsense is an error.
    ///
    /// # Errors
    ///
    /// [`SourceError`] if there is none.
    async fn fetch(&self) -> Result<Vec<u8>, SourceError>;
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The server did not answer as it should.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The answer is no set of keys.
    #[error(transparent)]
    Set(#[from] SetError),
    /// The issuer's discovery document is wrong.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// Something else, of another source's.
    #[error(transparent)]
    Other(Box<dyn Error + Send + Sync>),
}

/// An address that serves a set.
#[derive(Debug)]
pub(super) struct Address {
    url: Endpoint,
    fetch: Fetch,
}

impl Address {
    pub(super) const fn new(url: Endpoint, fetch: Fetch) -> Self {
        Self { url, fetch }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

#[async_trait]
impl KeySource for Address {
    async fn fetch(&self) -> Result<Vec<u8>, SourceError> {
        Ok(self.fetch.get(&self.url, &[]).await?.to_vec())
    }
}

/// An issuer that says where its keys are (OpenID Connect Discovery 1.0 §4).
#[derive(Debug)]
pub(super) struct Discovery {
    issuer: String,
    document: Endpoint,
    fetch: Fetch,
}

/// What is looked at in the document.
#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
}

impl Discovery {
    pub(super) fn new(issuer: &str, fetch: Fetch) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Issuer { issuer: issuer.to_owned(), source };
        if Endpoint::parse(issuer, Plain::Loopback).map_err(failed)?.has_query() {
            return Err(failed(EndpointError::Extra));
        }
        let base = issuer.strip_suffix('/').unwrap_or(issuer);
        let document = format!("{base}/.well-known/openid-configuration");
        let document = Endpoint::parse(&document, Plain::Loopback).map_err(failed)?;
        Ok(Self { issuer: issuer.to_owned(), document, fetch })
    }
}

impl fmt::Display for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.issuer)
    }
}

#[async_trait]
impl KeySource for Discovery {
    async fn fetch(&self) -> Result<Vec<u8>, SourceError> {
        let document = self.fetch.get(&self.document, &[]).await?;
        let document: Document = serde_json::from_slice(&document)
            .map_err(|source| DiscoveryError::Form { issuer: self.issuer.clone(), source })?;
        let url = self.keys_of(document)?;
        Ok(self.fetch.get(&url, &[]).await?.to_vec())
    }
}

impl Discovery {
    /// Where the keys are, if the document may be believed about it.
    fn keys_of(&self, document: Document) -> Result<Endpoint, DiscoveryError> {
        if document.issuer != self.issuer {
            let (issuer, says) = (self.issuer.clone(), document.issuer);
            return Err(DiscoveryError::Issuer { issuer, says });
        }
        let elsewhere = || DiscoveryError::Elsewhere {
            issuer: self.issuer.clone(),
            jwks_uri: document.jwks_uri.chars().take(Endpoint::MAX).collect(),
        };
        let url = Endpoint::parse(&document.jwks_uri, Plain::Loopback)
            .map_err(|_no_address| elsewhere())?;
        // A document must not send us to addresses that the operator has not named.
        if url.same_server(&self.document) { Ok(url) } else { Err(elsewhere()) }
    }
}

/// What is wrong with an issuer's discovery document.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// It is none.
    #[error("what `{issuer}` serves is not a discovery document")]
    Form {
        /// Who was asked.
        issuer: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// It is somebody else's.
    #[error(
        "the discovery document of `{issuer}` says that its issuer is `{says}`; write the issuer \
         exactly as it does, also the slash at its end"
    )]
    Issuer {
        /// Who was asked.
        issuer: String,
        /// What it says.
        says: String,
    },
    /// The keys are on another server.
    #[error(
        "`{issuer}` keeps its keys on another server, at `{jwks_uri}`; if that is right, set \
         `jwks-uri`"
    )]
    Elsewhere {
        /// Who was asked.
        issuer: String,
        /// Where they would be.
        jwks_uri: String,
    },
}

/// A file that holds a set.
#[derive(Debug)]
pub(super) struct File(PathBuf);

impl File {
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |source: SourceError| OpenError::File { path: path.to_owned(), source };
        let document = read(path).map_err(failed)?;
        KeySet::parse(&document).map_err(|error| failed(error.into()))?;
        Ok(Self(path.to_owned()))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, SourceError> {
    let bytes =
        files::read(path, MAX_DOCUMENT).map_err(|source| SourceError::Other(source.into()))?;
    Ok(bytes.to_vec())
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

#[async_trait]
impl KeySource for File {
    /// Blocks for as long as a small local file takes.
    async fn fetch(&self) -> Result<Vec<u8>, SourceError> {
        read(&self.0)
    }
}

/// Why keys can't be had from where the operator says.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The issuer is no address.
    #[error("`{issuer}` cannot be asked for its keys")]
    Issuer {
        /// Who was to be asked.
        issuer: String,
        /// Why.
        #[source]
        source: EndpointError,
    },
    /// The file has no keys in it.
    #[error("no keys in `{path}`")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: SourceError,
    },
}
