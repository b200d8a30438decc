//! The node's side: asks the instance's metadata service, in the second version of its protocol
//! (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>).

use async_trait::async_trait;
use claviger_core::evidence::Binding;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::KIND;
use super::verifier::Evidence;
use crate::fetch::{Endpoint, EndpointError, Fetch, FetchError, Plain, RootsError};
use crate::{CollectError, ConfigProblem, NodeCollector, Presentation, Statement};

/// `[attestor.aws_iid]` on the node.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CollectorConfig {
    /// Where the metadata service is. `http://[fd00:ec2::254]` where there is IPv6 only.
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
        Paths::below(&self.endpoint).err().map(problem).into_iter().collect()
    }
}

/// What is asked.
#[derive(Debug)]
struct Paths {
    token: Endpoint,
    document: Endpoint,
    rsa2048: Endpoint,
}

impl Paths {
    fn below(endpoint: &str) -> Result<Self, EndpointError> {
        let at = |path| Endpoint::parse(&format!("{endpoint}/latest/{path}"), Plain::Metadata);
        Ok(Self {
            token: at("api/token")?,
            document: at("dynamic/instance-identity/document")?,
            rsa2048: at("dynamic/instance-identity/rsa2048")?,
        })
    }
}

/// Presents the identity document of this instance.
#[derive(Debug)]
pub struct Collector {
    fetch: Fetch,
    paths: Paths,
}

/// How many seconds a token of the metadata service lasts: it is used at once, and twice.
const TOKEN_LIFE: (&str, &str) = ("x-aws-ec2-metadata-token-ttl-seconds", "60");
const TOKEN: &str = "x-aws-ec2-metadata-token";

impl Collector {
    /// Presents what the metadata service says that `config` names.
    ///
    /// # Errors
    ///
    /// [`OpenCollectorError`] if it can't be asked.
    pub fn open(config: &CollectorConfig) -> Result<Self, OpenCollectorError> {
        let paths = Paths::below(&config.endpoint)?;
        Ok(Self { fetch: Fetch::plain()?, paths })
    }

    async fn ask(&self) -> Result<Zeroizing<Vec<u8>>, CollectError> {
        let token = self.fetch.put(&self.paths.token, &[TOKEN_LIFE]).await.map_err(unavailable)?;
        let token = str::from_utf8(&token).map_err(|source| CollectError::Unavailable {
            what: "the metadata service's token is not text".to_owned(),
            source: Some(source.into()),
        })?;
        let header = [(TOKEN, token)];
        let document = self.fetch.get(&self.paths.document, &header).await.map_err(unavailable)?;
        let rsa2048 = self.fetch.get(&self.paths.rsa2048, &header).await.map_err(unavailable)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let evidence = Evidence { document: text(&document), rsa2048: text(&rsa2048) };
        serde_json::to_vec(&evidence).map(Zeroizing::new).map_err(|source| {
            let what = "cannot write down the identity document".to_owned();
            CollectError::Unavailable { what, source: Some(source.into()) }
        })
    }
}

fn unavailable(source: FetchError) -> CollectError {
    CollectError::Unavailable {
        what: "the instance's metadata service does not say who this is; `aws_iid` is for EC2 \
               instances whose metadata service is on, and in containers its hop limit has to be 2"
            .to_owned(),
        source: Some(source.into()),
    }
}

#[async_trait]
impl NodeCollector for Collector {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn present(&self, _binding: &Binding) -> Result<Box<dyn Presentation>, CollectError> {
        Ok(Box::new(Statement::new(self.ask().await?)))
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
    use crate::fetch::fixture::{Answer, Site};

    fn open(endpoint: &str) -> Collector {
        Collector::open(&CollectorConfig { endpoint: endpoint.to_owned() }).unwrap()
    }

    #[tokio::test]
    async fn a_token_comes_first() {
        let site = Site::open().await;
        let identity = "/latest/dynamic/instance-identity";
        site.answer("/latest/api/token", Answer::Body("t0ken".to_owned()));
        site.answer(&format!("{identity}/document"), Answer::Body("{\"a\": 1}".to_owned()));
        site.answer(&format!("{identity}/rsa2048"), Answer::Body("MIA\nGCS".to_owned()));
        let binding = Binding::new(KIND, b"key", &"example.org".parse().unwrap());
        let presentation = open(&site.url("")).present(&binding).await.unwrap();

        let evidence: Evidence = serde_json::from_slice(presentation.evidence()).unwrap();
        assert_eq!(evidence.document, "{\"a\": 1}");
        assert_eq!(evidence.rsa2048, "MIA\nGCS");
        let requests = site.requests();
        assert_eq!(requests.len(), 3);
        assert!(requests[0].starts_with("PUT /latest/api/token HTTP/1.1\r\n"), "{requests:?}");
        assert!(requests[0].contains("x-aws-ec2-metadata-token-ttl-seconds: 60\r\n"));
        for request in &requests[1..] {
            assert!(request.starts_with("GET /latest/dynamic/instance-identity/"), "{request}");
            assert!(request.contains("x-aws-ec2-metadata-token: t0ken\r\n"), "{request}");
        }
    }

    #[tokio::test]
    async fn without_a_token_nothing_is_asked() {
        let site = Site::open().await;
        let elsewhere = "HTTP/1.1 302 Found\r\nLocation: /latest/x\r\nContent-Length: 0\r\n\r\n";
        for answer in [Answer::Raw(elsewhere.to_owned()), Answer::Endless] {
            site.answer("/latest/api/token", answer);
            let error = open(&site.url("")).ask().await.unwrap_err();
            assert!(error.to_string().contains("metadata service"), "{error}");
        }
        assert_eq!(site.requests().len(), 2);
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
