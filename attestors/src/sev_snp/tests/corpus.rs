//! Real reports, of machines of AMD's.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use claviger_core::time::UnixTime;

use crate::checklist::{Checklist, Outcome};
use crate::fixture::corpus::corpus;
use crate::inspect::Given;
use crate::references::References;
use crate::sev_snp::appraise::{Evidence, Guest, Standard, appraise};
use crate::sev_snp::certificate;
use crate::sev_snp::config::Policy;
use crate::sev_snp::endorsement::Endorsement;
use crate::sev_snp::fixture::{Machine, references};
use crate::sev_snp::roots::{AMD, Roots};
use crate::sev_snp::{MinimumTcb, Product, Report, inspect};

/// 2025-06-01, when all their certificates were valid, and 2026-06-01, when that of a cloud was not.
const IN_2025: UnixTime = UnixTime::from_secs(1_748_736_000);
const IN_2026: UnixTime = UnixTime::from_secs(1_780_272_000);

/// A real report, and the certificate of the key that signed it.
struct Real {
    report: Vec<u8>,
    endorsement: Vec<u8>,
}

impl Real {
    fn read(folder: &Path, report: &str, endorsement: &str) -> Self {
        let report = fs::read(folder.join(report)).unwrap();
        let report =
            match str::from_utf8(&report).ok().and_then(|text| hex::decode(text.trim()).ok()) {
                Some(decoded) => decoded,
                None => report,
            };
        Self { report, endorsement: fs::read(folder.join(endorsement)).unwrap() }
    }

    fn chip(folder: &Path) -> Self {
        Self::read(folder, "snp__test-report.bin", "snp__test-vcek.der")
    }

    fn cloud(folder: &Path) -> Self {
        Self::read(folder, "snp__test-vlek-report.bin", "snp__test-vlek.der")
    }

    /// The rule that it breaks at `now` as a report of this privilege level, of software that is known.
    fn broken(&self, vmpl: u8, now: UnixTime) -> String {
        let known = Report::parse(&self.report).unwrap();
        let registers = format!(r#"{{"measurement":"{}"}}"#, hex::encode(known.measurement));
        let (config, _dir) = references(&registers);
        let references = References::open(&config, &crate::sev_snp::REGISTERS).unwrap();
        let mut checks = Checklist::strict();
        let roots = Roots::amd().unwrap();
        let standard = Standard {
            roots: &roots,
            now: Some(now),
            policy: &policy(vmpl),
            binding: Some(&known.report_data),
            crls: &[],
            references: Some(&references),
        };
        match appraise(self.evidence(), &standard, &mut checks) {
            Ok(Some(Guest { image: Some(_), .. })) => {
                checks.kept().unwrap();
                "none".to_owned()
            }
            Ok(_) => panic!("it is no report"),
            Err(broken) => broken.rule.id.to_owned(),
        }
    }

    fn evidence(&self) -> Evidence<'_> {
        Evidence { report: &self.report, endorsement: Some(&self.endorsement) }
    }
}

fn policy(vmpl: u8) -> Policy {
    let minimum = MinimumTcb { bootloader: 3, tee: 0, snp: 8, microcode: 115, fmc: None };
    let minimum_tcb = Some(BTreeMap::from([(Product::Milan, minimum)]));
    Policy { minimum_tcb, vmpl, ..Policy::default() }
}

#[test]
fn genuine_reports_are_genuine() {
    let Some(folder) = corpus("snp") else { return };
    let virtee = Real::read(
        &folder,
        "tests__certs_data__report_milan.hex",
        "tests__certs_data__vcek_milan.der",
    );
    for (real, vmpl) in [(Real::chip(&folder), 0), (virtee, 0), (Real::cloud(&folder), 1)] {
        assert_eq!(real.broken(vmpl, IN_2025), "none");
        assert_eq!(real.broken(vmpl + 1, IN_2025), "sev_snp.vmpl");
        assert_eq!(real.broken(vmpl, UnixTime::from_secs(0)), "sev_snp.validity");
        assert_eq!(real.broken(vmpl, UnixTime::MAX), "sev_snp.validity");
    }
    assert_eq!(Real::chip(&folder).broken(0, IN_2026), "none");
    assert_eq!(Real::cloud(&folder).broken(1, IN_2026), "sev_snp.validity");
}

#[test]
fn a_certificate_that_amd_did_not_issue_is_refused() {
    let Some(folder) = corpus("snp") else { return };
    for forged in ["snp__test-vcek-invalid-legacy.der", "snp__test-vcek-invalid-new.der"] {
        let real = Real::read(&folder, "snp__test-report.bin", forged);
        assert_eq!(real.broken(0, IN_2025), "sev_snp.chain", "{forged}");
    }
}

