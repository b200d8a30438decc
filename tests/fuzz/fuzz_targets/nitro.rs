//! Documents of Nitro enclaves and NitroTPMs: whatever comes, the reader does not panic, and nothing that
//! a stranger made up is signed.
#![no_main]

use claviger_attestors::checklist::Outcome;
use claviger_attestors::inspect::{Given, Inspection};
use claviger_attestors::{aws_nitro, nitro_tpm};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let given = Given {
        nonce: Some(vec![7; 32]),
        binding: Some(vec![8; 48]),
        allow_debug: bytes.len() % 2 == 0,
        ..Given::NOTHING
    };
    let inspections = [aws_nitro::inspect(bytes, &given), nitro_tpm::inspect(bytes, &given)];
    for inspection in inspections.iter().flatten() {
        assert!(!["root", "chain", "signature"].iter().all(|about| is_kept(inspection, about)));
        // What is shown of a document is bounded, and can be shown.
        for (name, value) in &inspection.fields {
            assert!(name.len() <= 32 && value.len() <= 256 << 10, "{name}");
            assert!(!value.contains(char::is_control), "{name}: {value:?}");
        }
    }
});

/// Whether the rule about this is kept.
fn is_kept(inspection: &Inspection, about: &str) -> bool {
    inspection.checks.checks().any(|(rule, outcome)| {
        rule.id.ends_with(&format!(".{about}")) && matches!(outcome, Outcome::Kept)
    })
}
