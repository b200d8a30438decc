//! Federation by hand: two trust domains that exchange their bundles.

use std::process::Stdio;
use std::time::Duration;

use claviger_tests::process::{Dev, my_uid};
use claviger_tests::workload::Workload;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::claviger;

const OTHER: &str = "spiffe://other.org";

#[tokio::test]
async fn a_workload_has_the_other_bundle_the_moment_it_is_set() {
    let dev = Dev::start(&claviger()).await;
    let id = "spiffe://example.org/web";
    let entry = ["--spiffe-id", id, "--selector", &my_uid(), "--federates-with", "other.org"];
    dev.admin(&[&["entry", "create", "--wait"], entry.as_slice()].concat()).await;
    let mut stream = Workload::at(&dev.agent_socket).watch_x509().await.unwrap();
    let first = stream.message().await.unwrap().unwrap();
    assert!(first.federated_bundles.is_empty());

    // Any bundle will do: our own, under another name.
    let socket = dev.server_socket.to_str().unwrap();
    let own = claviger().run(["bundle", "show", "--socket-path", socket]).await.stdout;
    let set = ["bundle", "set", "-id", OTHER, "-path", "-", "--socket-path", socket];
    let mut set = claviger().command(set).stdin(Stdio::piped()).spawn().unwrap();
    set.stdin.take().unwrap().write_all(&own).await.unwrap();
    assert!(set.wait().await.unwrap().success());
    let next = tokio::time::timeout(Duration::from_secs(10), stream.message()).await.unwrap();
    let next = next.unwrap().unwrap();
    let names: Vec<_> = next.federated_bundles.keys().map(String::as_str).collect();
    assert_eq!(names, [OTHER]);
    assert_eq!(next.federated_bundles[OTHER], next.svids[0].bundle);

    let listed = dev.admin(&["bundle", "list"]).await;
    assert_eq!(listed["bundles"][0]["trust_domain"], "other.org");
    assert_eq!(dev.admin(&["bundle", "count"]).await, json!({"count": 2}));
    let pem = ["bundle", "list", "--id", OTHER, "--format", "pem", "--socket-path", socket];
    assert_eq!(claviger().run(pem).await.stdout, own);

    let delete = ["bundle", "delete", "--id", "other.org", "--socket-path", socket];
    let refused = claviger().run(delete).await;
    assert_eq!(refused.status.code(), Some(1));
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("1 entry federates with `other.org`"), "{told}");
    dev.admin(&["bundle", "delete", "--id", "other.org", "--mode", "dissociate"]).await;
    let last = tokio::time::timeout(Duration::from_secs(10), stream.message()).await.unwrap();
    assert!(last.unwrap().unwrap().federated_bundles.is_empty());
}

#[tokio::test]
async fn a_bundle_that_is_missing_is_remarked_upon() {
    let dev = Dev::start(&claviger()).await;
    let create = ["entry", "create", "--spiffe-id", "spiffe://example.org/web", "--selector"];
    let with = ["unix:uid:1", "--federates-with", "other.org", "--socket-path"];
    let socket = dev.server_socket.to_str().unwrap();
    let created = claviger().run(create.iter().chain(&with).chain(&[socket])).await;
    assert!(created.status.success());
    let told = String::from_utf8(created.stderr).unwrap();
    assert!(told.contains("no bundle of `other.org` yet"), "{told}");
}

#[tokio::test]
async fn waiting_for_nobody_is_over_at_once() {
    let dev = Dev::start(&claviger()).await;
    let create = ["entry", "create", "--spiffe-id", "spiffe://example.org/web", "--parent-id"];
    let parent = ["spiffe://example.org/elsewhere", "--selector", "unix:uid:1", "--wait"];
    let answer = dev
        .admin(&[create, [parent[0], parent[1], parent[2], parent[3], "--hint=x"]].concat())
        .await;
    assert_eq!((&answer["reached"], &answer["pending"]), (&json!([]), &json!([])));
}
