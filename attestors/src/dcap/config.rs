//! What an operator sets on the server, for each kind of quote alike.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::status::TcbStatus;
use crate::ConfigProblem;
use crate::fetch::{Endpoint, Plain};

/// `tcb` in the settings of a kind: which platforms are good enough.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TcbPolicy {
    /// The statuses that are accepted; `UpToDate` only, unless this is set.
    pub accept: BTreeSet<TcbStatus>,
    /// The least `tcbEvaluationDataNumber` of collateral: from which TCB recovery on it is believed.
    pub min_evaluation_number: Option<u32>,
}

impl Default for TcbPolicy {
    fn default() -> Self {
        Self { accept: BTreeSet::from([TcbStatus::UpToDate]), min_evaluation_number: None }
    }
}

impl TcbPolicy {
    /// Whether a platform of this status is good enough.
    #[must_use]
    pub fn accepts(&self, status: TcbStatus) -> bool {
        status != TcbStatus::Revoked && self.accept.contains(&status)
    }

    /// Everything that is wrong with it.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        if self.accept.is_empty() {
            let advice = "it would admit nobody; name a status, or leave the setting out for \
                          `UpToDate`";
            problems.push(ConfigProblem::new("tcb.accept", None, advice));
        }
        if self.accept.contains(&TcbStatus::Revoked) {
            let advice = "a platform whose keys are revoked can be anybody; take it away";
            problems.push(ConfigProblem::new("tcb.accept", Some("Revoked"), advice));
        }
        problems
    }
}

/// `collateral` in the settings of a kind: where Intel's word about platforms comes from. Sources are
/// asked in the order of these fields; the first that has it is believed.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CollateralConfig {
    /// A folder with a file for each family of platforms: `tdx-b0c06f000000.json`, the kind and the
    /// FMSPC.
    pub folder: Option<PathBuf>,
    /// A service that speaks as Intel's does: its own, or a cache (PCCS) nearby.
    pub url: Option<String>,
    /// Where the root's revocation list is, if not where Intel or a cache has it.
    pub root_crl_url: Option<String>,
    /// The authorities (PEM) that vouch for the service, instead of this machine's.
    pub ca_file: Option<PathBuf>,
    /// Whether what a node brings along is believed, if there is no other. Intel signed it, but the
    /// node chooses which: it may be as old as it is valid.
    pub from_evidence: bool,
    /// How long collateral is believed after it has expired.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
}

/// The longest time for which expired collateral may be believed.
const MAX_GRACE: Duration = Duration::from_hours(24 * 30);

impl CollateralConfig {
    /// Everything that is wrong with it, without any I/O.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        let mut problem = |key: &str, value: Option<&str>, advice: &str| {
            problems.push(ConfigProblem::new(format!("collateral.{key}"), value, advice));
        };
        if self.folder.is_none() && self.url.is_none() && !self.from_evidence {
            let advice = "name a folder or a service where collateral is, or set `from-evidence`; \
                          without it no quote can be judged";
            problem("folder", None, advice);
        }
        if self.folder.as_ref().is_some_and(|folder| folder.as_os_str().is_empty()) {
            problem("folder", None, "name the folder with the files");
        }
        for (key, url) in [("url", &self.url), ("root-crl-url", &self.root_crl_url)] {
            if let Some(url) = url
                && let Err(error) = Endpoint::parse(url, Plain::Loopback)
            {
                problem(key, Some(url), &error.to_string());
            }
        }
        if self.url.is_none() && (self.root_crl_url.is_some() || self.ca_file.is_some()) {
            let advice =
                "this is about the service at `url`, which is not set; set both or neither";
            problem("url", None, advice);
        }
        if MAX_GRACE < self.grace {
            let written = format!("{:?}", self.grace);
            let advice = "Intel issues collateral for 30 days; allow at most as long again";
            problem("grace", Some(&written), advice);
        }
        problems
    }
}
