//! A server that goes away and comes back, in its own state or in an older one.

use std::time::Duration;

use claviger_proto::claviger::psk::v1::{IssueRequest, RedeemRequest};
use claviger_tests::process::{Deployment, PATIENCE, my_uid, signal};
use claviger_tests::workload::Workload;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;

use crate::claviger;

const CLIENT: &str = "spiffe://example.org/client";
const SERVER: &str = "spiffe://example.org/server";

async fn deployment() -> Deployment {
    let deployment = Deployment::start(&claviger()).await;
    for id in [CLIENT, SERVER] {
        let args = ["entry", "create", "--spiffe-id", id, "--selector", &my_uid(), "--wait"];
        deployment.admin(&args).await;
    }
    deployment
}

fn issue() -> IssueRequest {
    IssueRequest {
        peer: SERVER.to_owned(),
        purpose: "outage".to_owned(),
        ttl_seconds: 300,
        spiffe_id: CLIENT.to_owned(),
        ..IssueRequest::default()
    }
}

#[tokio::test]
async fn workloads_keep_their_svids_and_keys_fail_closed_while_the_server_is_away() {
    let mut deployment = deployment().await;
    let workload = Workload::at(&deployment.agent_socket());
    let before = workload.fetch_x509().await.unwrap();

    deployment.stop_server().await;
    let during = workload.fetch_x509().await.unwrap();
    assert!(before.svids == during.svids, "the same material, byte for byte");
    let mut broker = workload.broker();
    let refusal = timeout(Duration::from_secs(10), broker.issue(Workload::request(issue())));
    assert_eq!(refusal.await.expect("no hanging").err().unwrap().code(), Code::Unavailable);

    deployment.start_server().await;
    let mut stream = workload.watch_x509().await.unwrap();
    assert_eq!(stream.message().await.unwrap().unwrap().svids.len(), 2);
    let args = ["--spiffe-id", "spiffe://example.org/third", "--selector", &my_uid()];
    deployment.admin(&[&["entry", "create"], &args[..]].concat()).await;
    let push = timeout(Duration::from_secs(30), stream.message());
    assert_eq!(push.await.expect("the agent is back").unwrap().unwrap().svids.len(), 3);
}

/// An offer of a key that does not exist: what counts is who answers, and when.
fn offer() -> RedeemRequest {
    RedeemRequest {
        attempt_id: vec![1; 16],
        identity: "p1.AAAAAAAAAAAAAAAAAAAAAA".to_owned(),
        transcript_hash: vec![7; 32],
        binder: vec![7; 32],
        spiffe_id: SERVER.to_owned(),
    }
}

#[tokio::test]
async fn no_key_is_redeemed_without_the_server_and_whoever_asks_is_told_at_once() {
    let mut deployment = deployment().await;
    let mut broker = Workload::at(&deployment.agent_socket()).broker();
    // One that stands still, which takes until the agent gives up on it; and one that is gone.
    signal(deployment.server_pid(), "STOP").await;
    for (bound, gone) in [(8_000, false), (2_000, true)] {
        if gone {
            signal(deployment.server_pid(), "CONT").await;
            deployment.stop_server().await;
        }
        let asked = Instant::now();
        let refused = broker.redeem(Workload::request(offer())).await.err().unwrap();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        assert!(!refused.message().is_empty());
        assert!(asked.elapsed() < Duration::from_millis(bound), "{:?}", asked.elapsed());
    }
    deployment.start_server().await;
    let deadline = Instant::now() + PATIENCE;
    // Nobody has to do anything for it.
    while broker.issue(Workload::request(issue())).await.is_err() {
        assert!(Instant::now() < deadline, "the agent does not come back");
        sleep(Duration::from_millis(10)).await;
    }
    println!(
        "survived: 2 outages, 2 redemptions refused, the slower within 6 s, the other within 1 s"
    );
}

