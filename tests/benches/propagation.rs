//! How long from `entry create` to the SVID on a stream that is already open, and what the disk
//! alone would cost.
//!
//! The server, the agent and the workload share this machine, as they did when SPIRE was measured
//! (p50 3.78 s, p99 8.85 s). The figure of the day is a ratio to the disk's own sync, measured in
//! the same run, because both move with the machine.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::use_debug,
    reason = "a benchmark stops at the first surprise, and prints what it found"
)]

use std::env;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use claviger_proto::spire::server::entry::v1::entry_client::EntryClient;
use claviger_proto::spire::server::entry::v1::{BatchCreateEntryRequest, BatchDeleteEntryRequest};
use claviger_proto::spire::types::{Entry, Selector, Spiffeid};
use claviger_proto::workload::X509svidResponse;
use claviger_runtime::unix::connector;
use claviger_tests::bench::percentile;
use claviger_tests::process::{Claviger, Dev, my_uid};
use claviger_tests::workload::Workload;
use tempfile::tempdir;
use tokio::time::{Instant, timeout};
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

const ROUNDS: usize = 500;
const TARGET: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> ExitCode {
    let claviger = Claviger::at(binary());
    let dev = Dev::start(&claviger).await;
    let parent = dev.admin(&["agent", "list"]).await;
    let bench = Bench {
        entries: entries(&dev),
        parent: parent["agents"][0]["spiffe_id"].as_str().unwrap().to_owned(),
    };
    // The stream needs an identity to stay open.
    bench.create("base").await;
    let mut stream = open(&dev).await;

    let mut create = Vec::with_capacity(ROUNDS);
    let mut withdraw = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let start = Instant::now();
        let id = bench.create(&format!("w{round}")).await;
        message_with(&mut stream, 2).await;
        create.push(start.elapsed());

        let start = Instant::now();
        bench.delete(id).await;
        message_with(&mut stream, 1).await;
        withdraw.push(start.elapsed());
    }
    let mut syncs = syncs();
    syncs.sort_unstable();
    let sync = percentile(&syncs, 50);

    println!("one machine, {ROUNDS} rounds; the disk's own append + sync: p50 {sync:.1?}");
    let met = [
        report("entry created -> SVID on an open stream", &mut create, sync),
        report("entry deleted -> SVID withdrawn from it", &mut withdraw, sync),
    ];
    let (status, _dir) = dev.stop().await;
    if status.success() && met.iter().all(|met| *met) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
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
    entries: EntryClient<Channel>,
    parent: String,
}

impl Bench {
    async fn create(&self, name: &str) -> String {
        let uid = my_uid();
        let (kind, value) = uid.split_once(':').unwrap();
        let entry = Entry {
            spiffe_id: Some(spiffe_id(&format!("/{name}"))),
            parent_id: Some(spiffe_id(self.parent.strip_prefix("spiffe://example.org").unwrap())),
            selectors: vec![Selector { r#type: kind.to_owned(), value: value.to_owned() }],
            ..Entry::default()
        };
        let request = BatchCreateEntryRequest { entries: vec![entry], output_mask: None };
        let answer = self.entries.clone().batch_create_entry(request).await.unwrap().into_inner();
        let result = answer.results.into_iter().next().unwrap();
        result.entry.expect("entry is created").id
    }

    async fn delete(&self, id: String) {
        let request = BatchDeleteEntryRequest { ids: vec![id] };
        self.entries.clone().batch_delete_entry(request).await.unwrap();
    }
}

fn spiffe_id(path: &str) -> Spiffeid {
    Spiffeid { trust_domain: "example.org".to_owned(), path: path.to_owned() }
}

fn entries(dev: &Dev) -> EntryClient<Channel> {
    let endpoint = Endpoint::from_static("http://localhost");
    let socket = connector(dev.server_socket.clone()).unwrap();
    EntryClient::new(endpoint.connect_with_connector_lazy(socket))
}

/// A stream whose first message, with one SVID, was read.
async fn open(dev: &Dev) -> Streaming<X509svidResponse> {
    let workload = Workload::at(&dev.agent_socket);
    let start = Instant::now();
    loop {
        if let Ok(mut stream) = workload.watch_x509().await
            && let Ok(Some(_first)) = stream.message().await
        {
            return stream;
        }
        assert!(start.elapsed() < PATIENCE, "no first SVID");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn message_with(stream: &mut Streaming<X509svidResponse>, svids: usize) {
    loop {
        let message = timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap();
        if message.svids.len() == svids {
            return;
        }
    }
}

/// What the machine itself takes to make 4 KiB durable.
fn syncs() -> Vec<Duration> {
    let dir = tempdir().unwrap();
    let mut file = File::create(dir.path().join("sync")).unwrap();
    let append = |_round| {
        let start = Instant::now();
        file.write_all(&[0; 4_096]).unwrap();
        file.sync_data().unwrap();
        start.elapsed()
    };
    (0..ROUNDS).map(append).collect()
}

/// Prints one figure and whether it meets its target.
fn report(what: &str, samples: &mut [Duration], sync: Duration) -> bool {
    samples.sort_unstable();
    let [p50, p90, p99] = [50, 90, 99].map(|percent| percentile(samples, percent));
    let ratio = p50.as_secs_f64() / sync.as_secs_f64();
    let verdict = if p99 < TARGET { "met" } else { "MISSED" };
    println!(
        "{what}: p50 {p50:.1?} ({ratio:.1}x sync), p90 {p90:.1?}, p99 {p99:.1?}; \
         target p99 < {TARGET:?}: {verdict}"
    );
    p99 < TARGET
}
