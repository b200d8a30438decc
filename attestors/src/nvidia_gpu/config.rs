//! What an operator sets on the server.

use std::path::PathBuf;

use serde::Deserialize;

use crate::ConfigProblem;
use crate::references;

/// `[attestors.nvidia_gpu]`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// What the devices have to run.
    pub reference_values: references::Config,
    /// How it is known that a device's certificates were not revoked. There is no default: one is a
    /// job to run, the other a risk to take.
    pub revocation: Revocation,
}

/// How it is known that certificates were not revoked.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Revocation {
    /// By OCSP responses in this folder: for each certificate but the device's own and the root, a file
    /// `<serial number>.ocsp` in DER. One that is missing, or not of now, refuses the device.
    Responses(PathBuf),
    /// It isn't known.
    NotChecked,
}

impl Config {
    /// Everything that is wrong with it. Looks at no file.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = self.reference_values.problems();
        if let Revocation::Responses(folder) = &self.revocation
            && folder.as_os_str().is_empty()
        {
            let advice = "name the folder with the OCSP responses, or write \
                          `revocation = \"not-checked\"`";
            problems.push(ConfigProblem::new("revocation.responses", Some(""), advice));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_admit_anybody_has_to_be_said() {
        let references = "[reference-values]\npath = 'r.json'\nkeys = ['k.pem']";
        let read = |text: &str| toml::from_str::<Config>(&format!("{text}\n{references}"));
        let keys = |text: &str| {
            let problems = read(text).unwrap().problems();
            problems.into_iter().map(|problem| problem.key).collect::<Vec<_>>()
        };
        assert!(keys("revocation = 'not-checked'").is_empty());
        assert!(keys("revocation = { responses = '/var/lib/ocsp' }").is_empty());
        assert_eq!(keys("revocation = { responses = '' }"), ["revocation.responses"]);
        for text in ["", "revocation = 'yes'", "revocation = 'not-checked'\nother = 1"] {
            read(text).unwrap_err();
        }
        toml::from_str::<Config>("revocation = 'not-checked'").unwrap_err();
    }
}
