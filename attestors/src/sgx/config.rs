//! What an operator sets on the server.

use std::path::PathBuf;

use serde::Deserialize;

use crate::dcap::{CollateralConfig, TcbPolicy, test_root_problem};
use crate::{ConfigProblem, references};

/// `[attestors.sgx]`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The enclaves that may run: by what they are made of (`mrenclave`), or by who signed them
    /// (`mrsigner`).
    pub reference_values: references::Config,
    /// Which products of a signer's may run, where an enclave is known by its signer alone.
    #[serde(default)]
    pub signed: Option<Signed>,
    /// Where Intel's word about platforms comes from.
    pub collateral: CollateralConfig,
    /// Which platforms are good enough.
    #[serde(default)]
    pub tcb: TcbPolicy,
    /// Whether enclaves are admitted whose host can look into them.
    #[serde(default)]
    pub allow_debug: bool,
    /// For tests: a root (PEM) that is trusted instead of Intel's. Whoever has its key can be any
    /// enclave.
    #[serde(default)]
    pub insecure_test_root: Option<PathBuf>,
}

/// A signer's product. All that a signer ever signed has its `mrsigner`, old versions with known holes
/// among it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Signed {
    /// `ISVPRODID`: the signer's number for the product.
    pub isv_prod_id: u16,
    /// The least `ISVSVN`: the signer's number for its security version.
    pub min_isv_svn: u16,
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
