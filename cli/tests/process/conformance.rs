//! `claviger conformance`, against this very program and against one that says nothing.

use std::ffi::OsStr;
use std::path::Path;

use claviger_tests::process::{Dev, PATIENCE, my_uid};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::time::{Instant, sleep};

use crate::claviger;

/// The report on a world whose operator did what the suite asks for.
async fn report(dev: &Dev, foreign: &Path) -> Value {
    let socket = format!("unix://{}", dev.agent_socket.display());
    let run = [OsStr::new("conformance"), OsStr::new("--output"), OsStr::new("json")];
    let here = [OsStr::new("--socket"), OsStr::new(&socket)];
    let with = [OsStr::new("--foreign-domain"), foreign.as_os_str()];
    let output = claviger().run(run.iter().chain(&here).chain(&with)).await;
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.success(), report.get("failed").unwrap() == 0, "{report:#}");
    report
}

/// Every check of the report that ended so.
fn ended<'a>(report: &'a Value, outcome: &str) -> Vec<&'a Value> {
    let checks = report.get("checks").and_then(Value::as_array).unwrap().iter();
    checks.filter(|check| check.get("outcome").unwrap() == outcome).collect()
}

#[tokio::test]
async fn what_dev_serves_conforms() {
    let dev = Dev::start(&claviger()).await;
    let dir = TempDir::new().unwrap();
    let foreign = dir.path().join("foreign");
    let bundle = foreign.join("bundle.json");
    let first = report(&dev, &foreign).await;
    assert_eq!(first["advice"], serde_json::json!(["register"]), "{first:#}");

    let (td, uid) = ("spiffe://conformance.test", my_uid());
    let path = bundle.to_str().unwrap();
    dev.admin(&["bundle", "set", "--format", "spiffe", "--id", td, "--path", path]).await;
    for name in ["web", "batch"] {
        let id = format!("spiffe://example.org/{name}");
        let entry = ["entry", "create", "--spiffe-id", &id, "--selector", &uid, "--hint", name];
        dev.admin(&[&entry[..], &["--federates-with", td, "--wait"]].concat()).await;
    }

    let deadline = Instant::now() + PATIENCE;
    let report = loop {
        let report = report(&dev, &foreign).await;
        // Until the foreign bundle has reached the agent, there is something to advise.
        if report["advice"] == serde_json::json!([]) || deadline < Instant::now() {
            break report;
        }
        sleep(std::time::Duration::from_millis(50)).await;
    };
    assert!(ended(&report, "failed").is_empty(), "{:#?}", ended(&report, "failed"));
    assert_eq!(report["advice"], serde_json::json!([]), "{report:#}");
    // All three profiles; the rest is what no socket shows, and what may be left out.
    let passed = ended(&report, "passed");
    let passed: Vec<_> = passed.iter().map(|check| check["number"].as_u64().unwrap()).collect();
    let whole = (1..=3).chain(5..=8).chain(10..=30).chain(33..=46);
    for number in whole.chain([49, 50, 52, 55, 56, 58, 59]) {
        assert!(passed.contains(&number), "{number}: {report:#}");
    }
}

#[tokio::test]
async fn a_socket_where_nobody_answers_fails_at_once() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("silent.sock");
    // It is listened to, and nothing is ever accepted.
    let _listener = UnixListener::bind(&path).unwrap();
    let socket = path.to_str().unwrap();
    let start = Instant::now();
    let output = claviger().run(["conformance", "--socket", socket, "--patience", "1"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(start.elapsed() < PATIENCE / 4, "{:?}", start.elapsed());
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.ends_with("0 passed, 1 failed, 65 not observable\n"), "{out}");
}

#[tokio::test]
async fn no_socket_is_told_with_advice() {
    let output = claviger().run(["conformance", "--socket", "unix:///nonexistent.sock"]).await;
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("/nonexistent.sock") && errors.contains("hint:"), "{errors}");
    let output = claviger().run(["conformance", "--socket", "tcp://example.org:1"]).await;
    assert_eq!(output.status.code(), Some(2));
}