#[tokio::test]
async fn an_agent_that_is_killed_and_restarted_while_the_server_is_away_serves_what_it_had() {
    let mut deployment = deployment().await;
    let before = Workload::at(&deployment.agent_socket()).fetch_x509().await.unwrap();
    assert_eq!(before.svids.len(), 2);
    // What came last is written down within a second, and that it may take two is not our subject.
    sleep(Duration::from_secs(3)).await;
    deployment.stop_server().await;
    deployment.kill_and_restart_agent().await;
    let during = Workload::at(&deployment.agent_socket()).fetch_x509().await.unwrap();
    assert!(before.svids == during.svids, "the same material, byte for byte");

    deployment.start_server().await;
    let workload = Workload::at(&deployment.agent_socket());
    let mut stream = workload.watch_x509().await.unwrap();
    assert_eq!(stream.message().await.unwrap().unwrap().svids.len(), 2);
    let args = ["--spiffe-id", "spiffe://example.org/third", "--selector", &my_uid()];
    deployment.admin(&[&["entry", "create"], &args[..]].concat()).await;
    let push = async { while stream.message().await.unwrap().unwrap().svids.len() < 3 {} };
    timeout(PATIENCE, push).await.expect("the agent is back");
    println!("survived: 1 agent killed and restarted without its server, 2 SVIDs served");
}

#[tokio::test]
async fn an_agent_restarts_without_a_new_token() {
    let mut deployment = deployment().await;
    let id = |list: &serde_json::Value| list["agents"][0]["spiffe_id"].as_str().unwrap().to_owned();
    let before = id(&deployment.admin(&["agent", "list"]).await);
    deployment.restart_agent().await;
    let list = deployment.admin(&["agent", "list"]).await;
    assert_eq!((list["agents"].as_array().unwrap().len(), id(&list)), (1, before));
    let workload = Workload::at(&deployment.agent_socket());
    assert_eq!(workload.fetch_x509().await.unwrap().svids.len(), 2);
}

/// The store is put back to before the key was redeemed; to accept it again would be a replay.
#[tokio::test]
async fn a_restored_backup_does_not_bring_a_spent_key_back() {
    let mut deployment = deployment().await;
    let workload = Workload::at(&deployment.agent_socket());
    let issued = workload.broker().issue(Workload::request(issue())).await.unwrap().into_inner();

    deployment.stop_server().await;
    let backup = deployment.back_up_server();
    deployment.start_server().await;
    let redeem = |attempt: u8| {
        let psk = claviger_core::secret::Secret::copy_from(&issued.key).unwrap();
        let psk = claviger_core::psk::derive::Psk(psk);
        RedeemRequest {
            attempt_id: vec![attempt; 16],
            identity: issued.identity.clone(),
            transcript_hash: vec![7; 32],
            binder: claviger_core::psk::binder::compute(&psk, &[7; 32]).to_vec(),
            spiffe_id: SERVER.to_owned(),
        }
    };
    assert_eq!(workload.clone().redeem_until_answered(redeem(1)).await, Code::Ok);

    deployment.stop_server().await;
    deployment.restore_server(&backup);
    deployment.start_server().await;
    assert_eq!(workload.redeem_until_answered(redeem(2)).await, Code::PermissionDenied);
    let log = deployment.export_audit().await;
    assert!(log.contains("epoch_fenced"), "{log}");
}

#[tokio::test]
async fn a_join_token_works_once() {
    let deployment = deployment().await;
    let errors = deployment.join_again_with_the_same_token().await;
    assert!(errors.contains("token"), "{errors}");
    let list = deployment.admin(&["agent", "list"]).await;
    assert_eq!(list["agents"].as_array().unwrap().len(), 1);
    assert!(deployment.export_audit().await.contains("join_token_replayed"));
}

#[tokio::test]
async fn a_second_server_on_the_same_directory_is_refused() {
    let deployment = deployment().await;
    let (code, errors) = deployment.run_second_server().await;
    assert_ne!(code, Some(0));
    assert!(errors.contains("another"), "{errors}");
    assert_eq!(deployment.admin(&["entry", "count"]).await["count"], 2);
}
