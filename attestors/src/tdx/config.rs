//! What an operator sets on the server.

use std::path::PathBuf;

use serde::Deserialize;

use crate::dcap::{CollateralConfig, TcbPolicy, test_root_problem};
use crate::{ConfigProblem, references};

/// `[attestors.tdx]`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The images that may run.
    pub reference_values: references::Config,
    /// Where Intel's word about platforms comes from.
    pub collateral: CollateralConfig,
    /// Which platforms are good enough.
    #[serde(default)]
    pub tcb: TcbPolicy,
    /// Whether machines are admitted whose host can look into them.
    #[serde(default)]
    pub allow_debug: bool,
    /// For tests: a root (PEM) that is trusted instead of Intel's. Whoever has its key can be any
    /// machine.
    #[serde(default)]
    pub insecure_test_root: Option<PathBuf>,
}

impl Config {
    /// Everything that is wrong with it. Looks at no file.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = self.reference_values.problems();
        problems.extend(self.collateral.problems());
        problems.extend(self.tcb.problems());
        problems.extend(test_root_problem(self.insecure_test_root.as_deref()));
        problems
    }
}
