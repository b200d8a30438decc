//! Quotes and what is said about their platforms, both of a test's own Intel and real ones.

mod corpus;
mod genuine;
mod service;
mod standing;

use std::time::Duration;

use claviger_core::time::UnixTime;

use super::fixture::{Intel, Parts, Sayings, domain, enclave};
use super::*;
use crate::checklist::Checklist;
use crate::fixture::NOW;

/// How far the platform of `quote` is to be trusted, or the rule that is broken first.
fn judge(
    quote: &[u8],
    collateral: &Collateral,
    roots: &Roots,
    policy: &TcbPolicy,
    now: UnixTime,
) -> Result<Standing, String> {
    let quote = Quote::parse(quote).map_err(|error| error.to_string())?;
    let mut checks = Checklist::strict();
    let platform = authenticate(&quote, roots, now, &mut checks).map_err(|why| why.to_string())?;
    let terms = Terms { roots, policy, grace: Duration::ZERO, now };
    let standing = appraise(&quote, platform.as_ref(), Some(collateral), terms, &mut checks);
    let standing = standing.map_err(|why| why.to_string())?;
    checks.kept().map_err(|why| why.to_string())?;
    Ok(standing.unwrap())
}

/// The same with the test's own Intel, on the first day of 2026, and with any status but `Revoked`.
fn appraised(intel: &Intel, quote: &[u8], collateral: &Collateral) -> Result<Standing, String> {
    judge(quote, collateral, &intel.roots(), &lenient(), NOW)
}

fn lenient() -> TcbPolicy {
    TcbPolicy { accept: TcbStatus::ALL.into(), min_evaluation_number: None }
}

/// A quote of a virtual machine, and of an enclave.
fn quotes(intel: &Intel) -> [(Tee, Parts); 2] {
    [
        (Tee::Tdx, Parts::new(intel, 4, Tee::Tdx, domain([1; 64], false))),
        (Tee::Sgx, Parts::new(intel, 3, Tee::Sgx, enclave([1; 64]))),
    ]
}

fn at(time: &str) -> UnixTime {
    let time: jiff::Timestamp = time.parse().unwrap();
    UnixTime::from_secs(time.as_second().try_into().unwrap())
}
