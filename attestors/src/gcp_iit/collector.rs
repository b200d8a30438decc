//! The machine's side: the metadata server gives a token for the asking.

use async_trait::async_trait;
use claviger_core::evidence::Binding;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{AUDIENCE, KIND};
use crate::fetch::{Endpoint, EndpointError, Fetch, Plain, RootsError};
use crate::jwks::audience;
use crate::{CollectError, ConfigProblem, NodeCollector, Presentation, Statement};

/// Whom to ask: `[attestor.gcp_iit]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CollectorConfig {
    /// The metadata server.
    #[serde(default = "CollectorConfig::default_metadata_url")]
    pub metadata_url: String,
    /// The service account whose token it is: an address, or `default`.
    #[serde(default = "CollectorConfig::default_service_account")]
    pub service_account: String,
}

impl CollectorConfig {
    fn default_metadata_url() -> String {
        "http://metadata.google.internal".to_owned()
    }

    fn default_service_account() -> String {
        "default".to_owned()
    }

    /// Everything that is wrong with it.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        let mut add = |key: &str, value: &str, advice: String| {
            problems.push(ConfigProblem::new(key, Some(value), advice));
        };
        if let Err(error) = Endpoint::parse(&self.metadata_url, Plain::Metadata) {
            add("metadata-url", &self.metadata_url, error.to_string());
        }
        let is_account = |byte: u8| byte.is_ascii_alphanumeric() || b"@._-".contains(&byte);
        let account = &self.service_account;
        if !(1..=256).contains(&account.len())
            || !account.bytes().all(is_account)
            || account.bytes().all(|byte| byte == b'.')
        {
            let advice = "write `default`, or the account's address".to_owned();
            add("service-account", account, advice);
        }
        problems
    }

    fn endpoint(&self) -> Result<Endpoint, EndpointError> {
        let base = self.metadata_url.strip_suffix('/').unwrap_or(&self.metadata_url);
        let account = &self.service_account;
        let url = format!("{base}/computeMetadata/v1/instance/service-accounts/{account}/identity");
        Endpoint::parse(&url, Plain::Metadata)
    }
}

impl Default for CollectorConfig {
    fn default() -> Self {
        Self {
            metadata_url: Self::default_metadata_url(),
            service_account: Self::default_service_account(),
        }
    }
}

/// Presents a token of this machine's that is bound to the key.
#[derive(Debug)]
pub struct Collector {
    endpoint: Endpoint,
    fetch: Fetch,
}

impl Collector {
    /// Gets ready to ask as `config` says, in which there are no problems.
    ///
    /// # Errors
    ///
    /// [`CollectorError`] if there is nobody to ask.
    pub fn open(config: &CollectorConfig) -> Result<Self, CollectorError> {
        Ok(Self { endpoint: config.endpoint()?, fetch: Fetch::open(None)? })
    }
}

#[async_trait]
impl NodeCollector for Collector {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn present(&self, binding: &Binding) -> Result<Box<dyn Presentation>, CollectError> {
        let url = self
            .endpoint
            .clone()
            .with_query("audience", &audience::bound(AUDIENCE, binding))
            .with_query("format", "full");
        let token = self.fetch.get(&url, &[("metadata-flavor", "Google")]).await;
        let mut token = token.map_err(|error| CollectError::Unavailable {
            what: "the metadata server gives no identity token; is this a virtual machine of \
                   Google's, with a service account?"
                .to_owned(),
            source: Some(error.into()),
        })?;
        let end = token.trim_ascii_end().len();
        token.truncate(end);
        Ok(Box::new(Statement::new(Zeroizing::new(std::mem::take(&mut *token)))))
    }
}

/// Why there is nobody to ask.
#[derive(Debug, thiserror::Error)]
pub enum CollectorError {
    /// The address is none.
    #[error("`metadata-url` is no address to ask")]
    Address(#[from] EndpointError),
    /// There can be no client.
    #[error(transparent)]
    Roots(#[from] RootsError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::fixture::{Answer, Site};

    #[tokio::test]
    async fn the_metadata_server_is_asked_for_a_bound_token() {
        let site = Site::open().await;
        let path = "/computeMetadata/v1/instance/service-accounts/default/identity";
        site.answer(path, Answer::Body("a.b.c\n".to_owned()));
        let config = CollectorConfig { metadata_url: site.url("/"), ..CollectorConfig::default() };
        assert_eq!(config.problems(), []);
        let binding = Binding::new(KIND, b"key", &"example.org".parse().unwrap());
        let presentation = Collector::open(&config).unwrap().present(&binding).await.unwrap();
        assert_eq!(presentation.evidence(), b"a.b.c");
        let bound = audience::bound(AUDIENCE, &binding).replace('#', "%23");
        let request = site.requests().pop().unwrap();
        let target = format!("GET {path}?audience={bound}&format=full HTTP/1.1\r\n");
        assert!(request.starts_with(&target), "{request}");
        assert!(request.contains("metadata-flavor: Google\r\n"), "{request}");

        site.answer(path, Answer::Raw("HTTP/1.1 404 Not Found\r\n\r\n".to_owned()));
        let error = Collector::open(&config).unwrap().present(&binding).await.unwrap_err();
        assert!(error.to_string().contains("service account"), "{error}");
    }

    #[test]
    fn a_configuration_has_defaults_and_rules() {
        let problems = |text: &str| {
            let config: CollectorConfig = toml::from_str(text).unwrap();
            config.problems().into_iter().map(|problem| problem.key).collect::<Vec<_>>()
        };
        assert!(problems("").is_empty());
        let ours = "service-account = \"ci@acme.iam.gserviceaccount.com\"";
        assert!(problems(ours).is_empty());
        for bad in ["", "a/b", "..", "a?b", "a b"] {
            let text = format!("service-account = \"{bad}\"");
            assert_eq!(problems(&text), ["service-account"], "{bad}");
        }
        assert_eq!(problems("metadata-url = \"http://example.org\""), ["metadata-url"]);
        toml::from_str::<CollectorConfig>("service_account = \"x\"").unwrap_err();
    }
}
