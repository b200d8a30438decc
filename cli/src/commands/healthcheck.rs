//! `claviger healthcheck`: for supervisors and scripts.

use std::fmt;

use clap::Args;
use serde::Serialize;
use tonic::service::interceptor::InterceptedService;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::connection::Connection;
use crate::console::Console;
use crate::failure::Failure;
use crate::socket::BothSockets;
use crate::status::Peer;
use crate::workload::SecurityHeader;

/// Asks a server or an agent whether it does its work
#[derive(Args, Debug)]
#[command(long_about = "Asks a server, or with --agent an agent, whether it does its work. The \
    exit code is 0 only if it does.\n\n\
    Example:\n  claviger healthcheck --agent")]
pub(crate) struct Healthcheck {
    /// Ask the server; the default
    #[arg(long, conflicts_with = "agent")]
    server: bool,

    /// Ask the agent
    #[arg(long)]
    agent: bool,

    #[command(flatten)]
    sockets: BothSockets,
}

impl Healthcheck {
    pub(crate) async fn run(self, console: Console) -> Result<(), Failure> {
        let peer = if self.agent { Peer::Agent } else { Peer::Server };
        let connection = Connection::open(peer, self.sockets.path(peer), console).await?;
        check(&connection, peer).await?;
        console.answer(&Healthy { healthy: true, peer: peer.to_string() })
    }
}

/// Fails unless `peer`, at the other end of `connection`, does its work.
pub(crate) async fn check(connection: &Connection, peer: Peer) -> Result<(), Failure> {
    let channel = InterceptedService::new(connection.channel(), SecurityHeader);
    let mut health = HealthClient::new(channel);
    let whole = HealthCheckRequest { service: String::new() };
    let answer = connection.ask("ask for its health", health.check(whole)).await?;
    if answer.status() == ServingStatus::Serving {
        return Ok(());
    }
    Err(Failure::failed(format_args!("the {peer} is up, but does not do its work"))
        .try_this("its log and its `/ready` page say which part is missing"))
}

/// `{"healthy":true,"peer":"server"}`.
#[derive(Debug, Serialize)]
struct Healthy {
    healthy: bool,
    peer: String,
}

impl fmt::Display for Healthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} is healthy", self.peer)
    }
}
