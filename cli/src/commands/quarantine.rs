//! `claviger quarantine`: whoever is in it gets nothing, and what they have counts no more.

pub(super) mod change;
pub(super) mod listing;

use clap::{Args, Subcommand};
use claviger_proto::claviger::admin::v1::set_standing_request::Change;

use crate::console::Console;
use crate::failure::Failure;
use crate::socket::AdminSocket;
use change::Target;
pub(crate) use listing::standings;

/// Puts identities in quarantine, and lifts it
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Puts an identity in quarantine
    #[command(
        long_about = "Puts an identity in quarantine, registered or not: nothing is issued to it or \
        for it any more, its one-time keys are void, its X.509-SVIDs are on the revocation lists, and its \
        connections are closed. An agent in quarantine serves nobody. Returns when every connected agent \
        has taken it in.\n\n\
        Example:\n  claviger quarantine add spiffe://example.org/web --reason 'beacons, case 12'"
    )]
    Add(Target),
    /// Lifts the quarantine of an identity
    #[command(
        long_about = "Lifts the quarantine of an identity. What it had before stays void: it gets \
        everything anew, on fresh evidence.\n\n\
        Example:\n  claviger quarantine lift spiffe://example.org/web --reason 'reinstalled, case 12'"
    )]
    Lift(Target),
    /// Lists the identities in quarantine
    #[command(long_about = "Lists the identities in quarantine, since when and why.\n\n\
        Example:\n  claviger quarantine list")]
    List(List),
}

impl Command {
    pub(crate) async fn run(self, console: Console) -> Result<(), Failure> {
        match self {
            Self::Add(target) => {
                let doing = format!("put {} in quarantine", target.spiffe_id);
                target.set(&doing, (Change::Quarantine, 0), console).await
            }
            Self::Lift(target) => {
                let doing = format!("lift the quarantine of {}", target.spiffe_id);
                target.set(&doing, (Change::Lift, 0), console).await
            }
            Self::List(list) => listing::quarantined(&list.socket, console).await,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct List {
    #[command(flatten)]
    socket: AdminSocket,
}
