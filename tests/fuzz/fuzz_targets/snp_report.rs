//! What a guest of SEV-SNP sends, a report and a certificate, never makes the reader panic, and nothing
//! that nobody signed is genuine.
#![no_main]

use claviger_attestors::inspect::Given;
use claviger_attestors::sev_snp::{Report, inspect};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // A certificate may follow a report.
    let (document, certificate) = bytes.split_at_checked(Report::SIZE).unwrap_or((bytes, &[]));
    let given = Given {
        binding: Some(vec![7; 48]),
        certificates: vec![certificate.to_vec()],
        // Two of AMD's are enough to look for an issuer among, and quicker to read than nine.
        roots: [
            &include_bytes!("../../../attestors/src/sev_snp/roots/milan_ark.der")[..],
            include_bytes!("../../../attestors/src/sev_snp/roots/milan_ask.der"),
        ]
        .map(<[u8]>::to_vec)
        .to_vec(),
        allow_debug: true,
        ..Given::NOTHING
    };
    for document in [document, bytes] {
        if let Some(shown) = inspect(document, &given) {
            assert!(shown.checks.kept().is_err(), "nobody signed that");
        }
    }
});
