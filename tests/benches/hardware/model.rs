//! Hashing the weights of a model: the first time, beside the same hash of as many bytes in memory; and
//! every other time.

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, Digest, SHA256, digest};
use claviger_attestors::cgroup::Viewpoint;
use claviger_attestors::dsse::{Algorithm, Envelope, SigningKey};
use claviger_attestors::model::{Attestor, Config};
use claviger_attestors::workload::{Caller, Process, WorkloadAttestor as _};
use claviger_core::time::{Clock, SystemClock, UnixTime};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use tempfile::{TempDir, tempdir};

use crate::Report;

/// What a piece of the weights holds, and how many pieces they are: 1 GiB.
static PIECE: [u8; 1 << 20] = [0x5a; 1 << 20];
const PIECES: u32 = 1 << 10;

/// What it may take: 1 GB/s, and nothing to speak of once it is known.
const FIRST: Duration = Duration::from_millis(1_074);
const SECOND: Duration = Duration::from_millis(5);

/// A clock for which the file has not just changed, which would keep it from being remembered.
#[derive(Debug)]
struct Later;

impl Clock for Later {
    fn now(&self) -> UnixTime {
        SystemClock.now().after(Duration::from_secs(60))
    }
}

pub(crate) fn measure(report: &mut Report) {
    let (dir, config) = model();
    let clock: Arc<dyn Clock> = Arc::new(Later);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (attestor, _watch) = Attestor::open(&config, &clock).unwrap();
        let weights = File::open(dir.path().join("model.safetensors")).unwrap();
        let viewpoint = Arc::new(Viewpoint::own().unwrap());
        let caller = Caller { pid: std::process::id(), uid: 0, gid: 0, since: None };
        let process = Process::open(caller, &viewpoint).unwrap();
        let look = async || {
            let begin = now();
            let facts = attestor.facts(&process).await.unwrap();
            assert!(facts.contains(&"model:name:weights".parse().unwrap()));
            now() - begin
        };
        let (first, second) = (look().await, look().await);
        let begin = now();
        assert_eq!(hash(|_| ()).as_ref().len(), 32);
        let memory = now() - begin;
        report.compare("model, 1 GiB in the page cache, first look", FIRST, first, memory);
        report.compare("model, 1 GiB, every other look", SECOND, second, memory);
        drop(weights);
    });
}

/// A folder with weights and a signed manifest of them, and settings that know it.
fn model() -> (TempDir, Config) {
    let dir = tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let mut weights = File::create(dir.path().join("model.safetensors")).unwrap();
    let whole = hash(|piece| weights.write_all(piece).unwrap());
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{
            "name": "weights",
            "digest": { "sha256": hex(&digest(&SHA256, whole.as_ref())) },
        }],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": { "method": "files" },
            "resources": [{
                "name": "model.safetensors",
                "algorithm": "sha256",
                "digest": hex(&whole),
            }],
        },
    });
    let signer = SigningKey::generate(Algorithm::EcdsaP256).unwrap();
    let key = write("publisher.pem", signer.public_pem().unwrap());
    let payload = statement.to_string();
    let kind = "application/vnd.in-toto+json";
    let envelope = Envelope::seal(kind, payload.as_bytes(), &[signer]).unwrap();
    let bundle = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "dsseEnvelope": envelope,
    });
    let manifest = write("model.sig", bundle.to_string());
    let patterns = vec![format!("{}/*.safetensors", dir.path().display())];
    (dir, Config { patterns, ..Config::new(vec![manifest], vec![key]) })
}

/// The digest of the weights, each piece of which is shown to `seen`.
fn hash(mut seen: impl FnMut(&[u8])) -> Digest {
    let mut context = Context::new(&SHA256);
    for _ in 0..PIECES {
        seen(&PIECE);
        context.update(&PIECE);
    }
    context.finish()
}

fn hex(digest: &Digest) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The time that has passed, not that of the processor: who attests waits for it.
fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
}
