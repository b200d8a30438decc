//! A file is judged by the same rules, and admits nobody.

use super::super::fixture::{Authority, Machine, references};
use super::super::structure::{Hash, Selection};
use super::super::{fixture::PCRS, inspect};
use super::booted;
use crate::checklist::Outcome;
use crate::fixture::NOW;
use crate::inspect::{Given, Verdict};
use crate::possession::Base64;

fn record(machine: &Machine) -> serde_json::Value {
    let selection = Selection { bank: Hash::Sha256, pcrs: PCRS.into() };
    let (quote, signature) = machine.quote(&[9; 32], &selection);
    let pcrs = PCRS.map(|pcr| (pcr.to_string(), Base64(machine.values[&pcr].clone())));
    serde_json::json!({
        "quote": Base64(quote),
        "signature": Base64(signature),
        "ak": machine.hello.ak,
        "ek": machine.hello.ek,
        "ek_certificates": machine.hello.ek_certificates,
        "pcrs": std::collections::BTreeMap::from(pcrs),
    })
}

fn not_kept(record: &serde_json::Value, given: &Given) -> Vec<&'static str> {
    let inspection = inspect(record.to_string().as_bytes(), given).unwrap();
    let checks = inspection.checks.checks();
    checks.filter(|(_, outcome)| **outcome != Outcome::Kept).map(|(rule, _)| rule.id).collect()
}

#[test]
fn only_the_activation_cannot_be_seen_afterwards() {
    let authority = Authority::root("maker");
    let machine = Machine::new(&authority);
    let dir = tempfile::tempdir().unwrap();
    let mut given = Given {
        at: Some(NOW),
        binding: Some(vec![9; 32]),
        roots: vec![authority.der],
        references: Some(references(dir.path(), &booted())),
        ..Given::NOTHING
    };
    let mut record = record(&machine);
    assert_eq!(not_kept(&record, &given), ["tpm.activated"]);
    // An AK that whoever asks knows needs neither that nor an EK.
    given.collateral = Some(machine.hello.ak.0);
    record["ek_certificates"] = serde_json::json!([]);
    let inspection = inspect(record.to_string().as_bytes(), &given).unwrap();
    assert_eq!(inspection.verdict(), Verdict::Genuine);
    let measured = inspection.measured(&super::super::REGISTERS);
    assert_eq!(measured["pcr4"], "04".repeat(32));
    assert!(!measured.contains_key("pcr0"), "{measured:?}");
    // What is no key is not passed over.
    given.collateral = Some(b"no key".to_vec());
    let inspection = inspect(record.to_string().as_bytes(), &given).unwrap();
    assert_eq!(inspection.verdict(), Verdict::Open);
}

#[test]
fn what_is_missing_leaves_rules_open() {
    let machine = Machine::new(&Authority::root("maker"));
    let (quote, _) = machine.quote(&[9; 32], &Selection { bank: Hash::Sha256, pcrs: PCRS.into() });
    let inspection = inspect(&quote, &Given::NOTHING).unwrap();
    assert_eq!(inspection.verdict(), Verdict::Open);
    assert_eq!(inspection.fields[0], ("magic".into(), "0xff544347".into()));
    let sized = super::super::structure::Writer::default().sized(&quote).finish();
    assert_eq!(inspect(&sized, &Given::NOTHING).unwrap().fields, inspection.fields);
    for other in [&b""[..], b"{}", b"\xff\x54\x43\x47", &quote[1..], &sized[..9]] {
        assert!(inspect(other, &Given::NOTHING).is_none());
    }
}
