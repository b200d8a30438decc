//! What an operator can set.

use std::path::PathBuf;

use serde::Deserialize;

use crate::ConfigProblem;

/// Where containerd is, and which of its containers are told of.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Where containerd listens.
    pub socket_path: PathBuf,
    /// The namespaces in which containers are looked up, in this order: a kubelet's are in `k8s.io`.
    pub namespaces: Vec<String>,
    /// Refuse callers whose container can't be found out.
    pub required: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            socket_path: "/run/containerd/containerd.sock".into(),
            namespaces: vec!["k8s.io".to_owned(), "default".to_owned()],
            required: false,
        }
    }
}

/// The most namespaces: each is a question.
const MAX_NAMESPACES: usize = 8;

/// The longest name of one, in bytes; containerd's own bound.
const MAX_NAMESPACE: usize = 76;

impl Config {
    /// Everything that is wrong with it.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        let mut problem = |key: &str, value: &str, advice: &str| {
            problems.push(ConfigProblem::new(key, Some(value), advice));
        };
        if self.socket_path.is_relative() {
            let advice = "write it as an absolute path, beginning with `/`";
            problem("socket-path", &self.socket_path.display().to_string(), advice);
        }
        if !(1..=MAX_NAMESPACES).contains(&self.namespaces.len()) {
            problem("namespaces", &self.namespaces.len().to_string(), "name 1 to 8 namespaces");
        }
        for name in self.namespaces.iter().filter(|name| !is_namespace(name)) {
            let advice =
                "write 1 to 76 characters of `A-Z a-z 0-9 . _ -`, as `ctr namespaces ls` does";
            problem("namespaces", name, advice);
        }
        problems
    }
}

fn is_namespace(name: &str) -> bool {
    (1..=MAX_NAMESPACE).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}
