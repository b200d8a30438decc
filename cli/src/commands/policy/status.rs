//! `claviger policy status`: which policies are in force, and whether they are those in the folder.

use std::fmt;

use clap::Args;
use claviger_proto::claviger::admin::v1::{GetPoliciesRequest, GetPoliciesResponse};
use serde::Serialize;

use crate::admin::Server;
use crate::console::Console;
use crate::failure::Failure;
use crate::socket::AdminSocket;
use crate::times;

#[derive(Args, Debug)]
pub(crate) struct Status {
    #[command(flatten)]
    socket: AdminSocket,
}

impl Status {
    pub(super) async fn run(self, console: Console) -> Result<(), Failure> {
        let server = Server::connect(&self.socket, console).await?;
        let mut control = server.control();
        let request = GetPoliciesRequest::default();
        let policies = server.ask("show the policies", control.get_policies(request)).await?;
        let shown = Shown::from(policies);
        console.answer(&shown)?;
        match shown.refused {
            None => Ok(()),
            Some(_) => Err(Failure::failed("what lies in the policy folder is not in force")),
        }
    }
}

/// `{"digest":"…","policies":12,"since":1800000000,"refused":null}`.
#[derive(Serialize)]
pub(super) struct Shown {
    digest: String,
    policies: u32,
    since: u64,
    refused: Option<String>,
}

impl From<GetPoliciesResponse> for Shown {
    fn from(policies: GetPoliciesResponse) -> Self {
        let GetPoliciesResponse { digest, policies: _, count, since, refused } = policies;
        let refused = Some(refused).filter(|reason| !reason.is_empty());
        Self { digest, policies: count, since, refused }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = times::show_unsigned(self.since);
        write!(f, "{} policies in force since {since}\ndigest {}", self.policies, self.digest)?;
        match &self.refused {
            None => Ok(()),
            Some(reason) => write!(f, "\nthose in the folder now are refused: {reason}"),
        }
    }
}
