//! The node's side: asks the machine's metadata service for a document with the server's nonce.

use async_trait::async_trait;
use claviger_core::evidence::Binding;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::KIND;
use super::wire::{Answer, Document};
use crate::fetch::{Endpoint, EndpointError, Fetch, Plain, RootsError};
use crate::{CollectError, ConfigProblem, NodeCollector, Presentation};

/// `[attestor.azure_imds]` on the node.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CollectorConfig {
    /// Where the metadata service is.
    #[serde(default = "well_known")]
    pub endpoint: String,
}

fn well_known() -> String {
    "http://169.254.169.254".to_owned()
}

impl Default for CollectorConfig {
    fn default() -> Self {
        Self { endpoint: well_known() }
    }
}

impl CollectorConfig {
    /// Everything that is wrong with it.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let problem = |error: EndpointError| {
            ConfigProblem::new("endpoint", Some(&self.endpoint), error.to_string())
        };
        attested_document(&self.endpoint).err().map(problem).into_iter().collect()
    }
}

fn attested_document(endpoint: &str) -> Result<Endpoint, EndpointError> {
    let document = format!("{endpoint}/metadata/attested/document");
    Ok(Endpoint::parse(&document, Plain::Metadata)?.with_query("api-version", "2025-04-07"))
}

/// Presents attested documents of this machine.
#[derive(Clone, Debug)]
pub struct Collector {
    fetch: Fetch,
    document: Endpoint,
}

impl Collector {
    /// Presents what the metadata service says that `config` names.
    ///
    /// # Errors
    ///
    /// [`OpenCollectorError`] if it can't be asked.
    pub fn open(config: &CollectorConfig) -> Result<Self, OpenCollectorError> {
        Ok(Self { document: attested_document(&config.endpoint)?, fetch: Fetch::plain()? })
    }

    async fn ask(&self, nonce: &str) -> Result<Zeroizing<Vec<u8>>, CollectError> {
        let document = self.document.clone().with_query("nonce", nonce);
        let said = self.fetch.get(&document, &[("metadata", "true")]).await.map_err(|source| {
            let what = "the machine's metadata service does not make an attested document; \
                        `azure_imds` is for virtual machines in Azure"
                .to_owned();
            CollectError::Unavailable { what, source: Some(source.into()) }
        })?;
        let answer = serde_json::from_slice::<Document>(&said)
            .and_then(|document| serde_json::to_vec(&Answer { document }));
        answer.map(Zeroizing::new).map_err(|source| {
            let what = "what the metadata service says is no attested document".to_owned();
            CollectError::Unavailable { what, source: Some(source.into()) }
        })
    }
}

#[async_trait]
impl NodeCollector for Collector {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn present(&self, _binding: &Binding) -> Result<Box<dyn Presentation>, CollectError> {
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl Presentation for Collector {
    /// Nothing is known before the nonce. SPIRE's servers want a first message that is not empty.
    fn evidence(&self) -> &[u8] {
        KIND.as_bytes()
    }

    async fn answer(&mut self, challenge: &[u8]) -> Result<Zeroizing<Vec<u8>>, CollectError> {
        let nonce = str::from_utf8(challenge).map_err(|_not_text| CollectError::Unexpected)?;
        let is_nonce =
            (1..=64).contains(&nonce.len()) && nonce.bytes().all(|b| b.is_ascii_alphanumeric());
        if !is_nonce {
            return Err(CollectError::Unexpected);
        }
        self.ask(nonce).await
    }
}

/// Why nothing can be collected.
#[derive(Debug, thiserror::Error)]
pub enum OpenCollectorError {
    /// The setting makes no sense.
    #[error("`endpoint` is not where a metadata service is")]
    Endpoint(#[from] EndpointError),
    /// There is no HTTP client.
    #[error("cannot ask the metadata service")]
    Client(#[from] RootsError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::fixture::{Answer as Said, Site};

    const PATH: &str = "/metadata/attested/document";

    async fn present(site: &Site) -> Box<dyn Presentation> {
        let collector = Collector::open(&CollectorConfig { endpoint: site.url("") }).unwrap();
        let binding = Binding::new(KIND, b"key", &"example.org".parse().unwrap());
        collector.present(&binding).await.unwrap()
    }

    #[tokio::test]
    async fn a_document_is_asked_for_with_the_nonce() {
        let site = Site::open().await;
        let said = r#"{"encoding":"pkcs7","signature":"MIIM"}"#;
        site.answer(PATH, Said::Body(said.to_owned()));
        let mut presentation = present(&site).await;
        assert!(!presentation.evidence().is_empty() && site.requests().is_empty());
        let answer = presentation.answer(b"0123456789abcdef").await.unwrap();

        let wanted = format!(r#"{{"document":{said}}}"#);
        assert_eq!(str::from_utf8(&answer).unwrap(), wanted);
        let request = site.requests().remove(0);
        let query = "?api-version=2025-04-07&nonce=0123456789abcdef HTTP/1.1\r\n";
        assert!(request.starts_with(&format!("GET {PATH}{query}")), "{request}");
        assert!(request.contains("metadata: true\r\n"), "{request}");
    }

    #[tokio::test]
    async fn what_is_no_nonce_is_not_passed_on() {
        let site = Site::open().await;
        let mut presentation = present(&site).await;
        for challenge in [&b""[..], b"a&b", b"a b", b"\xff", &[b'a'; 65]] {
            let error = presentation.answer(challenge).await.unwrap_err();
            assert!(matches!(error, CollectError::Unexpected), "{error}");
        }
        assert!(site.requests().is_empty());
    }

    #[tokio::test]
    async fn what_is_no_document_is_not_passed_on() {
        let site = Site::open().await;
        for said in [Said::Body("{}".to_owned()), Said::Body("x".to_owned()), Said::Endless] {
            site.answer(PATH, said);
            let error = present(&site).await.answer(b"0").await.unwrap_err();
            assert!(matches!(error, CollectError::Unavailable { .. }), "{error}");
        }
    }

    #[test]
    fn metadata_is_not_asked_of_others() {
        assert!(CollectorConfig::default().problems().is_empty());
        for endpoint in ["", "http://example.org", "http://10.0.0.1", "169.254.169.254"] {
            let config = CollectorConfig { endpoint: endpoint.to_owned() };
            let problems = config.problems();
            assert_eq!((problems.len(), problems[0].key.as_str()), (1, "endpoint"), "{endpoint}");
            Collector::open(&config).unwrap_err();
        }
    }
}
