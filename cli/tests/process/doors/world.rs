//! A server and an agent with all their doors open, those who may come in, and what an attack costs.

use std::fs;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use claviger_proto::claviger::psk::v1::IssueRequest;
use claviger_tests::process::{Deployment, PATIENCE, free_port, my_uid};
use claviger_tests::workload::Workload;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep, timeout};

use super::papers::{Authority, Papers};
use super::tls::{H2, client, dial, shake};
use crate::claviger;

pub(super) const CLIENT: &str = "spiffe://example.org/client";
const SERVER: &str = "spiffe://example.org/server";

/// Nobody who behaves well waits for longer while somebody else does not: what takes milliseconds may take
/// this long in a debug build on a machine that does other things as well. Whoever were kept out until the
/// first of those who do nothing is sent away would wait for longer.
const PATIENT: Duration = Duration::from_secs(8);

/// The most memory that a process may have more after an attack than before, in bytes.
const ROOM: u64 = 64 << 20;

/// How long a flood takes.
pub(super) fn span() -> Duration {
    let millis = std::env::var_os("CLAVIGER_FAULT_FLOOD_MS");
    Duration::from_millis(millis.map_or(100, |millis| millis.to_str().unwrap().parse().unwrap()))
}

/// A connection, whatever it goes over.
pub(super) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Connection for S {}

/// Where HTTP/2 is spoken, and by whom.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Door {
    /// The server's, for agents: a stranger, and a workload by its SVID.
    Stranger,
    Workload,
    /// The server's socket for the operator.
    Operator,
    /// The agent's: the Workload API with all that is beside it, the operator's, and that of brokers.
    WorkloadApi,
    AgentOperator,
    Broker,
}

impl Door {
    pub(super) const ALL: [Self; 6] = [
        Self::Stranger,
        Self::Workload,
        Self::Operator,
        Self::WorkloadApi,
        Self::AgentOperator,
        Self::Broker,
    ];

    /// A method that is served there, and that answers at once, if only to refuse.
    pub(super) const fn method(self) -> &'static str {
        match self {
            Self::Stranger | Self::Workload | Self::Operator => {
                "/spire.api.server.bundle.v1.Bundle/GetBundle"
            }
            Self::WorkloadApi => "/SpiffeWorkloadAPI/FetchX509Bundles",
            Self::AgentOperator => "/claviger.node.v1.NodeAdmin/Explain",
            Self::Broker => "/spiffe.broker.API/FetchJWTSVID",
        }
    }
}

pub(super) struct World {
    pub(super) deployment: Deployment,
    pub(super) authority: Authority,
    /// A certificate of a workload's.
    pub(super) papers: Papers,
    /// The doors that speak HTTP/1.1.
    pub(super) public: SocketAddr,
    pub(super) control: SocketAddr,
    pub(super) keys: SocketAddr,
    pub(super) health: SocketAddr,
    pub(super) agent_health: SocketAddr,
    workload: Workload,
}

impl World {
    pub(super) async fn start() -> Self {
        Self::start_with("").await
    }

    /// The same with `more` at the end of the agent's configuration.
    pub(super) async fn start_with(more: &str) -> Self {
        claviger_runtime::descriptors::raise_limit().unwrap();
        let [public, control, keys, health, agent_health] =
            [(); 5].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let server_doors = format!(
            "[public]\nlisten = \"{public}\"\nhosts = [\"127.0.0.1\"]\n[control]\nlisten = \"{control}\"\n\
             [keys]\nlisten = \"{keys}\"\n[health]\nlisten = \"{health}\"\n"
        );
        let mut deployment =
            Deployment::start_configured(&claviger(), &claviger(), &server_doors).await;
        let config = deployment.dir().join("agent.toml");
        let at = |name: &str| deployment.dir().join(name).display().to_string();
        let doors = format!(
            "admin-socket-path = \"{}\"\nbroker-socket-path = \"{}\"\n\
             [[brokers]]\nid = \"{CLIENT}\"\nallowed-references = []\n\
             [health]\nlisten = \"{agent_health}\"\n[log]\n",
            at("agent-admin.sock"),
            at("broker.sock"),
        );
        let text = fs::read_to_string(&config).unwrap().replace("[log]\n", &doors) + more;
        fs::write(&config, text).unwrap();
        deployment.restart_agent().await;
        for id in [CLIENT, SERVER] {
            let args = ["entry", "create", "--spiffe-id", id, "--selector", &my_uid(), "--wait"];
            deployment.admin(&args).await;
        }
        let authority = Authority::of(&deployment);
        let papers = authority.issue(&[CLIENT], |_| {});
        let workload = Workload::at(&deployment.agent_socket());
        let world = Self {
            deployment,
            authority,
            papers,
            public,
            control,
            keys,
            health,
            agent_health,
            workload,
        };
        world.is_served(PATIENCE).await;
        world
    }

