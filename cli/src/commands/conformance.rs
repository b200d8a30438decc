//! `claviger conformance`: the SPIFFE conformance suite, for whoever serves a Workload API.

mod foreign;
mod view;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use claviger_core::time::{Clock as _, SystemClock};

use crate::conformance::{self, Address, AddressError, Options, RunError};
use crate::console::Console;
use crate::failure::Failure;
use view::View;

/// Checks a SPIFFE Workload API, ours or another's, against the standards
#[derive(Args, Debug)]
#[command(long_about = "Checks whoever serves a SPIFFE Workload API, this program or another, \
    against the 66 checks of docs/conformance.md. It only asks, as this very process: register it \
    first, or most checks see nothing. What a socket cannot show is not observable, and not \
    counted as passed. The exit code is 0 only if nothing failed.\n\n\
    Example:\n  claviger conformance --socket unix:///run/spire/agent/public/api.sock\n\n\
    With --foreign-domain, validators are put to the test with well-signed tokens, too:\n  \
    claviger conformance --foreign-domain conformance.d\n\
    makes a trust domain of its own there, and says how to federate it.")]
pub(crate) struct Conformance {
    /// The Workload API, as `unix:///path` or `tcp://IP:port`; a path will do
    #[arg(
        long,
        alias = "endpoint-socket",
        alias = "socket-path",
        alias = "socketPath",
        env = "SPIFFE_ENDPOINT_SOCKET",
        value_name = "URI",
        default_value = "unix:///run/claviger/agent.sock",
        value_parser = address
    )]
    socket: Address,

    /// Whom JWT-SVIDs are asked for
    #[arg(long, value_name = "NAME", default_value = "claviger-conformance")]
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    audience: String,

    /// Reports on these checks only, by number
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=66))]
    only: Vec<u8>,

    /// How long an answer may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=60))]
    patience: u64,

    /// A directory with a trust domain of the suite's own; made if it is missing
    #[arg(long, value_name = "DIR")]
    foreign_domain: Option<PathBuf>,
}

impl Conformance {
    pub(crate) async fn run(self, console: Console) -> Result<(), Failure> {
        let foreign = self.foreign_domain.as_deref().map(foreign::load).transpose()?;
        let options = Options {
            audience: &self.audience,
            patience: Duration::from_secs(self.patience),
            quiet: QUIET,
            foreign: foreign.as_ref(),
        };
        let run = conformance::run(&self.socket, &options, SystemClock.now());
        let waiting = format!("asking {}", self.socket);
        let report = Box::pin(console.watch(&waiting, run)).await;
        let report = report.map_err(|error| unreached(&self.socket, &error))?;
        let report = if self.only.is_empty() { report } else { report.only(&self.only) };
        let failed = report.summary.failed;
        console.answer(&View { report: &report, foreign: self.foreign_domain.as_deref() })?;
        match failed {
            0 => Ok(()),
            1 => Err(Failure::failed("1 check failed")),
            many => Err(Failure::failed(format_args!("{many} checks failed"))),
        }
    }
}

/// How long an idle stream is listened to.
const QUIET: Duration = Duration::from_secs(1);

fn address(text: &str) -> Result<Address, AddressError> {
    if text.contains(':') { text.parse() } else { Ok(Address::Unix(text.into())) }
}

fn unreached(address: &Address, error: &RunError) -> Failure {
    Failure::because(error).try_this(format_args!(
        "is something serving the Workload API at `{address}`? Name another with --socket or \
         SPIFFE_ENDPOINT_SOCKET"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_a_uri_or_a_path() {
        assert_eq!(address("unix:///a.sock"), Ok(Address::Unix("/a.sock".into())));
        assert_eq!(address("a/b.sock"), Ok(Address::Unix("a/b.sock".into())));
        assert_eq!(address("tcp://127.0.0.1:1"), Ok(Address::Tcp("127.0.0.1:1".parse().unwrap())));
        assert_eq!(address("unix:a.sock"), Err(AddressError::Scheme));
    }

    #[tokio::test]
    async fn nobody_at_the_socket_is_told_with_advice() {
        let address = Address::Unix("/nonexistent/a.sock".into());
        let options = Options {
            audience: "a",
            patience: Duration::from_secs(1),
            quiet: QUIET,
            foreign: None,
        };
        let error = conformance::run(&address, &options, SystemClock.now()).await.unwrap_err();
        let failure = unreached(&address, &error).to_string();
        assert!(
            failure.contains("/nonexistent/a.sock") && failure.contains("--socket"),
            "{failure}"
        );
    }
}
