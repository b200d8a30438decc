//! `claviger policy reload`: reads the policy folder again, now.

use clap::Args;
use claviger_proto::claviger::admin::v1::ReloadPoliciesRequest;

use super::status::Shown;
use crate::admin::Server;
use crate::console::Console;
use crate::failure::Failure;
use crate::socket::AdminSocket;

#[derive(Args, Debug)]
pub(crate) struct Reload {
    #[command(flatten)]
    socket: AdminSocket,
}

impl Reload {
    pub(super) async fn run(self, console: Console) -> Result<(), Failure> {
        let server = Server::connect(&self.socket, console).await?;
        let mut control = server.control();
        let reloading = control.reload_policies(ReloadPoliciesRequest {});
        let policies = server.ask("reload the policies", reloading).await?;
        console.answer(&Shown::from(policies))
    }
}
