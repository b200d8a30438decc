//! What an operator sets on the server.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;

use super::guest_policy::Requirement;
use super::product::Product;
use super::report::Firmware;
use super::tcb::TcbVersion;
use crate::{ConfigProblem, references};

/// `[attestors.sev_snp]`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// What may run.
    pub reference_values: references::Config,
    /// The oldest firmware that is trusted, of each generation of processors. What is not named is not
    /// admitted.
    pub minimum_tcb: BTreeMap<Product, MinimumTcb>,
    /// The oldest committed version of the SEV-SNP firmware, such as `1.55`.
    pub minimum_firmware: Option<Firmware>,
    /// The privilege level at which guests ask for their report: 0, unless a paravisor has that.
    #[serde(default)]
    pub vmpl: u8,
    /// Whether guests whose host may read their memory are admitted, under other names.
    #[serde(default)]
    pub allow_debug: bool,
    /// Whether guests that a migration agent may take elsewhere are admitted.
    #[serde(default)]
    pub allow_migration: bool,
    /// What else the policy of a guest, or its platform, has to be.
    #[serde(default)]
    pub require: BTreeSet<Requirement>,
    /// The chips that guests may run on, by CHIP_ID in hexadecimal digits; any, if this is left out.
    pub chip_ids: Option<BTreeSet<String>>,
    /// The operators of clouds whose VLEKs count, by `cspID`; any, if this is left out.
    pub csp_ids: Option<BTreeSet<String>>,
    /// Files with AMD's lists of revoked certificates (DER), for each generation.
    #[serde(default)]
    pub crl: BTreeMap<Product, Vec<PathBuf>>,
}

/// The oldest version of each part of the firmware that is trusted.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MinimumTcb {
    /// The boot loader of the security processor.
    pub bootloader: u8,
    /// Its operating system.
    pub tee: u8,
    /// The SEV-SNP firmware.
    pub snp: u8,
    /// The microcode of the cores.
    pub microcode: u8,
    /// The firmware of Turin's FMC. No other generation has one.
    pub fmc: Option<u8>,
}

impl MinimumTcb {
    /// The same as a version of `product`'s.
    pub(super) fn version(&self, product: Product) -> TcbVersion {
        let Self { bootloader, tee, snp, microcode, fmc } = *self;
        TcbVersion(match product {
            Product::Milan | Product::Genoa => [bootloader, tee, 0, 0, 0, 0, snp, microcode],
            Product::Turin => [fmc.unwrap_or_default(), bootloader, tee, snp, 0, 0, 0, microcode],
        })
    }
}

impl Config {
    /// Everything that is wrong with it.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = self.reference_values.problems();
        let mut problem = |key: &str, value: Option<&str>, advice: &str| {
            problems.push(ConfigProblem::new(key, value, advice));
        };
        if self.minimum_tcb.is_empty() {
            let advice = "name the oldest firmware that you trust, for each generation of processors \
                          whose guests may join";
            problem("minimum-tcb", None, advice);
        }
        for (product, minimum) in &self.minimum_tcb {
            let key = format!("minimum-tcb.{product}.fmc");
            match (product, minimum.fmc) {
                (Product::Turin, None) => problem(&key, None, "Turin has an FMC; write a version"),
                (Product::Milan | Product::Genoa, Some(_)) => {
                    problem(&key, None, "only Turin has an FMC; leave it out");
                }
                (Product::Turin, Some(_)) | (Product::Milan | Product::Genoa, None) => {}
            }
        }
        if 3 < self.vmpl {
            problem("vmpl", Some(&self.vmpl.to_string()), "write a level from 0 to 3");
        }
        for (key, list) in [("chip-ids", &self.chip_ids), ("csp-ids", &self.csp_ids)] {
            if list.as_ref().is_some_and(BTreeSet::is_empty) {
                problem(key, None, "it admits nobody; name some, or leave it out");
            }
        }
        for chip in self.chip_ids.iter().flatten().filter(|chip| !is_chip_id(chip)) {
            let advice = "write all 64 bytes, in lower-case hexadecimal digits, and not zeros";
            problem("chip-ids", Some(chip), advice);
        }
        for (product, paths) in &self.crl {
            let key = format!("crl.{product}");
            if paths.is_empty() {
                problem(&key, None, "name a file, or leave it out");
            }
            if !self.minimum_tcb.contains_key(product) {
                problem(&key, None, "none is admitted of it: see `minimum-tcb`");
            }
        }
        problems
    }

    /// What guests are judged by.
    pub(super) fn policy(&self) -> Policy {
        Policy {
            minimum_tcb: Some(self.minimum_tcb.clone()),
            minimum_firmware: self.minimum_firmware,
            vmpl: self.vmpl,
            allow_debug: self.allow_debug,
            allow_migration: self.allow_migration,
            require: self.require.clone(),
            chip_ids: self.chip_ids.clone(),
            csp_ids: self.csp_ids.clone(),
        }
    }
}

