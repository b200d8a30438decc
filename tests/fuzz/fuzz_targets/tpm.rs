//! What a stranger says of a TPM never makes the verifier panic, and none is asked whom nobody vouches
//! for; a file is never found genuine that nothing was given for.
#![no_main]

use std::sync::LazyLock;

use claviger_attestors::inspect::{Given, Verdict};
use claviger_attestors::tpm::{Answer, Challenge, Hello, inspect};
use claviger_core::time::UnixTime;
use libfuzzer_sys::fuzz_target;

/// Whoever asks knows no AK, and trusts one root that is none.
static GIVEN: LazyLock<[Given; 2]> = LazyLock::new(|| {
    [None, Some(UnixTime::from_secs(1_767_225_600))].map(|at| Given {
        at,
        nonce: at.map(|_| vec![9; 32]),
        roots: vec![vec![0x30, 0]],
        ..Given::NOTHING
    })
});

fuzz_target!(|bytes: &[u8]| {
    let _hello = Hello::parse(bytes);
    let _challenge = Challenge::parse(bytes);
    let _answer = Answer::parse(bytes);
    for given in &*GIVEN {
        if let Some(inspection) = inspect(bytes, given) {
            assert_ne!(inspection.verdict(), Verdict::Genuine);
        }
    }
    // The same bytes as the AK and the signature beside a quote.
    if let Some((quote, keys)) = bytes.split_at_checked(145) {
        let mut given = Given {
            nonce: Some(vec![9; 32]),
            certificates: vec![keys.to_vec()],
            collateral: Some(keys.to_vec()),
            ..Given::NOTHING
        };
        for _ in 0..2 {
            if let Some(inspection) = inspect(quote, &given) {
                assert_ne!(inspection.verdict(), Verdict::Genuine);
            }
            given.certificates.clear();
        }
    }
});