    /// Where agents connect.
    pub(super) fn agents(&self) -> SocketAddr {
        self.deployment.server_address().parse().unwrap()
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.deployment.dir().join(name)
    }

    /// A connection through `door`, over which nothing was said yet.
    pub(super) async fn connect(&self, door: Door) -> Box<dyn Connection> {
        let unix = async |name: &str| UnixStream::connect(self.socket(name)).await.unwrap();
        match door {
            Door::Stranger => {
                let stream = dial([127, 0, 0, 3], self.agents()).await;
                Box::new(shake(stream, client(Some(H2), None)).await.unwrap())
            }
            Door::Workload => {
                let stream = dial([127, 0, 0, 3], self.agents()).await;
                Box::new(shake(stream, client(Some(H2), Some(&self.papers))).await.unwrap())
            }
            Door::Operator => Box::new(unix("server.sock").await),
            Door::WorkloadApi => Box::new(unix("agent.sock").await),
            Door::AgentOperator => Box::new(unix("agent-admin.sock").await),
            Door::Broker => {
                let stream = unix("broker.sock").await;
                Box::new(shake(stream, client(Some(H2), Some(&self.papers))).await.unwrap())
            }
        }
    }

    /// Somebody who behaves well gets a one-time key, which both processes and the store have a part in. How
    /// long it took; at most `most`.
    pub(super) async fn is_served(&self, most: Duration) -> Duration {
        let asked = Instant::now();
        let request = IssueRequest {
            peer: SERVER.to_owned(),
            purpose: "doors".to_owned(),
            spiffe_id: CLIENT.to_owned(),
            ..IssueRequest::default()
        };
        let mut broker = self.workload.broker();
        let served = async {
            while let Err(refusal) = broker.issue(Workload::request(request.clone())).await {
                assert!(asked.elapsed() < most, "{refusal}");
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(most, served).await.expect("whoever behaves well is served in time");
        asked.elapsed()
    }

    /// Carries out `attack` while others are served in good time, and until the processes have given back
    /// what memory they had for it.
    #[expect(clippy::print_stdout, reason = "the suite of faults says what was survived")]
    pub(super) async fn bears<T>(&self, what: &str, attack: impl Future<Output = T>) -> T {
        let before = self.memory();
        let attacking = async {
            let came = attack.await;
            (came, self.memory())
        };
        let mut attacking = std::pin::pin!(attacking);
        let (mut slowest, mut served) = (Duration::ZERO, 0);
        let (came, peak) = loop {
            let serving = async {
                sleep(Duration::from_millis(20)).await;
                self.is_served(PATIENT).await
            };
            tokio::select! {
                done = attacking.as_mut() => break done,
                took = serving => {
                    slowest = slowest.max(took);
                    served += 1;
                }
            }
        };
        slowest = slowest.max(self.is_served(PATIENT).await);
        let grown = peak.iter().zip(&before).map(|(now, then)| now.saturating_sub(*then));
        let grown: Vec<_> = grown.collect();
        assert!(grown.iter().all(|bytes| *bytes < ROOM), "{what}: {grown:?} bytes more");
        println!(
            "survived: {what}; {} others served, the slowest in {} ms; {} and {} MiB more",
            served + 1,
            slowest.as_millis(),
            grown[0] >> 20,
            grown[1] >> 20,
        );
        came
    }

    /// How many bytes of memory the server and the agent have.
    fn memory(&self) -> [u64; 2] {
        [self.deployment.server_pid(), self.deployment.agent_pid()].map(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
        })
    }

    /// The sum of a metric of the server's over all labels in which `label` stands.
    pub(super) async fn counted(&self, name: &str, label: &str) -> u64 {
        let metrics = get(self.health, "/metrics").await;
        let lines = metrics.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }
}

/// What is answered there over HTTP without TLS.
pub(super) async fn get(from: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(from).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}
