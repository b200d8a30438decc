//! `claviger why`: which identities a process gets, and what others lack.

mod advice;
mod answer;

use std::path::Path;

use clap::{ArgGroup, Args};
use claviger_core::selector::Selector;
use claviger_proto::claviger::admin::v1 as server;
use claviger_proto::claviger::node::v1::explain_request::Subject;
use claviger_proto::claviger::node::v1::node_admin_client::NodeAdminClient;
use claviger_proto::claviger::node::v1::{ExplainRequest, ExplainResponse, Facts};

use crate::admin::Server;
use crate::connection::Connection;
use crate::console::{self, Console};
use crate::failure::Failure;
use crate::socket::OperatorSockets;
use crate::status::Peer;
use answer::Answer;

/// Explains which identities a process gets, and what it lacks for others
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("subject").required(true).args(["pid", "selectors"]))]
#[command(long_about = "Explains which identities a process gets, or one with certain selectors \
    would get, and which entries it just misses: each with the selectors that it lacks, and a \
    command that would mend it. Asks this machine's agent, over its admin socket; if the server's \
    admin socket is here, too, it says what it has for other agents. The exit code is 0 if there \
    is an identity, 1 if there is none.\n\n\
    Example:\n  claviger why 4242\n  claviger why --selector unix:uid:1000 --selector unix:path:/usr/bin/web")]
pub(crate) struct Why {
    /// The process, by its number
    #[arg(value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pid: Option<i32>,

    /// A fact that a process would show; repeat it for more
    #[arg(long = "selector", value_name = "KIND:VALUE")]
    selectors: Vec<Selector>,

    #[command(flatten)]
    sockets: OperatorSockets,
}

impl Why {
    pub(crate) async fn run(self, console: Console) -> Result<(), Failure> {
        let subject = match self.pid {
            Some(pid) => format!("process {pid}"),
            None => "a process with these selectors".to_owned(),
        };
        let told = self.ask_agent(&subject, console).await?;
        let socket = &self.sockets.server_socket;
        let elsewhere =
            if socket.exists() { ask_server(socket, &told, console).await } else { None };

        let answer = Answer::new(self.pid, &told, elsewhere.as_ref());
        console.answer(&answer)?;
        if answer.is_somebody() {
            Ok(())
        } else {
            Err(Failure::failed(format_args!("{subject} gets no identity")))
        }
    }

    async fn ask_agent(&self, subject: &str, console: Console) -> Result<ExplainResponse, Failure> {
        let socket = &self.sockets.agent_socket;
        let agent = Connection::open(Peer::AgentAdmin, socket, console).await?;
        let selectors = self.selectors.iter().map(Into::into).collect();
        let asked = self.pid.map_or(Subject::Facts(Facts { selectors }), Subject::Pid);
        let mut admin = NodeAdminClient::new(agent.channel());
        let request = ExplainRequest { subject: Some(asked) };
        agent.ask(&format!("explain what {subject} gets"), admin.explain(request)).await
    }
}

/// What the server has for the same process; none if it does not want to say.
async fn ask_server(
    socket: &Path,
    told: &ExplainResponse,
    console: Console,
) -> Option<server::ExplainResponse> {
    let asked = async {
        let connection = Server::at(socket, console).await?;
        let request = server::ExplainRequest {
            selectors: told.facts.clone(),
            agent_id: told.agent_id.clone(),
        };
        let mut admin = connection.admin();
        connection.ask("ask the server, too", admin.explain(request)).await
    };
    asked.await.inspect_err(|failure| console::remark(failure)).ok()
}
