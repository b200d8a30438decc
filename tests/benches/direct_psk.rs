//! From a CI job's token to a one-time key: one HTTPS call, with everything that it takes. Each call
//! connects anew, shakes hands in full and presents a token of its own; the server verifies it, uses
//! it up, decides, and has both records on disk before it answers.
//!
//! Server and client share the machine; the client is not counted out.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark stops at the first surprise, and prints what it found"
)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs};

use claviger_core::time::SystemClock;
use claviger_runtime::tls::{TrustBundle, own_web_client_config};
use claviger_tests::bench::{millis, percentile};
use claviger_tests::ci::{AUDIENCE, GITHUB, Issuer, github_job};
use claviger_tests::process::{Claviger, Deployment, free_port, my_uid};
use rustls_pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

/// One after the other, so that each has the machine for itself.
const CALLS: u64 = 1_000;
/// Before the figures: caches are filled, and the kernel knows the way.
const WARM_UP: u64 = 100;

const TARGET: Duration = Duration::from_millis(5);

const BODY: &str = r#"{"peer":"spiffe://example.org/artifacts","purpose":"upload"}"#;

#[tokio::main]
async fn main() -> ExitCode {
    let (dir, issuer, port) = (TempDir::new().unwrap(), Issuer::default(), free_port());
    let keys = dir.path().join("jwks.json");
    fs::write(&keys, issuer.jwks()).unwrap();
    let config = format!(
        "[public]\nlisten = \"127.0.0.1:{port}\"\nhosts = [\"localhost\"]\ndirect = true\n\
         [attestors.oidc.github]\nissuer = \"{GITHUB}\"\naudience = \"{AUDIENCE}\"\n\
         profile = \"github\"\nrequire = {{ repository_owner = [\"acme\"] }}\n\
         jwks-file = \"{}\"\n",
        keys.display()
    );
    let claviger = Claviger::at(binary());
    let deployment = Deployment::start_configured(&claviger, &claviger, &config).await;
    register(&deployment).await;
    let client = Client::new(&deployment, port);

    for number in 0..WARM_UP {
        client.call(&issuer.token(&github_job(number, 1), AUDIENCE)).await;
    }
    let (mut calls, mut handshakes) = (Vec::new(), Vec::new());
    for number in 0..CALLS {
        let token = issuer.token(&github_job(number, 2), AUDIENCE);
        let (handshake, call) = client.call(&token).await;
        calls.push(call);
        handshakes.push(handshake);
    }
    calls.sort_unstable();
    handshakes.sort_unstable();
    let (p50, p99) = (percentile(&calls, 50), percentile(&calls, 99));
    let met = p99 <= TARGET;
    println!(
        "direct PSK, {CALLS} calls one after the other, each with its own connection and full TLS 1.3 \
         handshake (X25519MLKEM768): p50 {:.2} ms, p99 {:.2} ms, of which the handshake p50 {:.2} ms, \
         p99 {:.2} ms; target p99 {:.2} ms: {}",
        millis(p50),
        millis(p99),
        millis(percentile(&handshakes, 50)),
        millis(percentile(&handshakes, 99)),
        millis(TARGET),
        if met { "met" } else { "NOT MET" },
    );
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn register(deployment: &Deployment) {
    let artifacts = ["--spiffe-id", "spiffe://example.org/artifacts", "--selector", &my_uid()];
    deployment.admin(&[&["entry", "create"][..], &artifacts].concat()).await;
    let job = ["--spiffe-id", "spiffe://example.org/ci/app", "--node"];
    let facts = ["--selector", "oidc:repository:acme/app", "--selector", "oidc:fork:false"];
    deployment.admin(&[&["entry", "create"][..], &job, &facts].concat()).await;
}

/// A job, as often as it is asked.
struct Client {
    tls: TlsConnector,
    port: u16,
}

impl Client {
    fn new(deployment: &Deployment, port: u16) -> Self {
        let pems = pem::parse_many(deployment.bundle()).unwrap();
        let ders: Vec<_> =
            pems.into_iter().map(|pem| CertificateDer::from(pem.into_contents())).collect();
        let bundle = TrustBundle::new("example.org".parse().unwrap(), &ders).unwrap();
        let server = "spiffe://example.org/spire/server".parse().unwrap();
        // Offers no resumption, as every client of ours; and the server gives no tickets.
        let tls = own_web_client_config(&bundle, server, Arc::new(SystemClock)).into();
        Self { tls, port }
    }

    /// How long the handshake took, and all of it.
    async fn call(&self, token: &str) -> (Duration, Duration) {
        let request = format!(
            "POST /v1/psk HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             authorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n{BODY}",
            BODY.len()
        );
        let begun = Instant::now();
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = self.tls.connect(name, tcp).await.unwrap();
        let handshake = begun.elapsed();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let whole = begun.elapsed();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{}", answer.lines().next().unwrap());
        assert!(answer.contains("\"run\":\"github:"));
        (handshake, whole)
    }
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
