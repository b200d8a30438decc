//! The SPIFFE conformance suite: 66 checks on whoever serves a Workload API.
//!
//! First everything is asked, then it is judged. What comes back is read with this suite's own code,
//! apart from the code that serves and issues in this program, so that a mistake in one is seen by
//! the other. A check that nothing was seen of is not observable, which is neither good nor bad.
//!
//! | to find | look in |
//! |---|---|
//! | the checks, by number | [`catalogue`] |
//! | where a Workload API can be | [`address`] |
//! | a caller who is never kept waiting, and its requests | [`client`], [`answer`] |
//! | what is asked, in which order | [`mod@observe`] |
//! | malformed requests and forged tokens | [`plan`], [`forge`] |
//! | a trust domain of the suite's own | [`foreign`] |
//! | what the answers have to be | [`judge`] |
//! | IDs, certificates, tokens and JWK Sets, read apart | [`spiffe_id`], [`certificate`], [`jose`] |
//! | what was seen, and what is told of it | [`notes`], [`report`] |

mod address;
mod answer;
mod catalogue;
mod certificate;
mod client;
mod foreign;
mod forge;
mod jose;
mod judge;
mod notes;
mod observe;
mod plan;
mod report;
mod spiffe_id;
#[cfg(test)]
mod tests;

use std::time::Duration;

use claviger_core::time::UnixTime;

pub(crate) use address::{Address, AddressError};
#[cfg(test)]
pub(crate) use catalogue::CATALOGUE;
pub(crate) use client::OpenError;
pub(crate) use foreign::ForeignDomain;
pub(crate) use report::{Advice, Outcome, Report, Verdict};

use client::Client;
use forge::Signer;
use observe::{Observed, observe};

/// How to look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options<'a> {
    /// Whom tokens are asked for.
    pub(crate) audience: &'a str,
    /// How long a request may take.
    pub(crate) patience: Duration,
    /// How long an idle stream is listened to.
    pub(crate) quiet: Duration,
    /// The trust domain whose keys the suite holds; used where it is federated.
    pub(crate) foreign: Option<&'a ForeignDomain>,
}

/// Looks at the Workload API at `address`; takes seconds.
///
/// # Errors
///
/// If there is nobody to ask. Whatever else goes wrong is in the report.
pub(crate) async fn run(
    address: &Address,
    options: &Options<'_>,
    now: UnixTime,
) -> Result<Report, RunError> {
    let signer = Signer::generate().map_err(|_unspecified| RunError::Random)?;
    let client = Client::open(address, options.patience).await?;
    let (first, second) = observe(&client, options, &signer, now).await;
    let observed = Observed {
        now,
        audience: options.audience.to_owned(),
        tcp: matches!(address, Address::Tcp(_)),
        first,
        second,
    };
    let advice = judge::advice(&observed);
    Ok(Report::new(address.to_string(), judge::judge(&observed).verdicts(), advice))
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// Nobody to ask.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Nothing to sign forged tokens with.
    #[error("the system has no randomness")]
    Random,
}
