//! What an operator can set on the server.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::evidence::{MAX_CLUSTER, is_cluster};
use super::names::ServiceAccount;
use crate::ConfigProblem;
use crate::jwks::audience::{MAX_AUDIENCE, is_sound};

/// `[attestors.k8s_psat.<cluster>]`: the clusters whose nodes are admitted, by the names that their
/// agents call them.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(transparent)]
pub struct Config {
    /// The clusters.
    pub clusters: BTreeMap<String, ClusterConfig>,
}

/// One cluster, or one use of it: several of these can be about the same cluster.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ClusterConfig {
    /// How to reach the API server; without it, the one of the cluster that this server runs in.
    pub kubeconfig: Option<PathBuf>,
    /// The service accounts of agents, `namespace:name`.
    #[serde(default)]
    pub service_account_allow_list: Vec<String>,
    /// Whom tokens are meant for; one of these.
    #[serde(default = "spires_audience")]
    pub audience: Vec<String>,
    /// The labels of pods that become selectors, by their keys.
    #[serde(default)]
    pub allowed_pod_label_keys: Vec<String>,
    /// The labels of nodes that become selectors, by their keys.
    #[serde(default)]
    pub allowed_node_label_keys: Vec<String>,
    /// Whether an agent is named for its pod, and not for its node.
    #[serde(default)]
    pub use_pod_uid_for_agent_id: bool,
    /// Whether tokens that the cluster's keys signed are enough when its API server is away.
    #[serde(default)]
    pub offline_keys: bool,
    /// Whether tokens that others could present are refused.
    #[serde(default)]
    pub require_binding: bool,
    /// How long the API server may take.
    #[serde(default = "usual_timeout", with = "humantime_serde")]
    pub timeout: Duration,
}

/// What SPIRE's agents ask for by default.
fn spires_audience() -> Vec<String> {
    vec!["spire-server".to_owned()]
}

const fn usual_timeout() -> Duration {
    Duration::from_secs(5)
}

/// The longest a node is kept waiting.
const MAX_TIMEOUT: Duration = Duration::from_secs(30);

impl Config {
    /// Everything wrong with it.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        if self.clusters.is_empty() {
            let advice = "name a cluster: `[attestors.k8s_psat.<cluster>]`";
            problems.push(ConfigProblem::new("", None, advice));
        }
        for (name, cluster) in &self.clusters {
            if !is_cluster(name) {
                let advice = format!(
                    "name the cluster with 1 to {MAX_CLUSTER} characters of `A-Z a-z 0-9 . - _`: it \
                     becomes a part of SPIFFE IDs"
                );
                problems.push(ConfigProblem::new(name, None, advice));
            }
            cluster.report(|key, value, advice| {
                let key = format!("{name}.{key}");
                problems.push(ConfigProblem::new(key, Some(&value), advice));
            });
        }
        problems
    }
}

impl ClusterConfig {
    fn report(&self, mut problem: impl FnMut(&str, String, &str)) {
        let list = "service-account-allow-list";
        if self.service_account_allow_list.is_empty() {
            let advice = "admits nobody; name the service accounts of agents, such as \
                          `[\"claviger:claviger-agent\"]`";
            problem(list, "[]".to_owned(), advice);
        }
        for account in &self.service_account_allow_list {
            if account.parse::<ServiceAccount>().is_err() {
                problem(list, account.clone(), "write `namespace:name`");
            }
        }
        if self.audience.is_empty() {
            let advice = "any token of the pod would do, even one for the API server; name an \
                          audience, such as `[\"spire-server\"]`";
            problem("audience", "[]".to_owned(), advice);
        }
        for audience in self.audience.iter().filter(|audience| !is_sound(audience)) {
            let advice = format!(
                "write 1 to {MAX_AUDIENCE} visible characters without `#`, which is for tokens that \
                 are bound to a key"
            );
            problem("audience", audience.clone(), &advice);
        }
        for (key, labels) in [
            ("allowed-pod-label-keys", &self.allowed_pod_label_keys),
            ("allowed-node-label-keys", &self.allowed_node_label_keys),
        ] {
            for label in labels.iter().filter(|label| !is_label_key(label)) {
                let advice = "write the key of a label, such as `app.kubernetes.io/name`";
                problem(key, label.clone(), advice);
            }
        }
        if self.timeout.is_zero() || MAX_TIMEOUT < self.timeout {
            problem("timeout", format!("{:?}", self.timeout), "give it 1 to 30 seconds");
        }
    }
}

/// Whether a label can have this key. A colon would end it within a selector.
fn is_label_key(key: &str) -> bool {
    (1..=317).contains(&key.len())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"./-_".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(toml: &str) -> Config {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn a_cluster_needs_an_allow_list_and_nothing_else() {
        let config = config("[prod]\nservice-account-allow-list = ['spire:spire-agent']");
        assert_eq!(config.problems(), []);
        let cluster = &config.clusters["prod"];
        assert_eq!(cluster.audience, ["spire-server"]);
        assert_eq!(cluster.timeout, Duration::from_secs(5));
        assert!(!cluster.offline_keys && !cluster.require_binding);
        assert_eq!(cluster.kubeconfig, None);
    }

    #[test]
    fn every_problem_is_told() {
        let config = config(
            "['a/b']\nservice-account-allow-list = ['agent']\naudience = ['x#y', '']\n\
             allowed-pod-label-keys = ['a:b']\nallowed-node-label-keys = ['']\ntimeout = '0s'\n\
             [prod]\naudience = []\ntimeout = '31s'",
        );
        let problems = config.problems();
        let told: Vec<_> = problems
            .iter()
            .map(|problem| (problem.key.as_str(), problem.value.as_deref().unwrap_or_default()))
            .collect();
        let expected = [
            ("a/b", ""),
            ("a/b.service-account-allow-list", "agent"),
            ("a/b.audience", "x#y"),
            ("a/b.audience", ""),
            ("a/b.allowed-pod-label-keys", "a:b"),
            ("a/b.allowed-node-label-keys", ""),
            ("a/b.timeout", "0ns"),
            ("prod.service-account-allow-list", "[]"),
            ("prod.audience", "[]"),
            ("prod.timeout", "31s"),
        ];
        assert_eq!(told, expected);
        assert_eq!(self::config("").problems().len(), 1);
    }

    #[test]
    fn what_is_misspelt_is_not_passed_over() {
        let error =
            toml::from_str::<Config>("[prod]\nservice_account_allow_list = []").unwrap_err();
        assert!(error.to_string().contains("unknown field"), "{error}");
    }
}
