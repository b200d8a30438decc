//! What an operator sets on the server.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::path::AgentPath;
use crate::ConfigProblem;
use crate::possession::rsa::{MAX_BITS, MIN_BITS};

/// The settings of the verifier. Their names are SPIRE's.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Who issues the certificates of nodes.
    pub mode: Mode,
    /// With [`Mode::Spiffe`]: the path that the SPIFFE IDs of nodes begin with.
    pub svid_prefix: String,
    /// With [`Mode::ExternalPki`]: a file of root certificates in PEM.
    pub ca_bundle_path: Option<PathBuf>,
    /// The same, if they are in several files.
    pub ca_bundle_paths: Vec<PathBuf>,
    /// How agents are named; none for the mode's own way.
    pub agent_path_template: Option<String>,
    /// The most certificates that a node may send with its own.
    pub max_intermediates: usize,
    /// The most bits of an RSA key's modulus.
    pub max_rsa_key_size: usize,
    /// Whether a node's certificate must name the address that it calls from.
    pub verify_client_ip: bool,
    /// Whether the proof must name the key that it is to earn a certificate for. A stock SPIRE agent's
    /// does not.
    pub require_binding: bool,
}

/// Who issues the certificates of nodes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Authorities that the operator names.
    #[default]
    #[serde(alias = "external_pki")]
    ExternalPki,
    /// This trust domain itself: an SVID is exchanged for an agent's identity.
    Spiffe,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            svid_prefix: "/spire-exchange".into(),
            ca_bundle_path: None,
            ca_bundle_paths: Vec::new(),
            agent_path_template: None,
            max_intermediates: 4,
            max_rsa_key_size: MAX_BITS,
            verify_client_ip: false,
            require_binding: false,
        }
    }
}

/// The longest chain below a root that is ever built.
const MAX_INTERMEDIATES: usize = 6;

impl Config {
    /// Everything that is wrong with it. Looks at no file.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = self.problems_of_mode();
        if let Some(template) = &self.agent_path_template
            && let Err(error) = AgentPath::parse(template, self.mode)
        {
            let advice = error.to_string();
            problems.push(ConfigProblem::new("agent-path-template", Some(template), advice));
        }
        if MAX_INTERMEDIATES < self.max_intermediates {
            let advice = format!("write a number of 0 to {MAX_INTERMEDIATES}");
            let value = self.max_intermediates.to_string();
            problems.push(ConfigProblem::new("max-intermediates", Some(&value), advice));
        }
        if !(MIN_BITS..=MAX_BITS).contains(&self.max_rsa_key_size) {
            let advice = format!("write a number of bits from {MIN_BITS} to {MAX_BITS}");
            let value = self.max_rsa_key_size.to_string();
            problems.push(ConfigProblem::new("max-rsa-key-size", Some(&value), advice));
        }
        problems
    }

    fn problems_of_mode(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        match self.mode {
            Mode::ExternalPki => {
                if self.bundle_paths().next().is_none() {
                    let advice = "name at least one file of root certificates in PEM";
                    problems.push(ConfigProblem::new("ca-bundle-path", None, advice));
                }
                if self.ca_bundle_path.is_some() && !self.ca_bundle_paths.is_empty() {
                    let advice = "write either `ca-bundle-path` or `ca-bundle-paths`";
                    problems.push(ConfigProblem::new("ca-bundle-paths", None, advice));
                }
            }
            Mode::Spiffe => {
                if self.bundle_paths().next().is_some() {
                    let advice = "leave it out, or set `mode = \"external-pki\"`: with \
                        `mode = \"spiffe\"` certificates are this trust domain's own";
                    problems.push(ConfigProblem::new("ca-bundle-path", None, advice));
                }
                if !is_exchangeable(self.prefix()) {
                    let advice = "write a path such as `/spire-exchange`, outside of `/spire`: \
                        every SVID below it can become an agent's";
                    problems.push(ConfigProblem::new(
                        "svid-prefix",
                        Some(&self.svid_prefix),
                        advice,
                    ));
                }
            }
        }
        problems
    }

    /// The files of root certificates.
    pub(super) fn bundle_paths(&self) -> impl Iterator<Item = &Path> {
        self.ca_bundle_path.iter().chain(&self.ca_bundle_paths).map(PathBuf::as_path)
    }

    /// The prefix without the slash that may end it.
    pub(super) fn prefix(&self) -> &str {
        self.svid_prefix.strip_suffix('/').unwrap_or(&self.svid_prefix)
    }
}

/// Whether `prefix` names some SVIDs, and neither all of them nor the broker's own.
fn is_exchangeable(prefix: &str) -> bool {
    let id = format!("spiffe://example.org{prefix}").parse::<claviger_core::id::SpiffeId>();
    id.is_ok_and(|id| !id.is_trust_domain() && !id.is_reserved())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<String> {
        let config: Config = toml::from_str(text).unwrap();
        config.problems().into_iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn a_bundle_is_all_it_takes() {
        assert!(keys("ca-bundle-path = '/a.pem'").is_empty());
        assert!(keys("mode = 'external_pki'\nca-bundle-paths = ['/a.pem', '/b.pem']").is_empty());
        assert!(keys("mode = 'spiffe'").is_empty());
        assert!(keys("mode = 'spiffe'\nsvid-prefix = '/nodes/'").is_empty());
    }

    #[test]
    fn nothing_to_trust_is_not_everything_to_trust() {
        assert_eq!(keys(""), ["ca-bundle-path"]);
        assert_eq!(keys("ca-bundle-paths = []"), ["ca-bundle-path"]);
        assert_eq!(keys("ca-bundle-path = '/a'\nca-bundle-paths = ['/b']"), ["ca-bundle-paths"]);
        assert_eq!(keys("mode = 'spiffe'\nca-bundle-path = '/a'"), ["ca-bundle-path"]);
        for prefix in ["", "/", "//", "/spire", "/spire/agent", "nodes", "/a/../b"] {
            let text = format!("mode = 'spiffe'\nsvid-prefix = '{prefix}'");
            assert_eq!(keys(&text), ["svid-prefix"], "{prefix}");
        }
    }

    #[test]
    fn limits_have_limits() {
        let of = |text: &str| keys(&format!("ca-bundle-path = '/a'\n{text}"));
        assert!(of("max-intermediates = 0\nmax-rsa-key-size = 2048").is_empty());
        assert_eq!(of("max-intermediates = 7"), ["max-intermediates"]);
        for size in [0, 2_047, 8_193, 16_384] {
            assert_eq!(of(&format!("max-rsa-key-size = {size}")), ["max-rsa-key-size"]);
        }
        assert_eq!(of("agent-path-template = '/a/{{ .Nothing }}'"), ["agent-path-template"]);
    }

    #[test]
    fn unknown_settings_are_refused() {
        let error = toml::from_str::<Config>("ca-bundel-path = '/a'").unwrap_err();
        assert!(error.to_string().contains("ca-bundel-path"), "{error}");
    }
}
