//! What the tests of this crate share: an entry, and a small world with a fake server, a real agent
//! and clients on a real socket.

mod authority;
mod client;
mod clock;
mod fake;
mod machine;
mod parent;
mod token_key;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use claviger_core::bundle::Bundle;
use claviger_core::entry::Entry;
use claviger_core::selector::Selectors;
use claviger_core::time::UnixTime;
use claviger_runtime::health::{Health, State};
use claviger_runtime::place::ServerAddr;
use claviger_runtime::tasks::{Drain, Tasks};
use tempfile::{TempDir, tempdir};
use tokio::process::{Child, Command};

use crate::config::{AdminSocket, Attestors, Config, TokenSource};
use crate::credentials::{Identity, LeftOut, ServedBundle, Snapshot};
use crate::run::{Agent, Running, StartError};

pub(crate) use client::{Client, ids, with_header, workload};
use clock::Ahead;
use fake::FakeServer;
pub(crate) use fake::{Delivery, GOOD_FOR, Jwts, Says, announcement, policies};
pub(crate) use parent::{Mischief, Parent};
pub(crate) use token_key::TokenKey;

/// The time at which tests without a world happen.
pub(crate) const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

/// A process that runs until its standard input is closed, and an entry for its program.
pub(crate) fn cat() -> (Child, i32, Entry) {
    let child = Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pid = child.id().unwrap();
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    let entry = entry("cat", &[&format!("unix:path:{}", program.display())]);
    (child, pid.try_into().unwrap(), entry)
}

/// An entry named `id` that gives `spiffe://example.org/id` to whoever shows `selectors`.
pub(crate) fn entry(id: &str, selectors: &[&str]) -> Entry {
    Entry {
        id: id.parse().unwrap(),
        spiffe_id: format!("spiffe://example.org/{id}").parse().unwrap(),
        parent_id: "spiffe://example.org/spire/agent/test".parse().unwrap(),
        selectors: selectors.iter().map(|selector| selector.parse().unwrap()).collect(),
        x509_svid_ttl: None,
        jwt_svid_ttl: None,
        federates_with: BTreeSet::new(),
        admin: false,
        downstream: false,
        expires_at: None,
        dns_names: Vec::new(),
        revision: 0,
        store_svid: false,
        hint: String::new(),
        created_at: UnixTime::from_secs(5),
        x509_on_demand: false,
        jwt_jti: false,
    }
}

/// An entry for the process that runs the tests.
pub(crate) fn ours(id: &str) -> Entry {
    let uid = rustix::process::geteuid().as_raw();
    let path = std::env::current_exe().unwrap();
    let facts = [format!("unix:uid:{uid}"), format!("unix:path:{}", path.display())];
    let selectors: Selectors = facts.iter().map(|fact| fact.parse().unwrap()).collect();
    Entry { selectors, ..entry(id, &[]) }
}

/// An entry for nobody here.
pub(crate) fn theirs(id: &str) -> Entry {
    entry(id, &["unix:path:/nonexistent"])
}

/// What is known of `entries` before any SVID has come.
pub(crate) fn snapshot_of(entries: Vec<Entry>, left_out: Vec<LeftOut>) -> Snapshot {
    let own = ServedBundle::from(Bundle::empty("example.org".parse().unwrap()));
    let identities = entries.into_iter().map(Identity::without_svids).collect();
    Snapshot::new(Arc::new(own), BTreeMap::new(), identities, left_out.into())
}

/// A fake server and a directory for agents.
pub(crate) struct World {
    pub(crate) server: FakeServer,
    address: SocketAddr,
    server_tasks: Tasks,
    dir: TempDir,
    /// The agent's.
    pub(crate) clock: Arc<Ahead>,
}

/// For everything that ought to happen at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

impl World {
    /// A server that runs.
    pub(crate) async fn new() -> Self {
        let server = FakeServer::new();
        let server_tasks = Tasks::default();
        let address = server.serve("127.0.0.1:0".parse().unwrap(), &server_tasks).await;
        let dir = tempdir().unwrap();
        std::fs::write(dir.path().join("bundle.pem"), server.bundle_pem()).unwrap();
        Self { server, address, server_tasks, dir, clock: Arc::default() }
    }

