//! The node's side, and the job's: getting a token.

use std::path::PathBuf;

use async_trait::async_trait;
use claviger_core::evidence::Binding;
use claviger_core::jose::compact::MAX_TOKEN;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::KIND;
use crate::fetch::{Endpoint, EndpointError, Fetch, Plain, RootsError};
use crate::files;
use crate::jwks::audience;
use crate::{CollectError, ConfigProblem, NodeCollector, Presentation, Statement};

/// Where an agent's token is: `[attestor.oidc]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CollectorConfig {
    /// A file into which somebody puts a fresh token.
    pub token_path: PathBuf,
}

impl CollectorConfig {
    /// Everything that is wrong with it.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        if self.token_path.is_absolute() {
            return Vec::new();
        }
        let path = self.token_path.display().to_string();
        let advice = "write the absolute path of the file that holds the token";
        vec![ConfigProblem::new("token-path", Some(&path), advice)]
    }
}

/// Presents the token in a file. It is read each time: a token works once.
#[derive(Debug)]
pub struct Collector(PathBuf);

impl Collector {
    /// Presents what is in the file of `config`.
    #[must_use]
    pub fn open(config: CollectorConfig) -> Self {
        Self(config.token_path)
    }

    fn token(&self) -> Result<Zeroizing<Vec<u8>>, CollectError> {
        // Room for a line break.
        let mut token = files::read(&self.0, MAX_TOKEN.saturating_add(2)).map_err(|source| {
            CollectError::Unavailable {
                what: format!(
                    "cannot read the token in `{}`; have somebody put a fresh one there",
                    self.0.display()
                ),
                source: Some(source.into()),
            }
        })?;
        let end = token.trim_ascii_end().len();
        token.truncate(end);
        Ok(token)
    }
}

#[async_trait]
impl NodeCollector for Collector {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn present(&self, _binding: &Binding) -> Result<Box<dyn Presentation>, CollectError> {
        Ok(Box::new(Statement::new(self.token()?)))
    }
}

/// Asks GitHub for tokens from within a job of GitHub Actions, which needs the permission
/// `id-token: write`.
pub struct GithubTokens {
    url: Endpoint,
    request_token: Zeroizing<String>,
    audience: String,
    fetch: Fetch,
}

/// The secret is not shown.
impl std::fmt::Debug for GithubTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GithubTokens")
            .field("url", &self.url)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

/// GitHub's answer. What else it says does not matter.
#[derive(Deserialize)]
struct Answer {
    value: String,
}

impl GithubTokens {
    /// Asks at `url` with `request_token`: the job's `ACTIONS_ID_TOKEN_REQUEST_URL` and
    /// `ACTIONS_ID_TOKEN_REQUEST_TOKEN`. The tokens are for `audience`.
    ///
    /// # Errors
    ///
    /// [`GithubError`] if there is nobody to ask.
    pub fn open(
        url: &str,
        request_token: Zeroizing<String>,
        audience: &str,
    ) -> Result<Self, GithubError> {
        if !audience::is_sound(audience) {
            return Err(GithubError::Audience(audience.to_owned()));
        }
        let url = Endpoint::parse(url, Plain::Loopback)?;
        let (fetch, audience) = (Fetch::open(None)?, audience.to_owned());
        Ok(Self { url, request_token, audience, fetch })
    }

    /// A new token; bound as `binding` says, if there is one.
    ///
    /// # Errors
    ///
    /// [`CollectError`] if GitHub gives none.
    pub async fn token(
        &self,
        binding: Option<&Binding>,
    ) -> Result<Zeroizing<String>, CollectError> {
        let unavailable =
            |source: Box<dyn std::error::Error + Send + Sync>| CollectError::Unavailable {
                what: "GitHub gives no token; the job needs `permissions: id-token: write`"
                    .to_owned(),
                source: Some(source),
            };
        let audience = binding.map_or_else(
            || self.audience.clone(),
            |binding| audience::bound(&self.audience, binding),
        );
        let url = self.url.clone().with_query("audience", &audience);
        let authorization = Zeroizing::new(format!("Bearer {}", *self.request_token));
        let headers = [("authorization", authorization.as_str()), ("accept", "application/json")];
        let answer =
            self.fetch.get(&url, &headers).await.map_err(|error| unavailable(error.into()))?;
        let answer: Answer = serde_json::from_slice(&answer).map_err(|_may_be_secret| {
            unavailable("the answer is not `{\"value\": \"…\"}`".into())
        })?;
        Ok(Zeroizing::new(answer.value))
    }
}

