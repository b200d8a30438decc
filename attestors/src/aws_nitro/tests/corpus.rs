//! Real documents, from enclaves of other people's.

use std::collections::BTreeMap;
use std::fs;

use claviger_core::time::UnixTime;

use crate::aws_nitro::inspect;
use crate::checklist::Outcome;
use crate::fixture::corpus::corpus;
use crate::inspect::{Given, Inspection};
use crate::nitro_tpm;

/// What is broken about a document at its own time. A document that is not listed breaks nothing.
const BROKEN: [(&str, &[&str]); 5] = [
    // In debug mode: signed by AWS, and nothing is measured.
    ("0637674127de25b7", &["aws_nitro.debug"]),
    ("2668d61d2fc40d06", &["aws_nitro.debug"]),
    ("8d6106b49a1b5426", &["aws_nitro.debug"]),
    // One with a signature that was made to fail.
    ("7df2cdc016ae8928", &["aws_nitro.signature"]),
    // What QEMU's stand-in for the security module makes: nobody signs it.
    (
        "qemu-10.0.2-nitro-enclave-unsigned",
        &["aws_nitro.algorithm", "aws_nitro.root", "aws_nitro.chain"],
    ),
];

fn given(at: Option<UnixTime>) -> Given {
    Given { at, ..Given::NOTHING }
}

fn documents() -> BTreeMap<String, Vec<u8>> {
    let Some(folder) = corpus("nitro") else { return BTreeMap::new() };
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let documents =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "bin"));
    let name = |path: &std::path::Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let documents: BTreeMap<_, _> =
        documents.map(|path| (name(&path), fs::read(&path).unwrap())).collect();
    assert!(!documents.is_empty());
    documents
}

fn broken(inspection: &Inspection) -> Vec<&'static str> {
    let broken =
        inspection.checks.checks().filter(|(_, found)| matches!(found, Outcome::Broken(_)));
    broken.map(|(rule, _)| rule.id).collect()
}

fn field<'a>(inspection: &'a Inspection, name: &str) -> &'a str {
    &inspection.fields.iter().find(|(key, _)| key == name).unwrap().1
}

#[test]
fn every_real_document_gets_the_right_verdict_at_its_own_time() {
    for (name, document) in documents() {
        let inspection = inspect(&document, &given(None)).unwrap();
        let expected = BROKEN.iter().find(|(broken, _)| *broken == name);
        let expected = expected.map_or(&[][..], |(_, rules)| rules);
        assert_eq!(broken(&inspection), expected, "{name}");
        assert!(field(&inspection, "module id").starts_with("i-"), "{name}");
        assert!(nitro_tpm::inspect(&document, &given(None)).is_none(), "{name}");
    }
}

/// A certificate that is valid says nothing about when a document was made.
#[test]
fn no_real_document_is_good_at_another_time() {
    for (name, document) in documents() {
        let made = made(&inspect(&document, &given(None)).unwrap());
        for (seconds, stale, expired) in [
            (0, false, false),
            (300, false, false),
            // Within the three hours of the last certificate, which begins when it is needed.
            (302, true, false),
            (86_400 * 365, true, true),
            (-3_600 * 4, true, true),
        ] {
            let now = made.checked_add_signed(seconds).map(UnixTime::from_secs);
            let inspection = inspect(&document, &given(now)).unwrap();
            let broken = broken(&inspection);
            if name.starts_with("qemu") {
                assert!(broken.contains(&"aws_nitro.root"), "{name}");
                continue;
            }
            assert_eq!(broken.contains(&"aws_nitro.freshness"), stale, "{name} at {seconds}");
            assert_eq!(broken.contains(&"aws_nitro.validity"), expired, "{name} at {seconds}");
        }
    }
}

fn made(inspection: &Inspection) -> u64 {
    let made: jiff::Timestamp = field(inspection, "made").parse().unwrap();
    made.as_second().try_into().unwrap()
}

/// A document whose map marks its end, as newer hypervisors write it, and one whose map counts.
const SAMPLES: [&str; 2] = ["19b71700ef369a55", "2668d61d2fc40d06"];

#[test]
fn no_bit_of_a_real_document_can_be_flipped() {
    let documents = documents();
    for (name, document) in SAMPLES.iter().filter_map(|name| documents.get_key_value(*name)) {
        let before = broken(&inspect(document, &given(None)).unwrap());
        for index in 0..document.len() {
            // Every bit where the envelope and its payload begin, and some of the signature; elsewhere
            // one in each byte, or in each fourth: the structure is the same.
            let bits = match index {
                0..64 => 0..8,
                _ if name == SAMPLES[0] || index % 4 == 0 => index % 8..index % 8 + 1,
                _ => 0..0,
            };
            for bit in bits {
                let mut flipped = document.clone();
                flipped[index] ^= 1 << bit;
                let inspection = inspect(&flipped, &given(None));
                let more = |found| broken(&found).iter().any(|rule| !before.contains(rule));
                let refused = inspection.is_none_or(more);
                assert!(refused, "{name}: bit {bit} of byte {index}");
            }
        }
    }
}

#[test]
fn no_part_of_a_real_document_is_a_document() {
    let documents = documents();
    for (name, document) in SAMPLES.iter().filter_map(|name| documents.get_key_value(*name)) {
        for length in 0..document.len() {
            let inspection = inspect(&document[..length], &given(None));
            let refused = inspection.is_none_or(|found| broken(&found) == ["aws_nitro.envelope"]);
            assert!(refused, "{name}: {length} bytes");
        }
    }
}
