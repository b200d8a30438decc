//! What an operator sets on the server.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Deserialize;

use crate::nitro::{Debugging, Parents};
use crate::{ConfigProblem, references};

/// `[attestors.aws_nitro]`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// The images that may run.
    pub reference_values: references::Config,
    /// Whether enclaves in debug mode are admitted, of which nothing is measured but their parent.
    #[serde(default)]
    pub allow_debug: bool,
    /// The parents whose enclaves in debug mode are admitted: ARNs of IAM roles, or ids of instances.
    #[serde(default)]
    pub debug_parents: BTreeSet<String>,
    /// For tests: a root that is trusted instead of AWS'. Whoever has its key can be any enclave.
    #[serde(default)]
    pub insecure_test_root: Option<PathBuf>,
}

impl Config {
    /// Everything that is wrong with it. Looks at no file.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = self.reference_values.problems();
        if self.allow_debug && self.debug_parents.is_empty() {
            let advice = "anybody's enclave would do; name the IAM roles (`arn:aws:iam::…:role/…`) or \
                          the instances (`i-…`) that may run enclaves in debug mode";
            problems.push(ConfigProblem::new("debug-parents", None, advice));
        }
        if !self.allow_debug && !self.debug_parents.is_empty() {
            let advice = "is for `allow-debug = true` alone; set that, or leave this out";
            problems.push(ConfigProblem::new("debug-parents", None, advice));
        }
        for parent in self.debug_parents.iter().filter(|parent| !is_parent(parent)) {
            let advice = "write the ARN of an IAM role, such as `arn:aws:iam::123456789012:role/dev`, \
                          or the id of an instance, such as `i-0123456789abcdef0`";
            problems.push(ConfigProblem::new("debug-parents", Some(parent), advice));
        }
        if self.insecure_test_root.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            let advice = "name a certificate, or leave it out to trust AWS";
            problems.push(ConfigProblem::new("insecure-test-root", Some(""), advice));
        }
        problems
    }

    pub(super) fn debugging(&self) -> Debugging {
        if self.allow_debug {
            Debugging::Of(Parents::new(&self.debug_parents))
        } else {
            Debugging::Refused
        }
    }
}

/// Whether a parent is named in one of the two ways.
fn is_parent(name: &str) -> bool {
    let is_instance = || {
        let digits = name.strip_prefix("i-").unwrap_or_default();
        !digits.is_empty() && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    Parents::is_role(name) && name.contains(":role/") || is_instance()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCES: &str = "reference-values = { path = '/r', keys = ['/k'] }\n";

    fn keys(text: &str) -> Vec<String> {
        let config: Config = toml::from_str(&format!("{REFERENCES}{text}")).unwrap();
        config.problems().into_iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn reference_values_are_required() {
        let error = toml::from_str::<Config>("allow-debug = true").unwrap_err();
        assert!(error.to_string().contains("reference-values"), "{error}");
        let nobody: Config =
            toml::from_str("reference-values = { path = '/r', keys = [] }").unwrap();
        assert_eq!(nobody.problems()[0].key, "reference-values.keys");
        assert!(keys("").is_empty());
    }

    #[test]
    fn debug_mode_is_for_named_parents_only() {
        let parents =
            "debug-parents = ['arn:aws:iam::123456789012:role/dev', 'i-0123456789abcdef0']";
        assert!(keys(&format!("allow-debug = true\n{parents}")).is_empty());
        assert_eq!(keys("allow-debug = true"), ["debug-parents"]);
        assert_eq!(keys(parents), ["debug-parents"]);
        for bad in ["", "i-", "i-XYZ", "dev", "arn:aws:iam::123456789012:user/dev", "*"] {
            let text = format!("allow-debug = true\ndebug-parents = ['{bad}']");
            assert_eq!(keys(&text), ["debug-parents"], "{bad}");
        }
    }

    #[test]
    fn unknown_settings_are_refused() {
        let error = toml::from_str::<Config>(&format!("{REFERENCES}root = '/r'")).unwrap_err();
        assert!(error.to_string().contains("root"), "{error}");
        assert_eq!(keys("insecure-test-root = ''"), ["insecure-test-root"]);
    }
}
