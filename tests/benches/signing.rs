//! How many SVIDs a server signs, and what processor time each takes it: from the request of an agent
//! on its TLS connection to the answer, with the policy's decision, the durable record and the
//! signature in between.
//!
//! Server and clients share this machine, as they did when SPIRE was measured. The bare signature,
//! measured in the same run, is what no server can be faster than.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark stops at the first surprise, and prints what it found"
)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{env, fs};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use claviger_core::id::SpiffeId;
use claviger_core::time::SystemClock;
use claviger_proto::spire::server::agent::v1::agent_client::AgentClient;
use claviger_proto::spire::server::agent::v1::{
    AgentX509svidParams, AttestAgentRequest, attest_agent_request, attest_agent_response,
};
use claviger_proto::spire::server::svid::v1::svid_client::SvidClient;
use claviger_proto::spire::server::svid::v1::{
    BatchNewX509svidRequest, NewJwtsvidRequest, NewX509svidParams,
};
use claviger_proto::spire::types::AttestationData;
use claviger_runtime::tls::{Identity, Svid, TrustBundle, client_config, connector};
use claviger_tests::process::{Claviger, Deployment};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::CertificateDer;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

/// How long each figure is measured.
const SPAN: Duration = Duration::from_secs(3);

/// SPIRE's `NewJWTSVID`, 8 clients: server processor time for each, in microseconds.
const SPIRE_JWT: f64 = 253.0;
/// SPIRE's `BatchNewX509SVID` of 500, 2 clients: the same for each SVID.
const SPIRE_X509: f64 = 270.0;

const TARGET_JWT: f64 = 40.0;
const TARGET_X509: f64 = 80.0;

const BATCH: usize = 500;

