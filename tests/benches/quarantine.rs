//! How long from `quarantine add` to the end of a live connection, at both of its ends.
//!
//! The server, the agent and the two ends share this machine. What is measured ends when both ends have
//! been cut, each by its own enforcer.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::use_debug,
    reason = "a benchmark stops at the first surprise, and prints what it found"
)]

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use claviger_core::id::SpiffeId;
use claviger_core::psk::PskTtl;
use claviger_core::time::SystemClock;
use claviger_proto::claviger::admin::v1::SetStandingRequest;
use claviger_proto::claviger::admin::v1::control_client::ControlClient;
use claviger_proto::claviger::admin::v1::set_standing_request::Change;
use claviger_runtime::tasks::Tasks;
use claviger_runtime::unix::connector;
use claviger_shim::{BrokerClient, Enforcer, PskAcceptor, PskConnector, Tunnel};
use claviger_tests::bench::percentile;
use claviger_tests::process::{Claviger, Dev, my_uid};
use tokio::io::{AsyncReadExt as _, duplex};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::{Channel, Endpoint};

const ROUNDS: usize = 100;
const TARGET: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(10);
const CLIENT: &str = "spiffe://example.org/client";
const SERVER: &str = "spiffe://example.org/server";

#[tokio::main]
async fn main() -> ExitCode {
    let dev = Dev::start(&Claviger::at(binary())).await;
    for id in [CLIENT, SERVER] {
        let uid = my_uid();
        dev.admin(&["entry", "create", "--spiffe-id", id, "--selector", &uid, "--wait"]).await;
    }
    let tasks = Tasks::default();
    let bench = Bench::new(&dev, &tasks);
    bench.enforcer.ready().await;

    let mut closed = Vec::with_capacity(ROUNDS);
    for _round in 0..ROUNDS {
        let (mut client, mut server) = bench.connect().await;
        let began = Instant::now();
        let cut = async { tokio::join!(client.read_u8(), server.read_u8()) };
        let (_said, cut) = tokio::join!(bench.set(Change::Quarantine), timeout(PATIENCE, cut));
        let (client, server) = cut.unwrap();
        closed.push(began.elapsed());
        client.unwrap_err();
        server.unwrap_err();
        bench.set(Change::Lift).await;
    }
    let met = report("quarantine -> live connection closed at both ends", &mut closed);
    tasks.stop();
    let (status, _dir) = dev.stop().await;
    if status.success() && met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The release binary beside this benchmark, or the one that `CLAVIGER` names.
fn binary() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "the one setting of a benchmark")]
    let named = env::var("CLAVIGER").map(PathBuf::from);
    named.unwrap_or_else(|_unset| {
        let deps = env::current_exe().unwrap();
        deps.ancestors().nth(2).unwrap().join("claviger")
    })
}

struct Bench {
    control: ControlClient<Channel>,
    agent: PathBuf,
    enforcer: Enforcer,
}

impl Bench {
    fn new(dev: &Dev, tasks: &Tasks) -> Self {
        let endpoint = Endpoint::from_static("http://localhost");
        let socket = connector(dev.server_socket.clone()).unwrap();
        let (agent, domain) = (dev.agent_socket.clone(), "example.org".parse().unwrap());
        let clock = Arc::new(SystemClock);
        Self {
            control: ControlClient::new(endpoint.connect_with_connector_lazy(socket)),
            enforcer: Enforcer::follow(agent.clone(), domain, 16, clock, tasks).unwrap(),
            agent,
        }
    }

    /// Says so, and does not wait until the agent has taken it in.
    async fn set(&self, change: Change) {
        let request = SetStandingRequest {
            spiffe_id: SERVER.to_owned(),
            change: change.into(),
            reason: "a benchmark".to_owned(),
            ..SetStandingRequest::default()
        };
        self.control.clone().set_standing(request).await.unwrap();
    }

    fn broker(&self, identity: &str) -> BrokerClient {
        BrokerClient::new(self.agent.clone()).unwrap().acting_as(id(identity))
    }

    /// The two ends of a connection, as soon as there may be one.
    async fn connect(&self) -> (Tunnel, Tunnel) {
        let began = Instant::now();
        let purpose = "bench".parse().unwrap();
        loop {
            assert!(began.elapsed() < PATIENCE, "no connection");
            let issued = self.broker(CLIENT).issue(&id(SERVER), &purpose, PskTtl::default()).await;
            let Ok(issued) = issued else {
                sleep(Duration::from_millis(5)).await;
                continue;
            };
            let acceptor = PskAcceptor::new(self.broker(SERVER)).unwrap();
            let acceptor = acceptor.enforced_by(self.enforcer.clone());
            let connector = PskConnector::new().unwrap().enforced_by(self.enforcer.clone());
            let (near, far) = duplex(64 << 10);
            let ends = tokio::join!(connector.connect(near, issued), acceptor.accept(far));
            if let (Ok(client), Ok(server)) = ends {
                return (client, server);
            }
        }
    }
}

fn id(id: &str) -> SpiffeId {
    id.parse().unwrap()
}

/// Prints one figure and whether it meets its target.
fn report(what: &str, samples: &mut [Duration]) -> bool {
    samples.sort_unstable();
    let [p50, p90, p99] = [50, 90, 99].map(|percent| percentile(samples, percent));
    let verdict = if p99 < TARGET { "met" } else { "MISSED" };
    println!("{what}: p50 {p50:.1?}, p90 {p90:.1?}, p99 {p99:.1?}; target < {TARGET:?}: {verdict}");
    p99 < TARGET
}
