//! How many calls an agent answers, and how much memory it takes for it; beside SPIRE's agent, if
//! `SPIRE` names the folder with its programs, and otherwise beside what was measured of it before.
//!
//! `CLAVIGER_AGENT` names the agent's program, if it is another than the server's.
//!
//! Agent, server and clients share this machine. The same program is the client of both, so that
//! what it takes itself is the same for both. One client has one thread, eight have two.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark stops at the first surprise, and prints what it found"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs};

use claviger_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use claviger_proto::workload::{JwtsvidRequest, X509svidRequest};
use claviger_runtime::unix::connector;
use claviger_tests::process::{Claviger, Deployment, my_uid};
use claviger_tests::spire::Spire;
use claviger_tests::workload::Workload;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tonic::transport::{Channel, Endpoint};

/// How long each rate is measured.
const SPAN: Duration = Duration::from_secs(3);

/// What an agent needs to come to rest after it was busy.
const REST: Duration = Duration::from_secs(2);

const MANY: usize = 1_000;

/// How often our agent must answer for each answer of SPIRE's.
const FASTER: f64 = 5.0;

/// What one agent does.
#[derive(Clone, Copy)]
struct Figures {
    /// Calls per second.
    x509: [f64; 2],
    jwt: [f64; 2],
    /// Resident memory, in MB.
    idle: f64,
    svids: f64,
    streams: f64,
}

/// SPIRE 1.16-dev on a machine like the one this was written on, without its policy engine and
/// cloud plugins, which flatters it.
const RECORDED: Figures = Figures {
    x509: [1_921.0, 3_012.0],
    jwt: [2_121.0, 3_446.0],
    idle: 23.0,
    svids: 50.0,
    streams: 78.0,
};

const CLIENTS: [usize; 2] = [1, 8];