#[tokio::main]
async fn main() -> ExitCode {
    let deployment = Deployment::start(&Claviger::at(binary())).await;
    let agent = Agent::attest(&deployment).await;
    let entry = agent.entry(&deployment).await;
    let pid = deployment.server_pid();
    println!("one machine; a bare ECDSA P-256 signature takes {:.1} µs", bare_signature());

    let jwt = {
        let (svids, entry) = (agent.svids(), entry.clone());
        measure(pid, 8, 1, move || jwt(svids.clone(), entry.clone())).await
    };
    let x509 = {
        let svids = agent.svids();
        let csr = csr(&KeyPair::generate().unwrap());
        measure(pid, 2, BATCH, move || x509(svids.clone(), entry.clone(), csr.clone())).await
    };
    let met = [
        report("NewJWTSVID, 8 clients", jwt, TARGET_JWT, SPIRE_JWT),
        report("BatchNewX509SVID of 500, 2 clients", x509, TARGET_X509, SPIRE_X509),
    ];
    if met.iter().all(|met| *met) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the server did in a span.
#[derive(Clone, Copy)]
struct Figure {
    per_second: f64,
    /// Processor time of the server for each, in microseconds.
    micros: f64,
}

fn report(what: &str, figure: Figure, target: f64, spire: f64) -> bool {
    let Figure { per_second, micros } = figure;
    let met = micros <= target;
    let verdict = if met { "met" } else { "NOT met" };
    println!(
        "{what}: {per_second:.0} /s, {micros:.1} µs of the server each; target {target:.0} µs: \
         {verdict}; SPIRE {spire:.0} µs, {:.1} times as much",
        spire / micros
    );
    met
}

/// Lets `clients` call for a while; each call counts for `each`.
async fn measure<F, O>(pid: u32, clients: usize, each: usize, call: F) -> Figure
where
    F: Fn() -> O + Clone + Send + 'static,
    O: Future<Output = ()> + Send,
{
    let done = Arc::new(AtomicU64::new(0));
    // What is made once, such as connections and caches, is made before.
    call().await;
    let (start, before) = (Instant::now(), processor_micros(pid));
    let mut running = JoinSet::new();
    for _ in 0..clients {
        let (call, done) = (call.clone(), Arc::clone(&done));
        running.spawn(async move {
            while start.elapsed() < SPAN {
                call().await;
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    running.join_all().await;
    let (span, spent) = (start.elapsed(), processor_micros(pid) - before);
    let done = u32::try_from(done.load(Ordering::Relaxed)).unwrap();
    let count = f64::from(done) * f64::from(u32::try_from(each).unwrap());
    Figure { per_second: count / span.as_secs_f64(), micros: spent / count }
}

async fn jwt(mut svids: SvidClient<Channel>, entry_id: String) {
    let request = NewJwtsvidRequest { entry_id, audience: vec!["db".to_owned()] };
    assert!(svids.new_jwtsvid(request).await.unwrap().into_inner().svid.is_some());
}

async fn x509(mut svids: SvidClient<Channel>, entry_id: String, csr: Vec<u8>) {
    let params = vec![NewX509svidParams { entry_id, csr }; BATCH];
    let request = BatchNewX509svidRequest { params };
    let results = svids.batch_new_x509svid(request).await.unwrap().into_inner().results;
    assert!(results.len() == BATCH && results.iter().all(|result| result.svid.is_some()));
}

/// What a signature takes by itself, in microseconds.
fn bare_signature() -> f64 {
    const ROUNDS: u32 = 20_000;
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let random = SystemRandom::new();
    let start = Instant::now();
    for _ in 0..ROUNDS {
        assert_eq!(pair.sign(&random, &[7; 256]).unwrap().as_ref().len(), 64);
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS)
}

/// The processor time that a process has taken, in microseconds: its own and the kernel's for it.
/// The kernel counts in hundredths of a second (proc(5)).
fn processor_micros(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // Fields are counted after the name, which may hold anything.
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u32 = fields[11].parse::<u32>().unwrap() + fields[12].parse::<u32>().unwrap();
    f64::from(ticks) * 1e4
}

/// An agent that is this program.
struct Agent {
    id: SpiffeId,
    channel: Channel,
}

impl Agent {
    async fn attest(deployment: &Deployment) -> Self {
        let token = deployment.admin(&["token", "generate"]).await;
        let token = token["value"].as_str().unwrap().as_bytes().to_vec();
        let key = KeyPair::generate().unwrap();
        let params = attest_agent_request::Params {
            data: Some(AttestationData { r#type: "join_token".to_owned(), payload: token }),
            params: Some(AgentX509svidParams { csr: csr(&key) }),
        };
        let step = Some(attest_agent_request::Step::Params(params));
        let request = tokio_stream::iter([AttestAgentRequest { step }]);
        let mut stranger = AgentClient::new(connect(deployment, None));
        let mut answers = stranger.attest_agent(request).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap().step.unwrap();
        let svid = match answer {
            attest_agent_response::Step::Result(result) => result.svid,
            attest_agent_response::Step::Challenge(_) => None,
        };
        let svid = svid.expect("join tokens need no challenge");
        let wire = svid.id.unwrap();
        let id = format!("spiffe://{}{}", wire.trust_domain, wire.path).parse().unwrap();
        let chain = svid.cert_chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        let identity = Identity::new(Svid::new(chain, &key.serialize_der()).unwrap());
        Self { id, channel: connect(deployment, Some(&identity)) }
    }

    /// The id of an entry of this agent's.
    async fn entry(&self, deployment: &Deployment) -> String {
        let parent = self.id.to_string();
        let id = ["--spiffe-id", "spiffe://example.org/web", "--parent-id", &parent];
        let made = [&["entry", "create", "--selector", "unix:uid:1"][..], &id].concat();
        let made = deployment.admin(&made).await;
        made["entries"][0]["entry_id"].as_str().unwrap().to_owned()
    }

    fn svids(&self) -> SvidClient<Channel> {
        SvidClient::new(self.channel.clone())
    }
}

/// To the server, as `identity` or as nobody.
fn connect(deployment: &Deployment, identity: Option<&Identity>) -> Channel {
    let pems = pem::parse_many(deployment.bundle()).unwrap();
    let ders: Vec<_> =
        pems.into_iter().map(|pem| CertificateDer::from(pem.into_contents())).collect();
    let bundle = TrustBundle::new("example.org".parse().unwrap(), &ders).unwrap();
    let server = "spiffe://example.org/spire/server".parse().unwrap();
    let tls = client_config(identity, &bundle, server, Arc::new(SystemClock));
    let address = deployment.server_address().parse().unwrap();
    Endpoint::from_static("http://server").connect_with_connector_lazy(connector(address, tls))
}

fn csr(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
}

fn binary() -> PathBuf {
    env::var_os("CLAVIGER").map_or_else(
        || {
            let deps = env::current_exe().unwrap();
            deps.ancestors().nth(2).unwrap().join("claviger")
        },
        PathBuf::from,
    )
}
