//! What an operator sets.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::loaded::glob;
use crate::ConfigProblem;

/// `[workload.model]` in the agent's configuration.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The signed manifests of the models that are known: what `model_signing sign key` writes.
    pub manifests: Vec<PathBuf>,
    /// Files with the public keys, in PEM, of those who may sign them.
    pub keys: Vec<PathBuf>,
    /// Which files are weights: names with `*` and `?`, or whole paths if there is a slash in it.
    #[serde(default = "patterns")]
    pub patterns: Vec<String>,
    /// Larger files are not read, in bytes, and nothing is said of a process that has loaded one.
    #[serde(default = "max_file_size")]
    pub max_file_size: u64,
    /// Whether files count that lie in a file system of a program's making (FUSE), which may say
    /// something else to everybody who asks.
    #[serde(default)]
    pub trust_fuse: bool,
    /// How long a process waits while its files are read for the first time.
    #[serde(default = "patience", with = "humantime_serde")]
    pub patience: Duration,
    /// How often it is looked at whether a process that has a model's identity has loaded something
    /// else. Changes of the files themselves are told by the kernel, at once.
    #[serde(default = "recheck", with = "humantime_serde")]
    pub recheck: Duration,
    /// Whether nobody is attested whose files are not known.
    #[serde(default)]
    pub required: bool,
}

fn patterns() -> Vec<String> {
    ["*.safetensors", "*.gguf"].map(ToOwned::to_owned).to_vec()
}

const fn max_file_size() -> u64 {
    256 << 30
}

const fn patience() -> Duration {
    Duration::from_secs(120)
}

const fn recheck() -> Duration {
    Duration::from_secs(10)
}

/// The most manifests, and the most keys.
const MOST: usize = 1_024;

impl Config {
    /// Settings with these manifests and keys, and otherwise as they are by default.
    #[must_use]
    pub fn new(manifests: Vec<PathBuf>, keys: Vec<PathBuf>) -> Self {
        Self {
            manifests,
            keys,
            patterns: patterns(),
            max_file_size: max_file_size(),
            trust_fuse: false,
            patience: patience(),
            recheck: recheck(),
            required: false,
        }
    }

    /// Everything that is wrong with it. Looks at no file.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        let mut problem = |key: &str, value: Option<&str>, advice: &str| {
            problems.push(ConfigProblem::new(key, value, advice));
        };
        if !(1..=MOST).contains(&self.manifests.len()) {
            problem("manifests", None, "name 1 to 1024 files; without one, no model is known");
        }
        if !(1..=MOST).contains(&self.keys.len()) {
            problem("keys", None, "name the public keys (1 to 1024) of those who sign manifests");
        }
        if self.patterns.is_empty() {
            problem("patterns", None, "name the files that are weights, such as `*.safetensors`");
        }
        for pattern in self.patterns.iter().filter(|pattern| glob(pattern).is_none()) {
            problem("patterns", Some(pattern), "write a name with `*` and `?`, or a whole path");
        }
        for (key, value) in [("patience", self.patience), ("recheck", self.recheck)] {
            if value < Duration::from_secs(1) {
                problem(key, Some(&format!("{value:?}")), "write a second or more, such as `10s`");
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_know_no_model_are_refused() {
        let keys = |text: &str| {
            let config: Config = toml::from_str(text).unwrap();
            config.problems().into_iter().map(|problem| problem.key).collect::<Vec<_>>()
        };
        let both = "manifests = ['m.sig']\nkeys = ['k.pem']";
        assert!(keys(both).is_empty());
        assert_eq!(keys("manifests = []\nkeys = []"), ["manifests", "keys"]);
        for (more, key) in [
            ("patterns = []", "patterns"),
            ("patterns = ['']", "patterns"),
            ("patterns = ['models/*']", "patterns"),
            ("recheck = '10ms'", "recheck"),
            ("patience = '0s'", "patience"),
        ] {
            assert_eq!(keys(&format!("{both}\n{more}")), [key], "{more}");
        }
        for text in ["", "manifests = ['m.sig']", &format!("{both}\nmodels = 1")] {
            toml::from_str::<Config>(text).unwrap_err();
        }
    }
}
