//! The facts, and a containerd that is away. The real one is in `tests/interop/containerd`.

use std::sync::Arc;

use tempfile::tempdir;

use super::*;
use crate::cgroup::{ContainerId, Viewpoint};
use crate::workload::Caller;

const ID: &str = "9bca8d63d5fa610783847915bcff0ecac1273e5b4bed3f6fa1b07350e0135961";

fn told() -> Told {
    let labels = [("app", "billing"), ("a:b", "c"), ("odd", "x\ny"), ("tier", "")];
    Told {
        main_pid: 7,
        namespace: "default".to_owned(),
        image: "localhost/billing:1".to_owned(),
        image_digest: Some("sha256:aa".to_owned()),
        labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
    }
}

#[test]
fn what_is_told_becomes_facts_that_cannot_be_mistaken() {
    let facts: Vec<_> = facts_of(&told()).iter().map(ToString::to_string).collect();
    let want = [
        "containerd:image:localhost/billing:1",
        "containerd:image_digest:sha256:aa",
        "containerd:label:app:billing",
        "containerd:label:tier:",
        "containerd:namespace:default",
    ];
    assert_eq!(facts, want);
    let bare = Told { image: String::new(), image_digest: None, ..told() };
    assert!(facts_of(&bare).iter().all(|fact| fact.name() != "image"));
}

#[tokio::test]
async fn a_containerd_that_is_away_is_named() {
    let dir = tempdir().unwrap();
    let socket = dir.path().join("containerd.sock");
    let id = ContainerId::parse(ID).unwrap();
    let error = engine::ask(&socket, &["default".to_owned()], &id).await.unwrap_err();
    assert!(matches!(error, FactsError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("containerd.sock does not answer"), "{error}");
}

#[tokio::test]
async fn a_process_in_no_container_costs_no_question() {
    let attestor = Attestor::new(Config::default());
    let caller = Caller { pid: std::process::id(), uid: 0, gid: 0, since: None };
    let viewpoint = Arc::new(Viewpoint::own().unwrap());
    let process = Process::open(caller, &viewpoint).unwrap();
    assert_eq!(attestor.facts(&process).await.unwrap(), Selectors::new());
}

#[test]
fn settings_that_ask_nobody_are_refused() {
    let problems = |text: &str| toml::from_str::<Config>(text).unwrap().problems();
    assert_eq!(problems(""), []);
    for wrong in ["socket-path = \"run/c.sock\"", "namespaces = []", "namespaces = [\"a/b\"]"] {
        assert_eq!(problems(wrong).len(), 1, "{wrong}");
    }
}
