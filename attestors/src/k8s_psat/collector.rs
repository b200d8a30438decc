//! The node's side: the token that the kubelet keeps in a file, or one that is bound to a key.

use std::path::PathBuf;

use async_trait::async_trait;
use claviger_core::evidence::Binding;
use claviger_core::jose::compact::MAX_TOKEN;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::KIND;
use super::api::{ApiServer, OpenError};
use super::evidence::{Evidence, MAX_CLUSTER, is_cluster};
use super::request::bound_token;
use crate::fetch::file;
use crate::{CollectError, ConfigProblem, NodeCollector, Presentation};

/// `[attestor.k8s_psat]` in the agent's configuration.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CollectorConfig {
    /// The name by which the server knows this cluster.
    pub cluster: String,
    /// Where the kubelet keeps the token.
    #[serde(default = "usual_path")]
    pub token_path: PathBuf,
    /// Whether to ask the API server for a token that is bound to the agent's key.
    #[serde(default)]
    pub bind: bool,
    /// How to reach the API server for that; without it, as the pod's own service account.
    pub kubeconfig: Option<PathBuf>,
}

fn usual_path() -> PathBuf {
    PathBuf::from("/var/run/secrets/tokens/claviger-agent")
}

impl CollectorConfig {
    /// Everything wrong with it.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        let mut problem = |key: &str, value: String, advice: String| {
            problems.push(ConfigProblem::new(key, Some(&value), advice));
        };
        if !is_cluster(&self.cluster) {
            let advice = format!(
                "write the cluster's name as the server has it, 1 to {MAX_CLUSTER} characters of \
                 `A-Z a-z 0-9 . - _`"
            );
            problem("cluster", self.cluster.clone(), advice);
        }
        if !self.token_path.is_absolute() {
            let advice = "write the absolute path of the token in its projected volume".to_owned();
            problem("token-path", self.token_path.display().to_string(), advice);
        }
        if let Some(path) = self.kubeconfig.as_ref().filter(|_path| !self.bind) {
            let advice = "is for `bind = true` alone; set that, or leave this out".to_owned();
            problem("kubeconfig", path.display().to_string(), advice);
        }
        problems
    }
}

/// Presents the token of the pod that this runs in.
#[derive(Debug)]
pub struct Collector {
    cluster: String,
    token_path: PathBuf,
    /// Whom to ask for a token that is bound to a key.
    api: Option<ApiServer>,
}

impl Collector {
    /// A collector that does as `config` says. It reads the token when it presents it: the kubelet
    /// replaces it again and again. To be called within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if tokens are to be bound, and the API server can't be asked.
    pub fn open(config: &CollectorConfig) -> Result<Self, OpenError> {
        let api = config.bind.then(|| ApiServer::open(config.kubeconfig.as_deref())).transpose()?;
        Ok(Self { cluster: config.cluster.clone(), token_path: config.token_path.clone(), api })
    }

    /// The token that the kubelet keeps.
    fn token(&self) -> Result<Zeroizing<String>, CollectError> {
        let path = self.token_path.display();
        let bytes = file::read(&self.token_path, MAX_TOKEN).map_err(|source| {
            let what = format!(
                "cannot read the service-account token from `{path}`; mount it there as a projected \
                 volume, or set `token-path`"
            );
            CollectError::Unavailable { what, source: Some(source.into()) }
        })?;
        let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        match str::from_utf8(text) {
            Ok(token) if !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()) => {
                Ok(Zeroizing::new(token.to_owned()))
            }
            Ok(_) | Err(_) => {
                let what = format!("`{path}` does not hold a service-account token");
                Err(CollectError::Unavailable { what, source: None })
            }
        }
    }
}

#[async_trait]
impl NodeCollector for Collector {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn present(&self, binding: &Binding) -> Result<Box<dyn Presentation>, CollectError> {
        let mut token = self.token()?;
        if let Some(api) = &self.api {
            token = bound_token(api, &token, binding).await.map_err(|source| {
                let what = "cannot have a token that is bound to the agent's key; see `bind` in \
                            docs/attestors/k8s_psat.md";
                CollectError::Unavailable { what: what.to_owned(), source: Some(source.into()) }
            })?;
        }
        let evidence = Evidence { cluster: &self.cluster, token: &token };
        let statement = evidence.to_statement().map_err(|source| CollectError::Unavailable {
            what: "cannot write the evidence down".to_owned(),
            source: Some(source.into()),
        })?;
        Ok(Box::new(statement))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};
    use tempfile::{TempDir, tempdir};

