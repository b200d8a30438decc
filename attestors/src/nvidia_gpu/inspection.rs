//! Evidence in a file, for people.

use claviger_core::time::UnixTime;

use super::KIND;
use super::chain::{Chain, ROOT, name};
use super::report::Report;
use super::rules::{REGISTERS, Terms, appraise};
use super::wire::{Evidence, MAX_DEVICES};
use crate::checklist::{Checklist, Rule};
use crate::inspect::{Given, Inspection};
use crate::references::References;

static REFERENCES: Rule =
    Rule::new("nvidia_gpu.reference_values", "there are reference values to judge it by");

/// Reads evidence as NVIDIA's SDKs write it, or request and response alone (the bytes, or hexadecimal
/// digits), and goes through the rules. None if `document` is neither.
///
/// Without a time it is judged for its beginning, when none of NVIDIA's certificates has ended: nothing
/// in it says when it was made.
#[must_use]
pub fn inspect(document: &[u8], given: &Given) -> Option<Inspection> {
    let devices = read(document, given)?;
    let mut checks = Checklist::exhaustive();
    let references = given.references.as_ref().map(|config| References::open(config, &REGISTERS));
    // An exhaustive list is never cut short.
    let references = references.and_then(|read| checks.take(&REFERENCES, read).ok().flatten());
    if given.references.is_none() {
        checks.leave_open(&REFERENCES, "there are none").unwrap_or_default();
    }
    let mut fields = Vec::new();
    for evidence in &devices {
        let root = given.roots.first().map_or(ROOT, Vec::as_slice);
        let terms = Terms {
            root,
            now: given.at.unwrap_or(UnixTime::from_secs(RECENT)),
            nonce: given.binding.as_deref().or(given.nonce.as_deref()),
            revocation: None,
            references: references.as_ref(),
        };
        let device = appraise(evidence, &terms, &mut checks).ok().flatten();
        fields.extend(describe(evidence));
        let Some(device) = device else { continue };
        let known = [
            ("chip", device.chip.clone()),
            ("device", Some(device.key.to_string())),
            ("serial", Some(device.serial.clone())),
            ("driver", device.driver.clone()),
            ("vbios", device.vbios.clone()),
        ];
        let known = known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        fields.extend(known);
        let measured = device.measured.iter().filter(|(name, _)| *name != "vbios");
        fields.extend(measured.map(|(name, value)| (name.clone(), hex::encode(value))));
    }
    Some(Inspection { kind: KIND, fields, checks })
}

/// The first second of 2026: all of NVIDIA's certificates so far have begun, and none has ended.
const RECENT: u64 = 1_767_225_600;

fn read(document: &[u8], given: &Given) -> Option<Vec<Evidence>> {
    if let Ok(devices) = Evidence::parse(document, MAX_DEVICES) {
        return Some(devices);
    }
    let digits = hex::decode(document.trim_ascii()).ok();
    let report = digits.unwrap_or_else(|| document.to_vec());
    Report::parse(&report).ok()?;
    let certificates = given.certificates.clone();
    Some(vec![Evidence { arch: None, certificates, report }])
}

/// What the node says, and who is said to have issued what.
fn describe(evidence: &Evidence) -> Vec<(String, String)> {
    let named = evidence.arch.clone().map(|arch| ("arch".to_owned(), arch));
    let mut fields = Vec::from_iter(named);
    if let Ok(chain) = Chain::parse(&evidence.certificates) {
        let issued = chain.revocable().map(|(certificate, _)| name(certificate));
        let names = chain.leaf().map(name).into_iter().chain(issued);
        fields.extend(names.map(|name| ("certificate".to_owned(), name)));
    }
    if let Ok(report) = Report::parse(&evidence.report) {
        fields.push(("nonce".to_owned(), hex::encode(report.nonce)));
    }
    fields
}
