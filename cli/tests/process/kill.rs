//! One key, many hands, and a server that dies or stands still at the worst moment.
//!
//! `CLAVIGER_FAULT_KILLS` says how often.

use std::time::Duration;

use claviger_core::psk::binder;
use claviger_core::psk::derive::Psk;
use claviger_core::secret::Secret;
use claviger_proto::claviger::psk::v1::psk_broker_client::PskBrokerClient;
use claviger_proto::claviger::psk::v1::{IssueRequest, IssueResponse, RedeemRequest};
use claviger_tests::process::{Deployment, PATIENCE, my_uid, signal};
use claviger_tests::workload::Workload;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tonic::Code;
use tonic::transport::Channel;

use crate::claviger;

pub(super) const CLIENT: &str = "spiffe://example.org/client";
pub(super) const SERVER: &str = "spiffe://example.org/server";
const ATTEMPTS: usize = 1_000;
const KILLS: u64 = 12;

/// What happens to the server while everybody asks.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Kill,
    /// It stands still for a while, and goes on as if nothing had been.
    Stop,
    /// It is killed while it stands still.
    StopAndKill,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_a_thousand_attempts_succeeds_however_often_the_server_is_killed() {
    let rounds = rounds();
    let mut deployment = Deployment::start(&claviger()).await;
    for id in [CLIENT, SERVER] {
        let args = ["entry", "create", "--spiffe-id", id, "--selector", &my_uid(), "--wait"];
        deployment.admin(&args).await;
    }
    let workload = Workload::at(&deployment.agent_socket());
    let mut spent = Vec::new();

    for round in 0..rounds {
        let issued = issue(workload.broker()).await;
        let mut attempts = JoinSet::new();
        for (number, offer) in offers(&issued).into_iter().enumerate() {
            let asked = workload.clone().redeem_until_answered(offer);
            attempts.spawn(async move { (number, asked.await) });
        }
        // From before the first redemption arrives to after the last one is answered.
        sleep(Duration::from_millis(round % 50 * 8)).await;
        let blow = [Blow::Kill, Blow::Stop, Blow::StopAndKill][usize::try_from(round % 3).unwrap()];
        strike(&mut deployment, blow).await;

        let answers = attempts.join_all().await;
        let of = |code| answers.iter().filter(move |(_, answer)| *answer == code);
        let refused = of(Code::PermissionDenied).count();
        assert_eq!((of(Code::Ok).count(), refused), (1, ATTEMPTS - 1), "round {round}, {blow:?}");
        let (winner, _) = of(Code::Ok).next().unwrap();
        spent.push((issued, *winner));
    }

    // Whoever was told yes is told so again, and nobody else: of those that have not expired meanwhile.
    deployment.kill_and_restart_server().await;
    let recent = spent.len().min(4);
    for (issued, winner) in spent.iter().rev().take(recent) {
        let offers = offers(issued);
        let other = offers[(winner + 1) % ATTEMPTS].clone();
        let again = workload.clone().redeem_until_answered(offers[*winner].clone()).await;
        let other = workload.clone().redeem_until_answered(other).await;
        assert_eq!((again, other), (Code::Ok, Code::PermissionDenied));
    }
    let log = deployment.export_audit().await;
    for (issued, _) in &spent {
        for event in ["psk_redeemed", "psk_replayed"] {
            let of = |line: &&str| line.contains(&issued.identity) && line.contains(event);
            assert_eq!(log.lines().filter(of).count(), 1, "{event} of {}", issued.identity);
        }
    }
    let requests = spent.len() * ATTEMPTS + recent * 2;
    println!("survived: {rounds} kills and stops, {requests} requests, 0 lost, 0 twice");
}

fn rounds() -> u64 {
    let wanted = std::env::var_os("CLAVIGER_FAULT_KILLS");
    wanted.map_or(KILLS, |rounds| rounds.to_str().unwrap().parse().unwrap())
}

async fn strike(deployment: &mut Deployment, blow: Blow) {
    let pid = deployment.server_pid();
    if matches!(blow, Blow::Stop | Blow::StopAndKill) {
        signal(pid, "STOP").await;
        sleep(Duration::from_millis(300)).await;
    }
    match blow {
        Blow::Stop => signal(pid, "CONT").await,
        Blow::Kill | Blow::StopAndKill => deployment.kill_and_restart_server().await,
    }
}

/// A key of the client's for the server.
pub(super) async fn issue(mut broker: PskBrokerClient<Channel>) -> IssueResponse {
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
