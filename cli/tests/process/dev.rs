//! `claviger dev`: what a user tries first.

use std::fs;

use claviger_tests::process::{Dev, my_uid};
use claviger_tests::workload::Workload;
use tempfile::TempDir;
use tonic::Code;

use crate::claviger;

#[tokio::test]
async fn an_entry_becomes_an_svid_on_the_open_socket() {
    let dev = Dev::start(&claviger()).await;
    let workload = Workload::at(&dev.agent_socket);
    assert_eq!(workload.fetch_x509().await.err().unwrap().code(), Code::PermissionDenied);

    let id = "spiffe://example.org/web";
    dev.admin(&["entry", "create", "--spiffe-id", id, "--selector", &my_uid(), "--wait"]).await;
    let answer = workload.fetch_x509().await.unwrap();
    assert_eq!(answer.svids.len(), 1);
    assert_eq!(answer.svids[0].spiffe_id, id);
}

#[tokio::test]
async fn it_leaves_nothing_behind() {
    let dev = Dev::start(&claviger()).await;
    let dir = dev.dir();
    assert!(dir.join("agent.sock").exists() && dir.join("server.sock").exists());
    let (status, _parent) = dev.stop().await;
    assert!(status.success(), "{status}");
    assert!(!dir.exists(), "{:?}", fs::read_dir(&dir).unwrap().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_second_one_in_the_same_directory_is_refused() {
    let dev = Dev::start(&claviger()).await;
    let second = claviger().run(["dev", "--dir", dev.dir().to_str().unwrap()]).await;
    assert!(!second.status.success());
    let errors = String::from_utf8(second.stderr).unwrap();
    assert!(errors.contains(dev.dir().to_str().unwrap()), "{errors}");

    // And the first is none the worse for it.
    let socket = dev.server_socket.to_str().unwrap();
    let health = claviger().run(["healthcheck", "--server", "--socket-path", socket]).await;
    assert!(health.status.success());
}

#[tokio::test]
async fn a_directory_whose_sockets_would_be_too_long_is_refused() {
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("d".repeat(120));
    let output = claviger().run(["dev", "--dir", dir.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("107"), "{errors}");
    assert!(!dir.exists(), "nothing is made before everything is checked");
}

#[tokio::test]
async fn a_directory_with_foreign_files_is_left_alone() {
    let dir = TempDir::new().unwrap();
    let precious = dir.path().join("precious");
    fs::write(&precious, "keep").unwrap();
    let output = claviger().run(["dev", "--dir", dir.path().to_str().unwrap()]).await;
    assert!(!output.status.success());
    assert_eq!(fs::read_to_string(precious).unwrap(), "keep");
}
