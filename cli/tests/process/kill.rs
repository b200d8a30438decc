//! One key, many hands, and a server that dies at the worst moment.

use std::time::Duration;

use claviger_core::psk::binder;
use claviger_core::psk::derive::Psk;
use claviger_core::secret::Secret;
use claviger_proto::claviger::psk::v1::psk_broker_client::PskBrokerClient;
use claviger_proto::claviger::psk::v1::{IssueRequest, IssueResponse, RedeemRequest};
use claviger_tests::process::{Deployment, PATIENCE, my_uid};
use claviger_tests::workload::Workload;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tonic::Code;
use tonic::transport::Channel;

use crate::claviger;

const CLIENT: &str = "spiffe://example.org/client";
const SERVER: &str = "spiffe://example.org/server";
const ATTEMPTS: usize = 1_000;
const KILLS: u32 = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_a_thousand_attempts_succeeds_however_often_the_server_is_killed() {
    let mut deployment = Deployment::start(&claviger()).await;
    for id in [CLIENT, SERVER] {
        let args = ["entry", "create", "--spiffe-id", id, "--selector", &my_uid(), "--wait"];
        deployment.admin(&args).await;
    }
    let workload = Workload::at(&deployment.agent_socket());

    for round in 0..KILLS {
        let issued = issue(workload.broker()).await;
        let mut attempts = JoinSet::new();
        for offer in offers(&issued) {
            attempts.spawn(workload.clone().redeem_until_answered(offer));
        }
        // From before the first redemption arrives to after the last one is answered.
        sleep(Duration::from_millis(u64::from(round) * 8)).await;
        deployment.kill_and_restart_server().await;

        let answers = attempts.join_all().await;
        let successes = answers.iter().filter(|code| **code == Code::Ok).count();
        let refused = answers.iter().filter(|code| **code == Code::PermissionDenied).count();
        assert_eq!((successes, refused), (1, ATTEMPTS - 1), "round {round}");
    }
}

async fn issue(mut broker: PskBrokerClient<Channel>) -> IssueResponse {
    let request = IssueRequest {
        peer: SERVER.to_owned(),
        purpose: "kill-test".to_owned(),
        ttl_seconds: 300,
        spiffe_id: CLIENT.to_owned(),
        ..IssueRequest::default()
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        match broker.issue(Workload::request(request.clone())).await {
            Ok(issued) => return issued.into_inner(),
            // The agent has not noticed yet that the server is back.
            Err(status) if status.code() == Code::Unavailable && Instant::now() < deadline => {
                sleep(Duration::from_millis(10)).await;
            }
            Err(status) => panic!("issue: {status}"),
        }
    }
}

/// Offers that differ in nothing but their attempt: all of them prove possession of the key.
fn offers(issued: &IssueResponse) -> Vec<RedeemRequest> {
    let psk = Psk(Secret::copy_from(&issued.key).unwrap());
    let transcript = [7; 32];
    let binder = binder::compute(&psk, &transcript);
    let offer = |attempt: usize| RedeemRequest {
        attempt_id: u128::try_from(attempt).unwrap().to_be_bytes().to_vec(),
        identity: issued.identity.clone(),
        transcript_hash: transcript.to_vec(),
        binder: binder.to_vec(),
        spiffe_id: SERVER.to_owned(),
    };
    (0..ATTEMPTS).map(offer).collect()
}
