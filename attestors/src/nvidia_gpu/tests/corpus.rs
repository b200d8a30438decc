//! NVIDIA's own samples.
//!
//! What their names say is about what NVIDIA's verifiers add from outside: the certificates of
//! `…cert_hold.json` are sound, and NVIDIA's OCSP responder says that they are on hold; the reference
//! values of `…Expired…` have expired, and no certificate has. So the evidence keeps every rule that it
//! can keep by itself, and is refused where there is no word of NVIDIA's, or no reference value.

use std::path::Path;

use super::super::chain::ROOT;
use super::super::rules::{REGISTERS, Terms, appraise};
use super::*;
use crate::checklist::{Checklist, Outcome};
use crate::fixture::NOW;
use crate::fixture::corpus::corpus;
use crate::inspect::Given;
use crate::references::References;

const REPORT: &str = "sample_attestation_data__gpu__hopperAttestationReport";
const CHAIN: &str = "sample_attestation_data__gpu__hopperCertChain";
const JSON: &str = "common-test-data__serialized_test_evidence__";

/// What is in the folder, each with what the certificates are of: name, evidence.
fn samples(folder: &Path) -> Vec<(String, Evidence)> {
    let read = |name: String| std::fs::read(folder.join(name)).unwrap();
    let mut samples = Vec::new();
    for name in ["hopper_evidence.json", "hopper_evidence_cert_hold.json"] {
        let list = Evidence::parse(&read(format!("{JSON}{name}")), MAX_DEVICES).unwrap();
        samples.extend(list.into_iter().map(|evidence| (name.to_owned(), evidence)));
    }
    for (report, chain) in [("", ""), ("Expired", "Expired"), ("InvalidSignature", "Expired")] {
        let certificates = pem::parse_many(read(format!("{CHAIN}{chain}.txt"))).unwrap();
        let certificates = certificates.into_iter().map(pem::Pem::into_contents).collect();
        let text = read(format!("{REPORT}{report}.txt"));
        let report_bytes = hex::decode(text.trim_ascii()).unwrap();
        let arch = Some("HOPPER".to_owned());
        samples.push((report.to_owned(), Evidence { arch, certificates, report: report_bytes }));
    }
    samples
}

/// Judges a sample as the verifier does, with the nonce that it has.
fn judge(evidence: &Evidence, revocation: &Revocation, references: &References) -> String {
    let nonce = Report::parse(&evidence.report).unwrap().nonce;
    let terms = Terms {
        root: ROOT,
        now: NOW,
        nonce: Some(&nonce),
        revocation: Some(revocation),
        references: Some(references),
    };
    let mut checks = Checklist::strict();
    match appraise(evidence, &terms, &mut checks) {
        Ok(device) => format!("{:?}", device.and_then(|device| device.image)),
        Err(broken) => broken.rule.id.to_owned(),
    }
}

#[test]
fn nvidias_samples_get_the_verdict_that_they_deserve() {
    let Some(folder) = corpus("gpu") else { return };
    let dir = tempdir().unwrap();
    let revocation = Revocation::Responses(dir.path().to_owned());
    for (name, evidence) in samples(&folder) {
        // Reference values that name just what this device measured.
        let measured = Report::parse(&evidence.report).unwrap().measurements()[&10].clone();
        let registers = serde_json::json!({ "measurement_10": hex::encode(measured.value) });
        let open = |settings: &Config| References::open(&settings.reference_values, &REGISTERS);
        let known = open(&config_of(&dir, Revocation::NotChecked, &registers)).unwrap();
        let unchecked = judge(&evidence, &Revocation::NotChecked, &known);
        let checked = judge(&evidence, &revocation, &known);
        if name == "InvalidSignature" {
            assert_eq!(unchecked, "nvidia_gpu.signature");
            assert_eq!(checked, "nvidia_gpu.signature");
            continue;
        }
        assert!(unchecked.contains("h100"), "{name}: {unchecked}");
        // Nobody says that it is not on hold.
        assert_eq!(checked, "nvidia_gpu.revocation", "{name}");
        let unknown = open(&config(&dir, Revocation::NotChecked)).unwrap();
        assert_eq!(judge(&evidence, &Revocation::NotChecked, &unknown), "reference_values");
    }
}

#[test]
fn every_flipped_bit_of_a_sample_is_noticed() {
    let Some(folder) = corpus("gpu") else { return };
    let (_, evidence) = samples(&folder).remove(0);
    let nonce = Report::parse(&evidence.report).unwrap().nonce;
    let keeps_all = |evidence: &Evidence| {
        let terms = Terms {
            root: ROOT,
            now: NOW,
            nonce: Some(&nonce),
            revocation: Some(&Revocation::NotChecked),
            references: None,
        };
        let mut checks = Checklist::strict();
        appraise(evidence, &terms, &mut checks).is_ok_and(|device| device.is_some())
    };
    assert!(keeps_all(&evidence));
    // Each costs several signatures, so not every bit of every byte: one of each, another each time.
    for at in 0..evidence.report.len() {
        let mut evidence = evidence.clone();
        evidence.report[at] ^= 1 << (at % 8);
        assert!(!keeps_all(&evidence), "byte {at} of the report");
    }
    for certificate in 0..evidence.certificates.len() {
        for at in (0..evidence.certificates[certificate].len()).step_by(7) {
            let mut evidence = evidence.clone();
            evidence.certificates[certificate][at] ^= 1 << (at % 8);
            assert!(!keeps_all(&evidence), "byte {at} of certificate {certificate}");
        }
    }
}

#[test]
fn a_sample_is_shown_with_all_rules() {
    let Some(folder) = corpus("gpu") else { return };
    let given = |certificates| Given { certificates, ..Given::NOTHING };
    let document = std::fs::read(folder.join(format!("{JSON}hopper_evidence.json"))).unwrap();
    let shown = inspect(&document, &given(Vec::new())).unwrap();
    let field = |name: &str| shown.fields.iter().find(|(found, _)| found == name).unwrap();
    assert_eq!(field("driver").1, "590.12");
    assert_eq!(field("vbios").1, "96.00.A5.00.01");
    assert_eq!(field("chip").1, "GH100");
    let open = ["nvidia_gpu.reference_values", "nvidia_gpu.nonce", "nvidia_gpu.revocation"];
    for (rule, outcome) in shown.checks.checks() {
        let is_open = matches!(outcome, Outcome::Open(_));
        assert_eq!(is_open, open.contains(&rule.id), "{}", rule.id);
        assert!(is_open || *outcome == Outcome::Kept, "{}: {outcome:?}", rule.id);
    }
    // Request and response alone, with the certificates beside them.
    let report = std::fs::read(folder.join(format!("{REPORT}.txt"))).unwrap();
    let chain = std::fs::read(folder.join(format!("{CHAIN}.txt"))).unwrap();
    let chain = pem::parse_many(chain).unwrap().into_iter().map(pem::Pem::into_contents);
    let shown = inspect(&report, &given(chain.collect())).unwrap();
    assert!(shown.fields.iter().any(|(name, value)| name == "driver" && value == "535.86.09"));
    assert!(inspect(b"{}", &given(Vec::new())).is_none());
}
