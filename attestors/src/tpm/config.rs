//! What an operator sets on the server.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Deserialize;

use super::structure::{COUNT, Hash};
use crate::{ConfigProblem, references};

/// `[attestors.tpm]`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Files (PEM) with the certificates of those who are trusted to certify TPMs: their makers, as a
    /// rule.
    pub ek_roots: Vec<PathBuf>,
    /// Files (PEM) with certificates that lead to these, which few TPMs have in themselves.
    #[serde(default)]
    pub ek_intermediates: Vec<PathBuf>,
    /// The only EKs that are admitted: the SHA-256 of their SubjectPublicKeyInfo, in hexadecimal
    /// digits. All that the roots vouch for, if this is left out.
    pub ek_allow_list: Option<BTreeSet<String>>,
    /// The PCRs that have to be quoted, by number: just these.
    pub pcrs: BTreeSet<u8>,
    /// The bank that they are in: `sha256`, if this is left out, or `sha384`.
    #[serde(default = "sha256")]
    pub bank: Hash,
    /// What the machines have to have booted.
    pub reference_values: references::Config,
}

const fn sha256() -> Hash {
    Hash::Sha256
}

impl Config {
    /// Everything that is wrong with it, without reading the files.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = self.reference_values.problems();
        let mut problem = |key: &str, value: Option<String>, advice: &str| {
            let (key, advice) = (key.to_owned(), advice.to_owned());
            problems.push(ConfigProblem { key, value, advice });
        };
        if self.ek_roots.is_empty() {
            let advice = "name files with the certificates of those who make your TPMs; without, \
                          anybody could call a key of theirs a TPM";
            problem("ek-roots", None, advice);
        }
        if self.pcrs.is_empty() {
            let advice = "name the PCRs that say what was booted, such as [0, 2, 4, 7]";
            problem("pcrs", None, advice);
        }
        for pcr in self.pcrs.iter().filter(|pcr| COUNT <= **pcr) {
            problem("pcrs", Some(pcr.to_string()), "a TPM has PCRs 0 to 23");
        }
        let eks = self.ek_allow_list.iter();
        if eks.clone().any(BTreeSet::is_empty) {
            let advice =
                "name an EK, or leave the setting out to admit all that the roots vouch for";
            problem("ek-allow-list", None, advice);
        }
        let is_digest = |ek: &str| {
            ek.len() == 64 && ek.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
        };
        for ek in eks.flatten().filter(|ek| !is_digest(ek)) {
            let advice = "an EK is named by the SHA-256 of its SubjectPublicKeyInfo: 64 lower-case \
                          hexadecimal digits";
            problem("ek-allow-list", Some(ek.clone()), advice);
        }
        problems
    }
}
