//! What a service, a folder or a node says about a platform never makes the reader panic; and a genuine
//! quote is judged by it as by what was signed, or not at all.
#![no_main]

use std::time::Duration;

use claviger_attestors::checklist::Checklist;
use claviger_attestors::dcap::{
    Collateral, Quote, Roots, TcbPolicy, TcbStatus, Terms, appraise, authenticate,
};
use claviger_core::time::UnixTime;
use libfuzzer_sys::fuzz_target;

const QUOTE: &[u8] = include_bytes!("../seeds/dcap_quote/tdx");
const ROOT: &[u8] = include_bytes!("../seeds/dcap_quote/root");

/// The first second of 2026, for which the seeds are made.
const NOW: UnixTime = UnixTime::from_secs(1_767_225_600);

fuzz_target!(|json: &[u8]| {
    let Ok(collateral) = Collateral::parse(json) else { return };
    // Nothing vouches for this yet; it says how long an answer is kept.
    if let Some((issued, expires)) = collateral.dates() {
        assert!(issued.as_secs() < u64::MAX && expires.as_secs() < u64::MAX);
    }
    let quote = Quote::parse(QUOTE).expect("the seed is a quote");
    let roots = Roots::of([ROOT.to_vec()]).expect("the seed is a root");
    let mut checks = Checklist::strict();
    let platform = authenticate(&quote, &roots, NOW, &mut checks).expect("the seed is genuine");
    let policy = TcbPolicy { accept: TcbStatus::ALL.into(), min_evaluation_number: None };
    let terms = Terms { roots: &roots, policy: &policy, grace: Duration::ZERO, now: NOW };
    let judged = appraise(&quote, platform.as_ref(), Some(&collateral), terms, &mut checks);
    if let Ok(standing) = judged {
        assert_eq!(standing.map(|standing| standing.status), Some(TcbStatus::UpToDate));
    }
});
