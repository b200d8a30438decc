//! `claviger risk`: how much it is risked by talking to an identity.

use clap::{Args, Subcommand};
use claviger_core::standing::Risk;
use claviger_proto::claviger::admin::v1::set_standing_request::Change;

use super::quarantine::change::Target;
use super::quarantine::listing;
use crate::console::Console;
use crate::failure::Failure;
use crate::socket::AdminSocket;

/// Says how much identities are risked, which policies and rate limits take into account
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Sets the risk of an identity
    #[command(
        long_about = "Sets the risk of an identity, in percent: 0 of which nothing is known, 100 of \
        one that is certainly lost. Policies see it as `principal.risk` and `resource.risk`, and rate \
        limits shrink with it. What was attested of the identity before counts no more.\n\n\
        Example:\n  claviger risk set spiffe://example.org/web 40 --reason 'scans ports, alert 7'"
    )]
    Set(Set),
    /// Lists the identities with a risk above 0
    #[command(long_about = "Lists the identities with a risk above 0, since when and why.\n\n\
        Example:\n  claviger risk list")]
    List(List),
}

impl Command {
    pub(crate) async fn run(self, console: Console) -> Result<(), Failure> {
        match self {
            Self::Set(Set { target, percent }) => {
                let doing = format!("set the risk of {}", target.spiffe_id);
                target.set(&doing, (Change::Risk, percent.percent().into()), console).await
            }
            Self::List(list) => listing::risked(&list.socket, console).await,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Set {
    #[command(flatten)]
    target: Target,

    /// From 0 to 100
    #[arg(value_name = "PERCENT")]
    percent: Risk,
}

#[derive(Args, Debug)]
pub(crate) struct List {
    #[command(flatten)]
    socket: AdminSocket,
}