/// Zeros are what a host that masks its chips has instead.
fn is_chip_id(text: &str) -> bool {
    let bytes = hex::decode(text).unwrap_or_default();
    bytes.len() == 64 && hex::encode(&bytes) == text && bytes.iter().any(|byte| *byte != 0)
}

/// What guests are judged by.
#[derive(Clone, Debug, Default)]
pub(super) struct Policy {
    /// None if none was given; then nobody is admitted.
    pub(super) minimum_tcb: Option<BTreeMap<Product, MinimumTcb>>,
    pub(super) minimum_firmware: Option<Firmware>,
    pub(super) vmpl: u8,
    pub(super) allow_debug: bool,
    pub(super) allow_migration: bool,
    pub(super) require: BTreeSet<Requirement>,
    pub(super) chip_ids: Option<BTreeSet<String>>,
    pub(super) csp_ids: Option<BTreeSet<String>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
        reference-values = { path = '/r.json', keys = ['/k.pem'] }
        minimum-tcb.milan = { bootloader = 3, tee = 0, snp = 8, microcode = 115 }
    ";

    fn keys(more: &str) -> Vec<String> {
        let config: Config = toml::from_str(&format!("{GOOD}\n{more}")).unwrap();
        config.problems().into_iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn references_and_a_minimum_are_all_it_takes() {
        assert!(keys("").is_empty());
        let turin =
            "minimum-tcb.turin = { fmc = 1, bootloader = 1, tee = 1, snp = 1, microcode = 1 }";
        assert!(keys(turin).is_empty());
        assert!(keys("minimum-firmware = '1.55'\nrequire = ['no-smt', 'alias-check']").is_empty());
        assert!(keys("crl.milan = ['/vcek.crl', '/vlek.crl']").is_empty());
        for missing in ["reference-values", "minimum-tcb"] {
            let left: String = GOOD.lines().filter(|line| !line.contains(missing)).collect();
            let error = toml::from_str::<Config>(&left).unwrap_err();
            assert!(error.to_string().contains(missing), "{error}");
        }
    }

    #[test]
    fn nothing_that_is_left_empty_means_everything() {
        let genoa =
            "minimum-tcb.genoa = { fmc = 1, bootloader = 1, tee = 1, snp = 1, microcode = 1 }";
        assert_eq!(keys(genoa), ["minimum-tcb.genoa.fmc"]);
        let turin = "minimum-tcb.turin = { bootloader = 1, tee = 1, snp = 1, microcode = 1 }";
        assert_eq!(keys(turin), ["minimum-tcb.turin.fmc"]);
        assert_eq!(keys("chip-ids = []\ncsp-ids = []"), ["chip-ids", "csp-ids"]);
        assert_eq!(keys("crl.milan = []"), ["crl.milan"]);
        assert_eq!(keys("crl.genoa = ['/a']"), ["crl.genoa"]);
        let none = "reference-values = { path = '', keys = [] }\nminimum-tcb = {}";
        let config: Config = toml::from_str(none).unwrap();
        let keys: Vec<_> = config.problems().into_iter().map(|problem| problem.key).collect();
        assert_eq!(keys, ["reference-values.path", "reference-values.keys", "minimum-tcb"]);
    }

    #[test]
    fn values_make_sense() {
        assert_eq!(keys("vmpl = 4"), ["vmpl"]);
        for chip in ["", "00", &"0".repeat(128), &"A1".repeat(64), &"a1".repeat(63)] {
            assert_eq!(keys(&format!("chip-ids = ['{chip}']")), ["chip-ids"], "{chip}");
        }
        assert!(keys(&format!("chip-ids = ['{}']", "a1".repeat(64))).is_empty());
        for bad in [
            "minimum-firmware = '1'",
            "minimum-firmware = '1.256'",
            "minimum-firmware = '1.2.3.4'",
            "require = ['smt']",
            "allow-everything = true",
            "minimum-tcb.rome = { bootloader = 1, tee = 1, snp = 1, microcode = 1 }",
        ] {
            toml::from_str::<Config>(&format!("{GOOD}\n{bad}")).unwrap_err();
        }
    }
}
