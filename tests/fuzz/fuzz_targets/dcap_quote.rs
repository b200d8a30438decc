//! What a machine of TDX or an enclave of SGX sends never makes the reader panic, whatever comes along, and
//! nothing that nobody signed is genuine.
#![no_main]

use claviger_attestors::dcap::{Presented, Quote, Tee};
use claviger_attestors::inspect::Given;
use claviger_attestors::{sgx, tdx};
use claviger_core::time::UnixTime;
use libfuzzer_sys::fuzz_target;

const COLLATERAL: &[u8] = include_bytes!("../seeds/dcap_collateral/tdx");
const ROOT: &[u8] = include_bytes!("../seeds/dcap_quote/root");

fuzz_target!(|answer: &[u8]| {
    let given = Given {
        // The first second of 2026, for which the seeds are made.
        at: Some(UnixTime::from_secs(1_767_225_600)),
        // What the seeds carry is 64 ones.
        binding: Some(vec![7; 48]),
        roots: vec![ROOT.to_vec()],
        collateral: Some(COLLATERAL.to_vec()),
        allow_debug: true,
        ..Given::NOTHING
    };
    for shown in [tdx::inspect(answer, &given), sgx::inspect(answer, &given)].into_iter().flatten()
    {
        assert!(shown.checks.kept().is_err(), "nobody signed that");
    }
    let Ok(presented) = Presented::parse(answer) else { return };
    if let Ok(quote) = Quote::parse(&presented.quote) {
        assert!(presented.quote.len() <= Quote::MAX);
        let tees = [Tee::Sgx, Tee::Tdx].map(|tee| Quote::looks_like(&presented.quote, tee));
        assert_eq!(tees, [quote.tee() == Tee::Sgx, quote.tee() == Tee::Tdx]);
    }
});
