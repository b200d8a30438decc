//! What an operator sets on the server.

use std::path::PathBuf;

use serde::Deserialize;
use ssh_key::PublicKey;

use super::certificate::Authorities;
use super::key::Key;
use super::path::AgentPath;
use crate::ConfigProblem;

/// The settings of the verifier. Their names are SPIRE's.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The keys that sign host certificates, as in `authorized_keys`, without options.
    pub cert_authorities: Vec<String>,
    /// A file of more of them, one in each line.
    pub cert_authorities_path: Option<PathBuf>,
    /// The domain that the names of all hosts end in; it is no part of `.Hostname`.
    pub canonical_domain: Option<String>,
    /// How agents are named.
    pub agent_path_template: Option<String>,
    /// Whether the proof must name the key that it is to earn a certificate for. A stock SPIRE agent's
    /// does not.
    pub require_binding: bool,
}

impl Config {
    /// Everything that is wrong with it. Looks at no file.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        if self.cert_authorities.is_empty() && self.cert_authorities_path.is_none() {
            let advice = "name at least one key that signs host certificates, here or in the file \
                `cert-authorities-path`";
            problems.push(ConfigProblem::new("cert-authorities", None, advice));
        }
        for line in &self.cert_authorities {
            if let Err(error) = add_authority(&mut Authorities::new(), line) {
                problems.push(ConfigProblem::new(
                    "cert-authorities",
                    Some(line),
                    error.to_string(),
                ));
            }
        }
        if let Some(domain) = &self.canonical_domain
            && !is_domain(domain)
        {
            let advice = "write a domain such as `example.org`, without a dot at either end";
            problems.push(ConfigProblem::new("canonical-domain", Some(domain), advice));
        }
        if let Some(template) = &self.agent_path_template
            && let Err(error) = AgentPath::parse(template)
        {
            problems.push(ConfigProblem::new(
                "agent-path-template",
                Some(template),
                error.to_string(),
            ));
        }
        problems
    }
}

fn is_domain(domain: &str) -> bool {
    domain.split('.').all(|label| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    })
}

/// Adds the key in `line`, which has the format of a line in `authorized_keys`.
pub(super) fn add_authority(
    authorities: &mut Authorities,
    line: &str,
) -> Result<(), ParseAuthorityError> {
    let key = PublicKey::from_openssh(line).map_err(ParseAuthorityError::Line)?;
    let blob = key.to_bytes().map_err(ParseAuthorityError::Line)?;
    let key = Key::parse(&blob).ok_or(ParseAuthorityError::Key)?;
    authorities.insert(blob, key);
    Ok(())
}

/// A line does not name an authority.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseAuthorityError {
    /// It is no line of `authorized_keys`.
    #[error("write a public key as in `authorized_keys`, such as `ssh-ed25519 AAAA…`")]
    Line(#[source] ssh_key::Error),
    /// It names a key that can't be relied on.
    #[error("an authority has an Ed25519, ECDSA or RSA key (of 2048 to 8192 bits)")]
    Key,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEAWPAsKJ/qMYUIBeH7BLMRCE/bkUvMHX+7OZhANk45S";

    fn keys(text: &str) -> Vec<String> {
        let config: Config = toml::from_str(text).unwrap();
        config.problems().into_iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn an_authority_is_all_it_takes() {
        assert!(keys(&format!("cert-authorities = ['{ED25519} a comment']")).is_empty());
        assert!(keys("cert-authorities-path = '/etc/ssh/authorities'").is_empty());
    }

    #[test]
    fn nobody_to_trust_is_not_everybody_to_trust() {
        assert_eq!(keys(""), ["cert-authorities"]);
        assert_eq!(keys("cert-authorities = []"), ["cert-authorities"]);
    }

    #[test]
    fn keys_that_are_none_or_weak_are_refused() {
        // A security key, whose signatures are of another format.
        let security = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAICFo\
            /k5LU8863u66YC9eUO2170QduohPURkQnbLa/dczAAAABHNzaDo=";
        for line in ["", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-ed25519 ?", security] {
            let text = format!("cert-authorities = ['{line}']");
            assert_eq!(keys(&text), ["cert-authorities"], "{line}");
        }
    }

    #[test]
    fn what_names_are_made_of_is_checked() {
        let of = |text: &str| keys(&format!("cert-authorities = ['{ED25519}']\n{text}"));
        assert!(of("canonical-domain = 'example.org'").is_empty());
        for domain in ["", ".example.org", "example.org.", "a..b", "a/b", "*.example.org"] {
            assert_eq!(of(&format!("canonical-domain = '{domain}'")), ["canonical-domain"]);
        }
        assert!(of("agent-path-template = '/ssh/{{ index .ValidPrincipals 0 }}'").is_empty());
        assert_eq!(of("agent-path-template = '/ssh'"), ["agent-path-template"]);
    }
}
