//! `claviger svid`: what a workload sees, from the command line.

mod choice;
mod reload;
mod revoke;
mod store;
mod view;
mod watch;

use clap::{Args, Subcommand};
use claviger_proto::workload::{X509svidRequest, X509svidResponse};

use crate::console::Console;
use crate::failure::Failure;
use crate::socket::WorkloadSocket;
use crate::workload::Agent;
use choice::Choice;
use reload::Reload;
use revoke::Revoke;
use store::Files;
use view::Svids;

/// Asks the agent for this process's own X.509-SVIDs
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Fetches the X.509-SVIDs once
    #[command(long_about = "Fetches the X.509-SVIDs that this very process is entitled to, and \
        shows them; the keys are shown to nobody. With --write they go into files as with SPIRE: \
        svid.N.pem, svid.N.key (for the owner only) and bundle.N.pem.\n\n\
        Example:\n  claviger svid fetch --write /run/myapp")]
    Fetch(Fetch),
    /// Follows the X.509-SVIDs as they change, for programs that read them from files
    #[command(
        long_about = "Follows the X.509-SVIDs as they are renewed and changed, one line for \
        each update, until it is interrupted. With --write the files are rewritten each time, \
        each of them atomically; and then a program is told, by --exec or by a signal. If that \
        fails it is repeated, after 1 s at first and every 60 s at last, until it succeeds.\n\n\
        Example:\n  claviger svid watch --write /run/web --name web --exec nginx -s reload\n  \
        claviger svid watch --write /run/lb --combined --pid-file /run/haproxy.pid --signal USR2"
    )]
    Watch(Watch),
    /// Withdraws an X.509-SVID before it ends
    #[command(
        long_about = "Withdraws an X.509-SVID before it ends, as the operator of the server: \
        every agent hears of it at once, gives the revocation list to its workloads (the `crl` \
        field of the Workload API) and replaces the SVID if it still has it. Whether a peer looks \
        at the list is up to its TLS library; to stop what an SVID is for, delete its entry too.\n\n\
        Example:\n  claviger svid revoke /run/myapp/svid.0.pem"
    )]
    Revoke(Revoke),
}

impl Command {
    pub(crate) async fn run(self, console: Console) -> Result<(), Failure> {
        match self {
            Self::Fetch(fetch) => fetch.run(console).await,
            Self::Watch(watch) => watch::run(&watch, console).await,
            Self::Revoke(revoke) => revoke.run(console).await,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Fetch {
    #[command(flatten)]
    choice: Choice,

    #[command(flatten)]
    files: Files,

    #[command(flatten)]
    socket: WorkloadSocket,
}

#[derive(Args, Debug)]
pub(crate) struct Watch {
    #[command(flatten)]
    fetch: Fetch,

    #[command(flatten)]
    reload: Reload,
}

impl Fetch {
    async fn run(self, console: Console) -> Result<(), Failure> {
        let agent = Agent::connect(&self.socket, console).await?;
        let mut stream =
            agent.ask(DOING, agent.workload_api().fetch_x509svid(X509svidRequest {})).await?;
        let first = stream.message().await.map_err(|status| agent.refused(DOING, &status))?;
        let response = first.ok_or_else(|| Failure::failed("the agent sent no SVID"))?;
        let response = self.choice.narrow(response).map_err(|error| Failure::because(&error))?;
        let svids = self.take(&response)?;
        console.answer(&svids)
    }

    /// Reads one update, and writes it down if asked to.
    fn take(&self, response: &X509svidResponse) -> Result<Svids, Failure> {
        let odd =
            |error| Failure::failed(format_args!("the agent sent an SVID that is none: {error}"));
        let svids = Svids::try_from(response).map_err(odd)?;
        self.files.write(response)?;
        Ok(svids)
    }
}

/// Completes "cannot …".
const DOING: &str = "fetch X.509-SVIDs";
