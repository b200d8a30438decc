//! How long it takes to find out about a process: what its kernel says, with its program's digest
//! remembered; and which of 200 pods it is in, from its number to the selectors.
//!
//! The pod's control group is a real one, made for the time of the measurement: that takes root.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark stops at the first surprise, and prints what it found"
)]

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::sync::Arc;
use std::thread;

use claviger_attestors::cgroup::Viewpoint;
use claviger_attestors::k8s;
use claviger_attestors::unix;
use claviger_attestors::workload::{Caller, Process, WorkloadAttestor};
use claviger_core::selector::Selectors;
use claviger_core::time::SystemClock;
use claviger_tests::bench::report;
use tokio::time::Instant;

const ROUNDS: u32 = 20_000;
const PODS: u32 = 200;

/// In microseconds.
const TARGET_UNIX: f64 = 50.0;
const TARGET_K8S: f64 = 100.0;

#[tokio::main]
async fn main() -> ExitCode {
    let mut waiting = Waiting::start();
    let caller = waiting.caller();
    let unix = measure_unix(caller).await;
    let group = match Group::of_a_pod(&pod_uid(7), &container_id(7)) {
        Ok(group) => group,
        Err(error) => {
            println!("k8s: NOT measured: no control group can be made here ({error}); be root");
            return ExitCode::FAILURE;
        }
    };
    group.take_in(waiting.0.id());
    let k8s = measure_k8s(caller).await;
    waiting.end();
    let met = [
        report_micros("unix, the program's digest remembered", unix, TARGET_UNIX),
        report_micros(&format!("k8s, one of {PODS} pods"), k8s, TARGET_K8S),
    ];
    if met.iter().all(|met| *met) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn report_micros(what: &str, micros: f64, target: f64) -> bool {
    report(what, &format!("{micros:.1} µs"), &format!("{target:.0} µs"), micros <= target)
}

async fn measure_unix(caller: Caller) -> f64 {
    let attestor = unix::Attestor::new(unix::Config::default(), Arc::new(SystemClock));
    let facts = || attestor.attest(caller, || false);
    assert!(names(&facts().await.unwrap(), "unix:sha256:"));
    mean(async || drop(facts().await.unwrap())).await
}

async fn measure_k8s(caller: Caller) -> f64 {
    let kubelet = k8s::KubeletConfig {
        address: format!("http://{}", serve(pod_list())),
        ca_path: None,
        token_path: None,
        client_certificate_path: None,
        client_key_path: None,
    };
    let config = k8s::Config { kubelet: Some(kubelet), ..k8s::Config::default() };
    let (attestor, _none) = k8s::Attestor::open(&config).await.unwrap();
    let viewpoint = Arc::new(Viewpoint::own().unwrap());
    let facts = async || {
        let process = Process::open(caller, &viewpoint).unwrap();
        let facts = attestor.facts(&process).await.unwrap();
        process.unchanged().unwrap();
        facts
    };
    // The first asks the kubelet; from then on, the index answers.
    assert!(names(&facts().await, "k8s:pod-name:web-7"));
    mean(async || drop(facts().await)).await
}

/// How long one of many rounds takes, in microseconds.
async fn mean(round: impl AsyncFn()) -> f64 {
    let start = Instant::now();
    for _ in 0..ROUNDS {
        round().await;
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS)
}

fn names(facts: &Selectors, beginning: &str) -> bool {
    facts.iter().any(|fact| fact.to_string().starts_with(beginning))
}

fn pod_uid(number: u32) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

fn container_id(number: u32) -> String {
    format!("{number:064x}")
}

fn pod_list() -> String {
    let pods: Vec<_> = (0..PODS).map(pod).collect();
    serde_json::json!({ "kind": "PodList", "apiVersion": "v1", "items": pods }).to_string()
}

fn pod(number: u32) -> serde_json::Value {
    let labels: serde_json::Map<_, _> =
        (0..10).map(|label| (format!("label-{label}"), format!("value-{number}").into())).collect();
    serde_json::json!({
        "metadata": {
            "name": format!("web-{number}"), "namespace": "shop", "uid": pod_uid(number),
            "labels": labels,
            "ownerReferences": [
                { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "owner" },
            ],
        },
        "spec": { "nodeName": "node-1", "serviceAccountName": "seller", "containers": [] },
        "status": { "containerStatuses": [{
            "name": "web", "image": "docker.io/web:1", "imageID": "docker.io/web@sha256:aa",
            "containerID": format!("containerd://{}", container_id(number)),
            "ready": true, "restartCount": 0,
        }] },
    })
}

/// A kubelet, for one question.
fn serve(list: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert_ne!(stream.read(&mut [0; 2_048]).unwrap(), 0);
        let length = list.len();
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{list}").unwrap();
    });
    address
}

/// A process that does nothing.
struct Waiting(Child);

impl Waiting {
    fn start() -> Self {
        Self(Command::new("sleep").arg("600").spawn().unwrap())
    }

    fn caller(&self) -> Caller {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        Caller { pid: self.0.id(), uid, gid, since: None }
    }

    fn end(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A control group, and those above it that had to be made; gone when dropped, if it is empty.
struct Group(Vec<PathBuf>);

impl Group {
    /// In the hierarchy of version 2, or one of version 1, whatever can be written to.
    fn of_a_pod(uid: &str, container: &str) -> io::Result<Self> {
        let mut last = io::Error::other("there is no hierarchy of control groups");
        for root in ["/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids", "/sys/fs/cgroup"] {
            if !Path::new(root).join("cgroup.procs").exists() {
                continue;
            }
            let pod = format!("pod{uid}");
            match Self::make(Path::new(root), &["kubepods", "burstable", &pod, container]) {
                Ok(group) => return Ok(group),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn make(root: &Path, names: &[&str]) -> io::Result<Self> {
        let mut made = Self(Vec::new());
        let mut path = root.to_owned();
        for name in names {
            path.push(name);
            match fs::create_dir(&path) {
                Ok(()) => made.0.push(path.clone()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Ok(made)
    }

    fn take_in(&self, pid: u32) {
        fs::write(self.0.last().unwrap().join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            // The kernel needs a moment to see that nobody is in it; what is left is empty.
            if fs::remove_dir(path).is_err() {
                println!("left behind: {}", path.display());
                return;
            }
        }
    }
}
