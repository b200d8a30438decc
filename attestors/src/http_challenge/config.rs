//! What an operator sets on the server.

use regex::{Regex, RegexBuilder};
use serde::Deserialize;

use crate::ConfigProblem;

/// The settings of the verifier. Their names are SPIRE's.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting by itself")]
pub struct Config {
    /// Regular expressions for the names of hosts; one of them must match the whole name.
    pub allowed_dns_patterns: Vec<String>,
    /// The one port that nodes can be asked at.
    pub required_port: Option<u16>,
    /// Whether nodes can be asked at ports that every user of a host can listen on.
    pub allow_non_root_ports: bool,
    /// Whether a host is believed only once, and another only when the operator evicts the agent.
    pub tofu: bool,
    /// Whether nodes can be asked at addresses in private networks.
    pub allow_private_networks: bool,
    /// Whether the proof must name the key that it is to earn a certificate for. A stock SPIRE agent's
    /// does not.
    pub require_binding: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            allowed_dns_patterns: Vec::new(),
            required_port: None,
            allow_non_root_ports: true,
            tofu: true,
            allow_private_networks: false,
            require_binding: false,
        }
    }
}

/// Ports from here on are every user's.
pub(super) const FIRST_USER_PORT: u16 = 1_024;

/// The most that a compiled pattern takes, in bytes.
const MAX_PATTERN: usize = 1 << 20;

impl Config {
    /// Everything that is wrong with it.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        if self.allowed_dns_patterns.is_empty() {
            let advice = "list regular expressions for the names of hosts that may attest, such as \
                `[\"p[0-9]+\\\\.example\\\\.org\"]`; each is for the whole name";
            problems.push(ConfigProblem::new("allowed-dns-patterns", None, advice));
        }
        for pattern in &self.allowed_dns_patterns {
            if let Err(error) = compile(pattern) {
                let advice = format!("write a regular expression: {error}");
                problems.push(ConfigProblem::new("allowed-dns-patterns", Some(pattern), advice));
            }
        }
        if let Some(port) = self.required_port
            && (port == 0 || (FIRST_USER_PORT <= port && !self.allow_non_root_ports))
        {
            let advice = "write a port from 1 on; from 1024 on only with `allow-non-root-ports`";
            problems.push(ConfigProblem::new("required-port", Some(&port.to_string()), advice));
        }
        if !self.tofu && !self.is_root_only() {
            let advice = "leave it on, or set `allow-non-root-ports = false` or a `required-port` \
                below 1024: every user of a host could attest for it";
            problems.push(ConfigProblem::new("tofu", Some("false"), advice));
        }
        problems
    }

    /// Whether it takes an administrator of a host to answer for it.
    fn is_root_only(&self) -> bool {
        !self.allow_non_root_ports || self.required_port.is_some_and(|port| port < FIRST_USER_PORT)
    }
}

/// The pattern, for whole names.
pub(super) fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    // By itself first: `a)|(b` is no pattern, and would be two in brackets.
    Regex::new(pattern)?;
    RegexBuilder::new(&format!(r"\A(?:{pattern})\z")).size_limit(MAX_PATTERN).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<String> {
        let config: Config = toml::from_str(text).unwrap();
        config.problems().into_iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn no_pattern_is_not_every_name() {
        assert!(keys("allowed-dns-patterns = ['.*\\.example\\.org']").is_empty());
        assert_eq!(keys(""), ["allowed-dns-patterns"]);
        assert_eq!(keys("allowed-dns-patterns = []"), ["allowed-dns-patterns"]);
        for bad in ["(", "a)|(b", "a{99999}{99999}"] {
            let text = format!("allowed-dns-patterns = ['{bad}']");
            assert_eq!(keys(&text), ["allowed-dns-patterns"], "{bad}");
        }
    }

    #[test]
    fn a_pattern_is_for_the_whole_name() {
        let pattern = compile(r"p[0-9]\.example\.org|q").unwrap();
        assert!(pattern.is_match("p1.example.org") && pattern.is_match("q"));
        for name in
            ["p1.example.org.evil.com", "evil-p1.example.org", "qq", "p1xexample.org", "q\n"]
        {
            assert!(!pattern.is_match(name), "{name:?}");
        }
    }

    #[test]
    fn trust_is_on_first_use_unless_only_root_can_answer() {
        let of = |text: &str| keys(&format!("allowed-dns-patterns = ['a']\n{text}"));
        assert_eq!(of("tofu = false"), ["tofu"]);
        assert_eq!(of("tofu = false\nrequired-port = 8080"), ["tofu"]);
        assert!(of("tofu = false\nrequired-port = 80").is_empty());
        assert!(of("tofu = false\nallow-non-root-ports = false").is_empty());
        assert_eq!(of("required-port = 8080\nallow-non-root-ports = false"), ["required-port"]);
        assert_eq!(of("required-port = 0"), ["required-port"]);
    }
}
