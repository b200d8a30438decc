//! `claviger why`: what an operator asks when a process gets nothing.

use std::process::Output;

use claviger_tests::process::{Dev, my_uid};
use serde_json::Value;

use crate::claviger;

async fn why(dev: &Dev, args: &[&str]) -> Output {
    let agent = dev.dir().join("agent-admin.sock");
    let sockets = [
        "--agent-socket",
        agent.to_str().unwrap(),
        "--server-socket",
        dev.server_socket.to_str().unwrap(),
    ];
    claviger().run([&["why", "--output", "json"], args, &sockets].concat()).await
}

fn answer(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn a_process_is_told_what_would_mend_it() {
    let dev = Dev::start(&claviger()).await;
    let us = std::process::id().to_string();
    let output = why(&dev, &[&us]).await;
    assert_eq!(output.status.code(), Some(1), "no identity");
    assert!(answer(&output)["advice"].as_str().unwrap().starts_with("claviger entry create"));

    let id = "spiffe://example.org/web";
    let path = "unix:path:/nonexistent";
    let uid = my_uid();
    let create = ["entry", "create", "--spiffe-id", id, "--selector", &uid, "--wait"];
    dev.admin(&[&create[..], &["--selector", path]].concat()).await;
    let output = why(&dev, &[&us]).await;
    assert_eq!(output.status.code(), Some(1));
    let miss = &answer(&output)["near_misses"][0];
    assert_eq!((&miss["spiffe_id"], &miss["reason"]), (&id.into(), &"selectors_missing".into()));
    assert_eq!(miss["missing"][0]["selector"], path);

    // What is advised does it.
    let advice = miss["advice"].as_str().unwrap().to_owned() + " --wait";
    let words: Vec<_> = advice.split(' ').skip(1).collect();
    dev.admin(&words).await;
    let output = why(&dev, &[&us]).await;
    assert!(output.status.success());
    assert_eq!(answer(&output)["identities"][0]["spiffe_id"], id);
}

#[tokio::test]
async fn the_server_says_what_it_has_for_other_nodes() {
    let dev = Dev::start(&claviger()).await;
    let create = ["entry", "create", "--selector", "unix:uid:7", "--spiffe-id"];
    let under = ["spiffe://example.org/web", "--parent-id", "spiffe://example.org/nodes/z"];
    dev.admin(&[&create[..], &under].concat()).await;
    let output = why(&dev, &["--selector", "unix:uid:7"]).await;
    assert_eq!(output.status.code(), Some(1));
    let elsewhere = &answer(&output)["elsewhere"][0];
    assert_eq!(
        (&elsewhere["reason"], &elsewhere["parent_id"]),
        (&"other_parent".into(), &under[2].into())
    );
}

#[tokio::test]
async fn a_process_that_does_not_exist_is_no_process() {
    let dev = Dev::start(&claviger()).await;
    let output = why(&dev, &["2147483647"]).await;
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("there is no process 2147483647"), "{errors}");
}