    /// The server goes away.
    pub(crate) async fn stop_server(&mut self) {
        self.server_tasks.stop();
        assert_eq!(self.server_tasks.drained(PATIENCE).await, Drain::Clean);
    }

    /// And comes back, with what it knew.
    pub(crate) async fn restart_server(&mut self) {
        self.server_tasks = Tasks::default();
        self.server.serve(self.address, &self.server_tasks).await;
    }

    /// Where it is.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The settings of the agent, with a token that the server knows.
    pub(crate) fn config(&self) -> Config {
        let address: ServerAddr = self.address.to_string().parse().unwrap();
        let mut config = Config::new(
            "example.org".parse().unwrap(),
            address,
            self.dir.path().join("agent"),
            self.dir.path().join("bundle.pem"),
        );
        config.socket_path = self.socket();
        config.admin = Some(AdminSocket::at(self.admin_socket()));
        config.join_token = Some(TokenSource::Inline("good-token".parse().unwrap()));
        config
    }

    /// The settings of an agent that can attest again.
    pub(crate) fn config_of_machine(&self) -> Config {
        let attestors = Attestors(vec![Box::new(machine::Machine)]);
        Config { join_token: None, attestors, ..self.config() }
    }

    /// The server's authorities are others from its next start on, and the operator says so to new
    /// agents.
    pub(crate) fn begin_anew(&self) {
        self.server.begin_anew();
        std::fs::write(self.dir.path().join("bundle.pem"), self.server.bundle_pem()).unwrap();
    }

    /// Where the agent keeps what outlives it.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("agent")
    }

    /// Where the agent listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("agent.sock")
    }

    /// Where its operator asks.
    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    /// Starts the agent.
    pub(crate) async fn try_start(&self, config: Config) -> Result<StartedAgent, StartError> {
        let tasks = Tasks::default();
        let clock: Arc<Ahead> = Arc::clone(&self.clock);
        let started = Agent::start(config, clock, &tasks).await;
        match started {
            Ok(running) => Ok(StartedAgent { running, tasks }),
            Err(error) => {
                tasks.stop();
                assert_eq!(tasks.drained(PATIENCE).await, Drain::Clean);
                Err(error)
            }
        }
    }

    /// Starts the agent, and waits until it serves.
    pub(crate) async fn start_agent(&self) -> StartedAgent {
        self.start(self.config()).await
    }

    /// The same, as `config` says.
    pub(crate) async fn start(&self, config: Config) -> StartedAgent {
        let agent = self.try_start(config).await.unwrap();
        within(agent.running.health.ready()).await;
        agent
    }

    /// A server with `entries` and an agent that has them, and a client.
    pub(crate) async fn with(entries: Vec<Entry>) -> (Self, StartedAgent, Client) {
        let world = Self::new().await;
        for entry in entries {
            world.server.put(entry);
        }
        let agent = world.start_agent().await;
        let client = workload(&world.socket()).await;
        (world, agent, client)
    }
}

/// An agent at work. It stops when this is dropped.
pub(crate) struct StartedAgent {
    pub(crate) running: Running,
    tasks: Tasks,
}

impl StartedAgent {
    /// Stops it, as a signal would.
    pub(crate) async fn stop(self) {
        self.tasks.stop();
        assert_eq!(self.tasks.drained(PATIENCE).await, Drain::Clean);
    }
}

impl Drop for StartedAgent {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

/// Waits until the part `name` of the agent is as `is` says.
pub(crate) async fn health_is(health: &Health, name: &str, is: impl Fn(&State) -> bool) -> String {
    within(async {
        let mut report = health.report();
        loop {
            if let Some((_, state)) =
                report.parts().find(|(part, state)| *part == name && is(state))
            {
                return state.to_string();
            }
            report = health.changed_from(&report).await;
        }
    })
    .await
}

/// What ought to happen at once has a deadline, so that a test fails and does not hang.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it took too long")
}
