//! The cluster's own keys, for when its API server is away.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::time::timeout;
use tokio::try_join;

use super::api::{ApiError, ApiServer};
use super::claims::Claims;
use crate::jwks::source::SourceError;
use crate::jwks::{Jwks, JwksError, KeySource};

/// How long a node that happens to come when keys are due may have to wait for them.
const PATIENCE: Duration = Duration::from_secs(2);

/// The keys of one cluster, as they were when its API server was last there.
#[derive(Debug)]
pub(super) struct ClusterKeys {
    keys: Jwks,
    issuer: Arc<Issuer>,
}

/// What the cluster writes into its tokens, once it is known.
#[derive(Debug, Default)]
struct Issuer(Mutex<Option<String>>);

impl ClusterKeys {
    pub(super) fn new(cluster: &str, api: Arc<ApiServer>) -> Self {
        let (cluster, issuer) = (cluster.to_owned(), Arc::<Issuer>::default());
        let source = Source { cluster, api, issuer: Arc::clone(&issuer) };
        Self { keys: Jwks::from_source(source), issuer }
    }

    /// Checks that the cluster signed `token`, which has these `claims`. Asks for its keys if they
    /// are old.
    pub(super) async fn check(&self, token: &str, claims: &Claims) -> Result<(), KeysError> {
        // Who signed it is all that is asked: the claims were read, and judged.
        let _verified = self.keys.verify(token.as_bytes()).await?;
        let issuer = self.issuer.0.lock().unwrap_or_else(PoisonError::into_inner);
        if issuer.as_ref() == Some(&claims.issuer) { Ok(()) } else { Err(KeysError::Issuer) }
    }
}

/// Asks the API server how its cluster signs tokens.
#[derive(Debug)]
struct Source {
    cluster: String,
    api: Arc<ApiServer>,
    issuer: Arc<Issuer>,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the Kubernetes cluster `{}`", self.cluster)
    }
}

#[async_trait]
impl KeySource for Source {
    async fn fetch(&self) -> Result<Vec<u8>, SourceError> {
        #[derive(Deserialize)]
        struct Document {
            issuer: String,
        }
        let other = |error: ApiError| SourceError::Other(error.into());
        let both = async {
            try_join!(
                self.api.discover("/.well-known/openid-configuration"),
                self.api.discover("/openid/v1/jwks"),
            )
        };
        let both = timeout(PATIENCE, both).await.unwrap_or(Err(ApiError::Late(PATIENCE)));
        let (document, keys) = both.map_err(other)?;
        let document: Document = serde_json::from_str(&document)
            .map_err(|error| other(ApiError::Nonsense(error.into())))?;
        *self.issuer.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(document.issuer);
        Ok(keys.into_bytes())
    }
}

/// Why the cluster's keys do not vouch for a token.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeysError {
    #[error("the API server is away, and by the keys of the cluster: {0}")]
    Keys(#[from] JwksError),
    #[error("the token is from another issuer than the cluster")]
    Issuer,
}

impl KeysError {
    /// Whether nobody can tell, rather than the token being wrong.
    pub(super) const fn is_temporary(&self) -> bool {
        matches!(self, Self::Keys(JwksError::Unavailable(_)))
    }
}
