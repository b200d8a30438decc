use std::time::Duration;

use claviger_core::time::UnixTime;
use claviger_runtime::tasks::Drain;
use serde_json::{Value, json};
use tempfile::tempdir;

use super::*;
use crate::relay::Side;
use crate::route::Callers;

/// A way out that is only observed.
fn route() -> Outbound {
    let config = "[[outbound]]\nname = \"db\"\nlisten = \"127.0.0.1:1\"\nto = \"a:2\"\n\
                  peer = \"spiffe://example.org/db\"\nmode = \"observe\"\npurpose = \"query\"";
    let mut config = crate::config::Config::parse(config).unwrap();
    config.outbound.remove(0)
}

fn record(ended: &Ended) -> Record {
    let caller = Caller { pid: Some(7), uid: Some(0), id: None };
    let mut opened = Opened::outbound(&route(), caller, "a:2".to_owned());
    opened.observed(Some(&Err(Denied::Nobody)));
    opened.ended(ended, Moved { sent: 1, received: 2 }, UnixTime::from_secs(1_800_000_000))
}

#[tokio::test(start_paused = true)]
async fn a_record_says_who_what_and_how_it_ended() {
    let record = record(&Ended::Broken(Side::Local, std::io::ErrorKind::BrokenPipe.into()));
    let want = json!({
        "time": "2027-01-15T08:00:00Z",
        "route": "db",
        "direction": "outbound",
        "mode": "observe",
        "caller": { "pid": 7, "uid": 0 },
        "remote": "a:2",
        "purpose": "query",
        "observed": "denied: the agent knows this process by no identity",
        "sent": 1,
        "received": 2,
        "duration_ms": 0,
        "ended": "broken-local",
        "reason": "broken pipe",
    });
    assert_eq!(serde_json::to_value(&record).unwrap(), want);
    assert_eq!(route().callers, Callers::Known([].into()));
}

#[tokio::test]
async fn records_are_lines_in_the_file_before_the_shim_has_stopped() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("access.jsonl");
    let tasks = Tasks::default();
    let access = Access::open(Some(path.clone()), &tasks);
    access.write(&record(&Ended::Idle));
    tasks.stop();
    access.write(&record(&Ended::Stopped));
    drop(access);
    assert_eq!(tasks.drained(Duration::from_secs(10)).await, Drain::Clean);
    let lines = std::fs::read_to_string(path).unwrap();
    let ended: Vec<_> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["ended"].clone())
        .collect();
    assert_eq!(ended, ["idle", "stopped"]);
}

#[tokio::test]
async fn a_disk_that_does_not_keep_up_loses_records_and_holds_up_nobody() {
    let tasks = Tasks::default();
    let access = Access::open(Some("/nonexistent/access.jsonl".into()), &tasks);
    for _ in 0..10_000 {
        access.write(&record(&Ended::Idle));
    }
    drop(access);
    tasks.stop();
    assert_eq!(tasks.drained(Duration::from_secs(10)).await, Drain::Clean);
}