    use super::super::fake::{Answer, FakeApi, TOKEN, claims, status, unsigned};
    use super::*;
    use crate::jwks::audience::bound;

    fn binding() -> Binding {
        Binding::new(KIND, b"key", &"example.org".parse().unwrap())
    }

    /// A collector, and the directory with the file `token` that it reads.
    fn collector(api: Option<ApiServer>) -> (Collector, TempDir) {
        let dir = tempdir().unwrap();
        let token_path = dir.path().join("token");
        (Collector { cluster: "prod".to_owned(), token_path, api }, dir)
    }

    async fn presented(collector: &Collector) -> Result<Vec<u8>, String> {
        match collector.present(&binding()).await {
            Ok(presentation) => Ok(presentation.evidence().to_vec()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[tokio::test]
    async fn the_token_is_read_each_time() {
        let (collector, dir) = collector(None);
        let missing = presented(&collector).await.unwrap_err();
        assert!(missing.contains("projected volume"), "{missing}");
        for (written, token) in [("h.p.1", "h.p.1"), ("h.p.2\n", "h.p.2")] {
            fs::write(dir.path().join("token"), written).unwrap();
            let evidence = presented(&collector).await.unwrap();
            assert_eq!(Evidence::parse(&evidence).unwrap().token, token);
        }
    }

    #[tokio::test]
    async fn what_is_no_token_is_not_sent() {
        let (collector, dir) = collector(None);
        for bad in ["", "\n", "a b", "é", "a\nb", &"t".repeat(MAX_TOKEN + 1)] {
            fs::write(dir.path().join("token"), bad).unwrap();
            let error = presented(&collector).await.unwrap_err();
            assert!(error.contains("token"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_token_is_asked_for_that_is_bound_to_the_key() {
        let fake = FakeApi::new();
        let (collector, dir) = collector(Some(fake.client()));
        fs::write(dir.path().join("token"), unsigned(&claims())).unwrap();
        let answer = json!({"spec": {"audiences": []}, "status": {
            "token": "h.p.bound", "expirationTimestamp": "2027-01-15T08:10:00Z"}});
        fake.say(TOKEN, Answer::Json(201, answer));
        let evidence = presented(&collector).await.unwrap();
        assert_eq!(Evidence::parse(&evidence).unwrap().token, "h.p.bound");
        let (question, body) = fake.last_request();
        assert_eq!(question, TOKEN);
        let expected: Value = json!({
            "audiences": [bound("spire-server", &binding())],
            "boundObjectRef":
                {"apiVersion": "v1", "kind": "Pod", "name": "agent-1", "uid": "pod-uid-1"},
            "expirationSeconds": 600,
        });
        assert_eq!(body["spec"], expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_cannot_be_bound_is_not_sent_unbound() {
        let fake = FakeApi::new();
        let (collector, dir) = collector(Some(fake.client()));
        fs::write(dir.path().join("token"), unsigned(&claims())).unwrap();
        let empty = json!({"spec": {"audiences": []}});
        for answer in
            [status(403, "Forbidden"), Answer::Silence, Answer::Broken, Answer::Json(201, empty)]
        {
            fake.say(TOKEN, answer.clone());
            let error = presented(&collector).await.unwrap_err();
            assert!(error.contains("bound to the agent's key"), "{answer:?}: {error}");
        }
    }

    #[test]
    fn settings_are_checked() {
        let parse = |toml: &str| toml::from_str::<CollectorConfig>(toml).unwrap();
        let config = parse("cluster = 'prod'");
        assert_eq!(config.problems(), []);
        assert_eq!(config.token_path.to_str(), Some("/var/run/secrets/tokens/claviger-agent"));
        let config = parse("cluster = 'a b'\ntoken-path = 'token'\nkubeconfig = '/k'");
        let problems = config.problems();
        let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, ["cluster", "token-path", "kubeconfig"]);
    }
}