#[async_trait]
impl NodeCollector for GithubTokens {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn present(&self, binding: &Binding) -> Result<Box<dyn Presentation>, CollectError> {
        let token = self.token(Some(binding)).await?;
        Ok(Box::new(Statement::new(Zeroizing::new(token.as_bytes().to_vec()))))
    }
}

/// Why GitHub can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum GithubError {
    /// The address is none.
    #[error("ACTIONS_ID_TOKEN_REQUEST_URL is no address to ask")]
    Url(#[from] EndpointError),
    /// The audience is none.
    #[error("the audience `{0}` is not 1 to 512 visible ASCII characters without `#`")]
    Audience(String),
    /// There can be no client.
    #[error(transparent)]
    Roots(#[from] RootsError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::fixture::{self, Site};

    fn binding() -> Binding {
        Binding::new(KIND, b"key", &"example.org".parse().unwrap())
    }

    #[tokio::test]
    async fn a_token_is_read_anew_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let token_path = dir.path().join("token");
        let config = CollectorConfig { token_path: token_path.clone() };
        assert_eq!(config.problems(), []);
        let collector = Collector::open(config);
        let error = collector.present(&binding()).await.unwrap_err();
        assert!(error.to_string().contains("fresh one"), "{error}");
        for token in ["one", "two\n", "three\r\n"] {
            std::fs::write(&token_path, token).unwrap();
            let presentation = collector.present(&binding()).await.unwrap();
            assert_eq!(presentation.evidence(), token.trim_end().as_bytes());
        }
        std::fs::write(&token_path, "x".repeat(MAX_TOKEN + 3)).unwrap();
        collector.present(&binding()).await.unwrap_err();
    }

    #[test]
    fn a_path_is_absolute() {
        let config: CollectorConfig = toml::from_str("token-path = \"token\"").unwrap();
        assert_eq!(config.problems()[0].key, "token-path");
    }

    #[tokio::test]
    async fn github_is_asked_for_a_token_that_is_bound() {
        let site = Site::open().await;
        site.answer("/token", fixture::Answer::Body(r#"{"count":1,"value":"a.b.c"}"#.to_owned()));
        let url = site.url("/token?api-version=2.0");
        let tokens = GithubTokens::open(&url, "secret".to_owned().into(), "claviger").unwrap();
        assert!(!format!("{tokens:?}").contains("secret"));
        let presentation = tokens.present(&binding()).await.unwrap();
        assert_eq!(presentation.evidence(), b"a.b.c");
        let bound = audience::bound("claviger", &binding()).replace('#', "%23");
        let request = site.requests().pop().unwrap();
        let target = format!("GET /token?api-version=2.0&audience={bound} HTTP/1.1\r\n");
        assert!(request.starts_with(&target), "{request}");
        assert!(request.contains("authorization: Bearer secret\r\n"), "{request}");
        assert_eq!(*tokens.token(None).await.unwrap(), "a.b.c");
        assert!(site.requests().pop().unwrap().contains("&audience=claviger HTTP"));
    }

    #[tokio::test]
    async fn what_github_says_is_not_shown_if_it_is_no_token() {
        let site = Site::open().await;
        let tokens =
            GithubTokens::open(&site.url("/token"), "secret".to_owned().into(), "a").unwrap();
        let error = tokens.token(None).await.unwrap_err();
        assert!(error.to_string().contains("id-token: write"), "{error}");
        site.answer("/token", fixture::Answer::Body(r#"{"val":"a-secret"}"#.to_owned()));
        let error = format!("{:?}", tokens.token(None).await.unwrap_err());
        assert!(!error.contains("a-secret"), "{error}");
        GithubTokens::open("http://github.example", "s".to_owned().into(), "a").unwrap_err();
        GithubTokens::open("https://github.example", "s".to_owned().into(), "a#b").unwrap_err();
    }
}
