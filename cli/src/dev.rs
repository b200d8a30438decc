//! A server and an agent in one process, in a directory of their own.

mod directory;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use claviger_attestors::join_token::JoinToken;
use claviger_core::id::TrustDomain;
use claviger_core::time::{Clock, SystemClock};
use claviger_node_agent::config::{AdminSocket, Attestors, Config as AgentConfig, TokenSource};
use claviger_node_agent::run::Agent;
use claviger_policy::source;
use claviger_proto::spire::server::agent::v1::CreateJoinTokenRequest;
use claviger_runtime::health::Health;
use claviger_runtime::place::ServerAddr;
use claviger_runtime::tasks::{ShutdownSignals, Tasks};
use claviger_server::config::{AttestorsConfig, Config as ServerConfig};
use claviger_server::run::{Running, Server};
use zeroize::Zeroizing;

use crate::admin;
use crate::commands::healthcheck;
use crate::connection::Connection;
use crate::console::{self, Console};
use crate::failure::Failure;
use crate::run::{drain, until_stopped};
use crate::status::Peer;
pub(crate) use directory::Directory;

/// Runs both in `dir` until a signal, and leaves nothing behind.
pub(crate) async fn run(
    dir: &Path,
    trust_domain: TrustDomain,
    policy: Option<PathBuf>,
    console: Console,
) -> Result<(), Failure> {
    let mut signals = ShutdownSignals::listen().map_err(|error| Failure::because(&error))?;
    let tasks = Tasks::default();
    // Dropped last, when nobody uses it any more.
    let place = Directory::claim(dir)?;
    let ended = tokio::select! {
        started = console.watch("starting", Box::pin(start(&place, trust_domain, policy, console, &tasks))) => {
            match started.and_then(|server| announce(&place, &server)) {
                Ok(()) => until_stopped(&mut signals, &tasks).await,
                Err(failure) => Err(failure),
            }
        }
        _ = signals.next() => Ok(()),
    };
    drain(&mut signals, &tasks).await.and(ended)
}

/// What a shell takes in, and the word that scripts wait for.
fn announce(place: &Directory, running: &Running) -> Result<(), Failure> {
    let quoted = |path: &Path| path.display().to_string().replace('\'', r"'\''");
    let (agent, server) = (quoted(&place.agent_socket()), quoted(&place.server_socket()));
    let admin = quoted(&place.agent_admin_socket());
    console::remark("paste these lines into another shell; Ctrl-C here ends it all");
    console::line(format_args!("export SPIFFE_ENDPOINT_SOCKET='unix://{agent}'"))?;
    console::line(format_args!("export CLAVIGER_SERVER_SOCKET='{server}'"))?;
    console::line(format_args!("export CLAVIGER_AGENT_SOCKET='{admin}'"))?;
    if let Some(control) = running.control {
        console::line(format_args!("export CLAVIGER_CONTROL='https://{control}'"))?;
    }
    console::line("ready")
}

/// Starts both in `place`, and returns when the Workload API is served.
async fn start(
    place: &Directory,
    trust_domain: TrustDomain,
    policy: Option<PathBuf>,
    console: Console,
    tasks: &Tasks,
) -> Result<Running, Failure> {
    let attestors = AttestorsConfig::default();
    let server = start_server(place, trust_domain.clone(), policy, attestors, tasks).await?;
    start_agent(place, trust_domain, &server, None, console, tasks).await?;
    Ok(server)
}

/// Starts the server, which judges evidence as `attestors` say. Without a folder of policies, it permits
/// everything within the trust domain.
pub(crate) async fn start_server(
    place: &Directory,
    trust_domain: TrustDomain,
    policy: Option<PathBuf>,
    attestors: AttestorsConfig,
    tasks: &Tasks,
) -> Result<Running, Failure> {
    let policy_dir = match policy {
        Some(dir) => dir,
        None => place.write_policy(source::DEV)?,
    };
    let config = ServerConfig {
        // The kernel chooses a free port.
        listen: ([127, 0, 0, 1], 0).into(),
        control: Some(([127, 0, 0, 1], 0).into()),
        admin_socket: place.server_socket(),
        policy_dir: Some(policy_dir),
        attestors,
        ..ServerConfig::new(trust_domain, place.server_data())
    };
    let started = Server::start(config, clock(), tasks).await;
    started.map_err(|error| Failure::because(&error))
}

/// Lets the agent attest to the server, by what `attestors` gather; without them, with a token that
/// the operator's API made.
pub(crate) async fn start_agent(
    place: &Directory,
    trust_domain: TrustDomain,
    server: &Running,
    attestors: Option<Attestors>,
    console: Console,
    tasks: &Tasks,
) -> Result<(), Failure> {
    let bundle = place.write_bundle(&server.bundle_pem)?;
    let address: ServerAddr =
        server.address.to_string().parse().map_err(|error| Failure::because(&error))?;
    let mut config = AgentConfig::new(trust_domain, address, place.agent_data(), bundle);
    config.socket_path = place.agent_socket();
    config.admin = Some(AdminSocket::at(place.agent_admin_socket()));
    match attestors {
        Some(attestors) => config.attestors = attestors,
        None => config.join_token = Some(TokenSource::Inline(join_token(place, console).await?)),
    }
    let agent = Agent::start(config, clock(), tasks).await;
    let agent = agent.map_err(|error| Failure::because(&error))?;
    wait_until_served(&agent.health, &agent.socket, console).await
}

async fn join_token(place: &Directory, console: Console) -> Result<JoinToken, Failure> {
    let server = admin::Server::at(&place.server_socket(), console).await?;
    let request = CreateJoinTokenRequest { ttl: 60, ..CreateJoinTokenRequest::default() };
    let mut agents = server.agents();
    let made = server.ask("make a join token", agents.create_join_token(request)).await?;
    Zeroizing::new(made.value).parse().map_err(|error| Failure::because(&error))
}

/// Nothing is announced that does not work: asks the Workload API itself.
async fn wait_until_served(
    health: &Health,
    socket: &Path,
    console: Console,
) -> Result<(), Failure> {
    const PATIENCE: Duration = Duration::from_secs(30);

    if tokio::time::timeout(PATIENCE, health.ready()).await.is_err() {
        let parts = health.report().to_json();
        return Err(Failure::failed(format_args!("the agent does not get ready: {parts}"))
            .try_this("--log-level debug"));
    }
    let agent = Connection::open(Peer::Agent, socket, console).await?;
    healthcheck::check(&agent, Peer::Agent).await
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}