#[tokio::main]
async fn main() -> ExitCode {
    claviger_runtime::descriptors::raise_limit().unwrap();
    let spire = match programs("SPIRE") {
        Some(programs) => measure_spire(&programs).await,
        None => RECORDED,
    };
    let ours = measure_ours().await;
    let source = if programs("SPIRE").is_some() { "in this run" } else { "recorded before" };
    println!("one machine; SPIRE's figures were measured {source}");

    let mut met = true;
    for (what, ours, spire) in
        [("FetchX509SVID", ours.x509, spire.x509), ("FetchJWTSVID, cached", ours.jwt, spire.jwt)]
    {
        for (at, clients) in CLIENTS.into_iter().enumerate() {
            met &= report_rate(&format!("{what}, {clients} clients"), ours[at], spire[at]);
        }
    }
    met &= report_memory("idle", ours.idle, spire.idle, 8.0);
    met &= report_memory("1,000 SVIDs", ours.svids, spire.svids, 12.0);
    met &= report_memory("1,000 open streams", ours.streams, spire.streams, 20.0);
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn measure_ours() -> Figures {
    let claviger = Claviger::at(binary());
    let agent = programs("CLAVIGER_AGENT").map_or_else(|| claviger.clone(), Claviger::at);
    let small = Deployment::start_with(&claviger, &agent).await;
    small.register(&my_uid(), "own", 1).await;
    let (idle, streams) = memory(&small.agent_socket(), small.agent_pid()).await;
    drop(small);

    let large = Deployment::start_with(&claviger, &agent).await;
    large.register(&my_uid(), "own", 1).await;
    large.register("unix:uid:4000000000", "other", MANY - 1).await;
    sleep(REST).await;
    let svids = resident(large.agent_pid());
    let (x509, jwt) = rates(&large.agent_socket()).await;
    Figures { x509, jwt, idle, svids, streams }
}

async fn measure_spire(programs: &Path) -> Figures {
    let small = Spire::start(programs).await;
    small.register(&my_uid(), "own", 1).await;
    let (idle, streams) = memory(&small.agent_socket(), small.agent_pid()).await;
    drop(small);

    let large = Spire::start(programs).await;
    large.register(&my_uid(), "own", 1).await;
    large.register("unix:uid:4000000000", "other", MANY - 1).await;
    until_entitled(&large.agent_socket()).await;
    // Its agent asks for changes every five seconds, and signs in the background.
    sleep(Duration::from_secs(15)).await;
    let svids = resident(large.agent_pid());
    let (x509, jwt) = rates(&large.agent_socket()).await;
    Figures { x509, jwt, idle, svids, streams }
}

/// Resident memory with one SVID that nobody uses, and with that many streams, each on a connection
/// of its own.
async fn memory(socket: &Path, pid: u32) -> (f64, f64) {
    until_entitled(socket).await;
    sleep(REST).await;
    let idle = resident(pid);
    let mut open = Vec::with_capacity(MANY);
    for _ in 0..MANY {
        let workload = Workload::at(socket);
        let mut stream = workload.watch_x509().await.unwrap();
        stream.message().await.unwrap().unwrap();
        open.push((workload, stream));
    }
    sleep(REST).await;
    (idle, resident(pid))
}

async fn until_entitled(socket: &Path) {
    let deadline = Instant::now() + claviger_tests::process::PATIENCE;
    while Workload::at(socket).fetch_x509().await.is_err() {
        assert!(Instant::now() < deadline, "no SVID");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Calls per second of either kind, for each number of clients.
async fn rates(socket: &Path) -> ([f64; 2], [f64; 2]) {
    let (mut x509, mut jwt) = ([0.0; 2], [0.0; 2]);
    for (at, clients) in CLIENTS.into_iter().enumerate() {
        x509[at] = rate(socket, clients, fetch_x509).await;
        jwt[at] = rate(socket, clients, fetch_jwt).await;
    }
    (x509, jwt)
}

type Client = SpiffeWorkloadApiClient<Channel>;

async fn rate<F, O>(socket: &Path, clients: usize, call: F) -> f64
where
    F: Fn(Client) -> O + Copy + Send + 'static,
    O: Future<Output = ()> + Send + 'static,
{
    let socket = socket.to_owned();
    let measure = move || {
        let mut runtime = Builder::new_multi_thread();
        let runtime = runtime.worker_threads(clients.min(2)).enable_all().build().unwrap();
        runtime.block_on(async move {
            let mut tasks = JoinSet::new();
            for _ in 0..clients {
                tasks.spawn(rate_of_one(socket.clone(), call));
            }
            tasks.join_all().await.iter().sum()
        })
    };
    tokio::task::spawn_blocking(measure).await.unwrap()
}

async fn rate_of_one<F, O>(socket: PathBuf, call: F) -> f64
where
    F: Fn(Client) -> O,
    O: Future<Output = ()>,
{
    let endpoint = Endpoint::from_static("http://localhost");
    let channel = endpoint.connect_with_connector_lazy(connector(socket).unwrap());
    let client = SpiffeWorkloadApiClient::new(channel);
    // The first calls connect, and fill caches.
    for _ in 0..10 {
        call(client.clone()).await;
    }
    let (start, mut calls) = (Instant::now(), 0_u32);
    while start.elapsed() < SPAN {
        call(client.clone()).await;
        calls += 1;
    }
    f64::from(calls) / start.elapsed().as_secs_f64()
}

async fn fetch_x509(mut client: Client) {
    let request = Workload::request(X509svidRequest {});
    let mut stream = client.fetch_x509svid(request).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().svids.len(), 1);
}

async fn fetch_jwt(mut client: Client) {
    let request = JwtsvidRequest { audience: vec!["bench".to_owned()], spiffe_id: String::new() };
    let answer = client.fetch_jwtsvid(Workload::request(request)).await.unwrap();
    assert_eq!(answer.into_inner().svids.len(), 1);
}

/// The resident memory of a process, in MB.
fn resident(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib / 1_024.0
}

/// Prints one rate and whether it meets its target.
fn report_rate(what: &str, ours: f64, spire: f64) -> bool {
    let ratio = ours / spire;
    let met = FASTER <= ratio;
    let verdict = if met { "met" } else { "MISSED" };
    println!(
        "{what}: {ours:.0}/s, SPIRE {spire:.0}/s, {ratio:.1}x; target {FASTER:.0}x: {verdict}"
    );
    met
}

/// Prints one size and whether it meets its target.
fn report_memory(what: &str, ours: f64, spire: f64, target: f64) -> bool {
    let met = ours <= target;
    let verdict = if met { "met" } else { "MISSED" };
    println!(
        "resident, {what}: {ours:.1} MB, SPIRE {spire:.0} MB; target {target:.0} MB: {verdict}"
    );
    met
}

/// The release binary beside this benchmark, or the one that `CLAVIGER` names.
fn binary() -> PathBuf {
    programs("CLAVIGER").unwrap_or_else(|| {
        let deps = env::current_exe().unwrap();
        deps.ancestors().nth(2).unwrap().join("claviger")
    })
}

fn programs(name: &str) -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "the settings of a benchmark")]
    let named = env::var(name);
    named.ok().map(PathBuf::from)
}
