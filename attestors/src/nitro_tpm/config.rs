//! What an operator sets on the server.

use std::path::PathBuf;

use serde::Deserialize;

use crate::{ConfigProblem, references};

/// `[attestors.nitro_tpm]`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// The images that may run.
    pub reference_values: references::Config,
    /// For tests: a root that is trusted instead of AWS'. Whoever has its key can be any instance.
    #[serde(default)]
    pub insecure_test_root: Option<PathBuf>,
}

impl Config {
    /// Everything that is wrong with it. Looks at no file.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = self.reference_values.problems();
        if self.insecure_test_root.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            let advice = "name a certificate, or leave it out to trust AWS";
            problems.push(ConfigProblem::new("insecure-test-root", Some(""), advice));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_values_are_required_and_debug_mode_is_unknown() {
        let error = toml::from_str::<Config>("").unwrap_err();
        assert!(error.to_string().contains("reference-values"), "{error}");
        let references = "reference-values = { path = '/r', keys = ['/k'] }\n";
        let config: Config = toml::from_str(references).unwrap();
        assert!(config.problems().is_empty());
        let error = toml::from_str::<Config>(&format!("{references}allow-debug = true"));
        assert!(error.unwrap_err().to_string().contains("allow-debug"));
        let text = format!("{references}insecure-test-root = ''");
        let config: Config = toml::from_str(&text).unwrap();
        assert_eq!(config.problems()[0].key, "insecure-test-root");
    }
}
