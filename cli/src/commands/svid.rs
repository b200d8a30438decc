//! `claviger svid`: what a workload sees, from the command line.

mod store;
mod view;
mod watch;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use claviger_proto::workload::{X509svidRequest, X509svidResponse};

use crate::console::Console;
use crate::failure::Failure;
use crate::socket::WorkloadSocket;
use crate::workload::Agent;
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
    /// Follows the X.509-SVIDs as they change
    #[command(
        long_about = "Follows the X.509-SVIDs as they are renewed and changed, one line for \
        each update, until it is interrupted. With --write the files are rewritten each time, \
        each of them atomically.\n\n\
        Example:\n  claviger svid watch --write /run/myapp"
    )]
    Watch(Fetch),
}

impl Command {
    pub(crate) async fn run(self, console: Console) -> Result<(), Failure> {
        match self {
            Self::Fetch(fetch) => fetch.run(console).await,
            Self::Watch(fetch) => watch::run(&fetch, console).await,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Fetch {
    /// Writes certificates, keys and bundles into this directory
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,

    #[command(flatten)]
    socket: WorkloadSocket,
}

impl Fetch {
    async fn run(self, console: Console) -> Result<(), Failure> {
        let agent = Agent::connect(&self.socket, console).await?;
        let mut stream =
            agent.ask(DOING, agent.workload_api().fetch_x509svid(X509svidRequest {})).await?;
        let first = stream.message().await.map_err(|status| agent.refused(DOING, &status))?;
        let response = first.ok_or_else(|| Failure::failed("the agent sent no SVID"))?;
        let svids = self.take(&response)?;
        console.answer(&svids)
    }

    /// Reads one update, and writes it down if asked to.
    fn take(&self, response: &X509svidResponse) -> Result<Svids, Failure> {
        let odd =
            |error| Failure::failed(format_args!("the agent sent an SVID that is none: {error}"));
        let svids = Svids::try_from(response).map_err(odd)?;
        if let Some(folder) = &self.write {
            store::write(folder, response)?;
        }
        Ok(svids)
    }
}

/// Completes "cannot …".
const DOING: &str = "fetch X.509-SVIDs";
