//! What an operator sets on the server.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;

use super::identity::{is_account, is_region};
use super::regions::is_public;
use crate::ConfigProblem;

/// `[attestors.aws_iid]`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// The accounts whose instances are admitted, by their twelve digits.
    #[serde(default)]
    pub account_allow_list: BTreeSet<String>,
    /// The regions whose instances are admitted; all that there is a certificate for, if this is left
    /// out.
    pub region_allow_list: Option<BTreeSet<String>>,
    /// Further certificates that sign documents: a file (PEM) for each region.
    #[serde(default)]
    pub certificates: BTreeMap<String, PathBuf>,
}

impl Config {
    /// Everything that is wrong with it.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        let mut problem = |key: &str, value: Option<&str>, advice: &str| {
            problems.push(ConfigProblem::new(key, value, advice));
        };
        if self.account_allow_list.is_empty() {
            let advice = "name the accounts whose instances may join; every AWS customer's \
                          documents are signed alike";
            problem("account-allow-list", None, advice);
        }
        for account in self.account_allow_list.iter().filter(|account| !is_account(account)) {
            problem("account-allow-list", Some(account), "an account id has twelve digits");
        }
        for region in self.certificates.keys().filter(|region| !is_region(region)) {
            problem("certificates", Some(region), "write a region's name, such as `us-iso-east-1`");
        }
        if let Some(regions) = &self.region_allow_list {
            if regions.is_empty() {
                problem("region-allow-list", None, "name a region, or leave the setting out");
            }
            let unknown = |region: &&String| {
                !is_public(region) && !self.certificates.contains_key(region.as_str())
            };
            for region in regions.iter().filter(unknown) {
                let advice = "no certificate of this region's is known; name a file with it below \
                              `certificates`";
                problem("region-allow-list", Some(region), advice);
            }
        }
        problems
    }
}
