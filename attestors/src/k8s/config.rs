//! What an operator can set.

use std::path::{Path, PathBuf};

use reqwest::Url;
use serde::Deserialize;

use crate::ConfigProblem;

/// How to learn of the pods of this node.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// What the API server calls this node. If unset, the agent's own service-account token says it.
    pub node_name: Option<String>,
    /// How to reach the API server; if unset, as a pod does.
    pub kubeconfig: Option<PathBuf>,
    /// Ask the kubelet, and not the API server.
    pub kubelet: Option<KubeletConfig>,
    /// Tell of the pod alone, and not of the container: then a pod counts as soon as it is known,
    /// and does not wait for its containers.
    pub disable_container_selectors: bool,
    /// Refuse callers whose pod can't be found out.
    pub required: bool,
}

/// How to ask the kubelet.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct KubeletConfig {
    /// Where it is: `https://node-1:10250`, or its read-only port, `http://127.0.0.1:10255`.
    pub address: String,
    /// Who vouches for its certificate, in PEM.
    pub ca_path: Option<PathBuf>,
    /// The token by which it knows us; read anew for each question.
    pub token_path: Option<PathBuf>,
    /// Or the certificate, in PEM,
    pub client_certificate_path: Option<PathBuf>,
    /// and its key.
    pub client_key_path: Option<PathBuf>,
}

/// The longest name of a node: a DNS subdomain (RFC 1123).
const MAX_NAME: usize = 253;

impl Config {
    /// Everything that is wrong with it.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        if let Some(name) = &self.node_name
            && !is_node_name(name)
        {
            let advice = "write the name as `kubectl get nodes` does";
            problems.push(ConfigProblem::new("node-name", Some(name), advice));
        }
        if let Some(path) = &self.kubeconfig {
            problems.extend(relative("kubeconfig", path));
        }
        let Some(kubelet) = &self.kubelet else { return problems };
        let api_settings =
            [("node-name", self.node_name.is_some()), ("kubeconfig", self.kubeconfig.is_some())];
        for (key, is_set) in api_settings {
            if is_set {
                let advice = "is for the API server, which is not asked with `kubelet`; drop one";
                problems.push(ConfigProblem::new(key, None, advice));
            }
        }
        problems.extend(kubelet.problems());
        problems
    }
}

impl KubeletConfig {
    fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        let files = [
            ("kubelet.ca-path", &self.ca_path),
            ("kubelet.token-path", &self.token_path),
            ("kubelet.client-certificate-path", &self.client_certificate_path),
            ("kubelet.client-key-path", &self.client_key_path),
        ];
        for (key, path) in files {
            problems.extend(path.as_deref().and_then(|path| relative(key, path)));
        }
        if self.client_certificate_path.is_some() != self.client_key_path.is_some() {
            let advice = "a certificate and its key are of use together only; set both";
            problems.push(ConfigProblem::new("kubelet.client-key-path", None, advice));
        }
        let mut address = |advice| {
            problems.push(ConfigProblem::new("kubelet.address", Some(&self.address), advice));
        };
        match Url::parse(&self.address) {
            Ok(url) if !is_origin(&url) => {
                address("write `https://host:port` and nothing more");
            }
            Ok(url) if url.scheme() == "https" && self.ca_path.is_none() => {
                address("needs `ca-path`: who vouches for the kubelet's certificate");
            }
            Ok(url) if url.scheme() == "http" && !is_loopback(&url) => {
                address("without TLS, only the kubelet of this node can be asked: 127.0.0.1");
            }
            Ok(url) if url.scheme() == "http" && self.sends_credentials() => {
                address("use https: over http, the token would be readable on its way");
            }
            Ok(_sound) => {}
            Err(_syntax) => address("write `https://host:port`"),
        }
        problems
    }

    const fn sends_credentials(&self) -> bool {
        self.token_path.is_some() || self.client_certificate_path.is_some()
    }
}

/// A scheme, a host, perhaps a port, and nothing more.
fn is_origin(url: &Url) -> bool {
    matches!(url.scheme(), "https" | "http")
        && url.host_str().is_some_and(|host| !host.is_empty())
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none()
}

fn is_loopback(url: &Url) -> bool {
    matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"))
}

/// Whether `name` can be a node's, and means nothing else in a field selector.
pub(super) fn is_node_name(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_plain)
}

fn relative(key: &str, path: &Path) -> Option<ConfigProblem> {
    let shown = path.display().to_string();
    let advice = "write it as an absolute path, beginning with `/`";
    path.is_relative().then(|| ConfigProblem::new(key, Some(&shown), advice))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let config: Config = toml::from_str(text).unwrap();
        let told = |problem: ConfigProblem| format!("{}: {}", problem.key, problem.advice);
        config.problems().into_iter().map(told).collect()
    }

    #[test]
    fn every_setting_is_read() {
        let text = "node-name = \"n-1\"\nkubeconfig = \"/k\"\nrequired = true\n\
                    disable-container-selectors = true";
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!(config.node_name.as_deref(), Some("n-1"));
        assert_eq!(config.kubeconfig.as_deref(), Some(Path::new("/k")));
        assert!(config.disable_container_selectors && config.required);
        assert_eq!(config.problems(), []);
        assert_eq!(Config::default().problems(), []);
        toml::from_str::<Config>("node_name = \"x\"").unwrap_err();
        toml::from_str::<Config>("kubelet = {}").unwrap_err();
    }

    #[test]
    fn a_kubelet_is_asked_in_a_sound_way() {
        for sound in [
            "address = \"https://node:10250\"\nca-path = \"/c\"\ntoken-path = \"/t\"",
            "address = \"https://[2001:db8::1]:10250\"\nca-path = \"/c\"\n\
             client-certificate-path = \"/x\"\nclient-key-path = \"/y\"",
            "address = \"http://127.0.0.1:10255\"",
        ] {
            assert_eq!(problems(&format!("[kubelet]\n{sound}")), [""; 0], "{sound}");
        }
        for (wrong, key) in [
            ("address = \"\"", "kubelet.address"),
            ("address = \"https://node\"", "kubelet.address"),
            ("address = \"https://node/pods\"\nca-path = \"/c\"", "kubelet.address"),
            ("address = \"https://u:p@node\"\nca-path = \"/c\"", "kubelet.address"),
            ("address = \"ftp://node\"", "kubelet.address"),
            ("address = \"http://10.0.0.1:10255\"", "kubelet.address"),
            ("address = \"http://localhost\"\ntoken-path = \"/t\"", "kubelet.address"),
            ("address = \"http://localhost\"\nca-path = \"c\"", "kubelet.ca-path"),
            (
                "address = \"https://n\"\nca-path = \"/c\"\nclient-key-path = \"/k\"",
                "kubelet.client-key-path",
            ),
        ] {
            let found = problems(&format!("[kubelet]\n{wrong}"));
            assert_eq!(found.len(), 1, "{wrong}: {found:?}");
            assert!(found[0].starts_with(key), "{found:?}");
        }
    }

    #[test]
    fn two_sources_are_one_too_many() {
        let both = "node-name = \"n\"\nkubeconfig = \"/k\"\n\
                    kubelet = { address = \"http://127.0.0.1:10255\" }";
        assert_eq!(problems(both).len(), 2);
        assert_eq!(problems("node-name = \"a,spec.nodeName=b\"").len(), 1);
        assert_eq!(problems("node-name = \"\"\nkubeconfig = \"k\"").len(), 2);
    }
}