#[test]
fn a_certificate_of_another_machine_is_refused() {
    let Some(folder) = corpus("snp") else { return };
    let with = |report, endorsement| Real::read(&folder, report, endorsement).broken(0, IN_2025);
    let report = "snp__test-report.bin";
    assert_eq!(with(report, "tests__certs_data__vcek_milan.der"), "sev_snp.signature");
    assert_eq!(with(report, "tests__certs_data__vcek_turin.der"), "sev_snp.signature");
    assert_eq!(with(report, "snp__test-vlek.der"), "sev_snp.signature");
    assert_eq!(with("snp__test-vlek-report.bin", "snp__test-vcek.der"), "sev_snp.signature");
}

#[test]
fn a_certificate_of_turins_is_read_and_traced() {
    let Some(folder) = corpus("snp") else { return };
    let der = fs::read(folder.join("tests__certs_data__vcek_turin.der")).unwrap();
    let endorsement = Endorsement::parse(&der).unwrap();
    assert_eq!(endorsement.product, Product::Turin);
    let roots = Roots::amd().unwrap();
    let signer = roots.signer(endorsement.role, Product::Turin).unwrap();
    assert!(signer.signed(&certificate::parse(&der).unwrap()));
    assert!(!endorsement.is_of_chip(&Machine::MILAN.chip_id));
}

#[test]
fn amds_certificates_are_those_that_others_have() {
    let Some(folder) = corpus("snp") else { return };
    let mut seen = 0;
    for file in [
        "deps__verifier__src__snp__milan_ask_ark_asvk.pem",
        "deps__verifier__src__snp__genoa_ask_ark_asvk.pem",
        "deps__verifier__src__snp__turin_ask_ark_asvk.pem",
        "tests__certs_data__cert_chain_milan",
        "tests__certs_data__cert_chain_turin",
    ] {
        for block in pem::parse_many(fs::read(folder.join(file)).unwrap()).unwrap() {
            assert!(AMD.contains(&block.contents()), "{file}");
            seen += 1;
        }
    }
    assert_eq!(seen, 13);
}

#[test]
fn every_bit_of_a_real_report_counts() {
    let Some(folder) = corpus("snp") else { return };
    let Real { report, endorsement } = Real::chip(&folder);
    let (roots, policy) = (Roots::amd().unwrap(), policy(0));
    let known = Report::parse(&report).unwrap();
    let standard = Standard {
        roots: &roots,
        now: Some(IN_2025),
        policy: &policy,
        binding: Some(&known.report_data),
        crls: &[],
        references: None,
    };
    let is_genuine = |report: &[u8]| {
        let evidence = Evidence { report, endorsement: Some(&endorsement) };
        let mut checks = Checklist::strict();
        // All that is left open is what software it should be.
        let broken = appraise(evidence, &standard, &mut checks).unwrap_err();
        broken.rule.id == "sev_snp.references"
    };
    assert!(is_genuine(&report));
    for bit in 0..report.len() * 8 {
        let mut flipped = report.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(!is_genuine(&flipped), "bit {bit}");
    }
    for length in 0..report.len() {
        assert!(!is_genuine(&report[..length]), "{length} bytes");
    }
}

#[test]
fn people_can_read_a_real_report() {
    let Some(folder) = corpus("snp") else { return };
    let real = Real::cloud(&folder);
    let given =
        |certificates: Vec<Vec<u8>>| Given { at: Some(IN_2025), certificates, ..Given::NOTHING };
    let read = inspect(&real.report, &given(vec![real.endorsement.clone()])).unwrap();
    let field = |name: &str| {
        let found = read.fields.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    };
    assert_eq!(field("product"), Some("milan"));
    assert_eq!(field("signing_key"), Some("vlek"));
    assert_eq!(field("csp_id"), Some("CN=cc-us-east-2.amazonaws.com"));
    assert_eq!(field("reported_tcb"), Some("bootloader 4, tee 0, snp 24, microcode 217"));
    let outcome = |id: &str| {
        let found = read.checks.checks().find(|(rule, _)| rule.id == id);
        found.map(|(_, outcome)| outcome.clone())
    };
    for kept in ["chain", "validity", "signature", "product", "tcb", "tcb_order", "debug"] {
        assert_eq!(outcome(&format!("sev_snp.{kept}")), Some(Outcome::Kept), "{kept}");
    }
    assert!(matches!(outcome("sev_snp.vmpl"), Some(Outcome::Broken(_))));
    for open in ["tcb_minimum", "binding", "references"] {
        let outcome = outcome(&format!("sev_snp.{open}"));
        assert!(matches!(outcome, Some(Outcome::Open(_))), "{open}: {outcome:?}");
    }
    let alone = inspect(&real.report, &given(Vec::new())).unwrap();
    let open = alone.checks.checks().filter(|(_, outcome)| matches!(outcome, Outcome::Open(_)));
    assert!(open.map(|(rule, _)| rule.id).any(|id| id == "sev_snp.signature"));
    assert!(inspect(&real.report[1..], &given(Vec::new())).is_none());
    assert!(inspect(&real.endorsement, &given(Vec::new())).is_none());
}
