//! One key, many hands, several servers, and whatever becomes of them: `tests/fault/postgresql/run` starts and
//! breaks servers and database, and tells the tests here where the agents are.
//!
//! | variable | says |
//! |---|---|
//! | `CLAVIGER_FAULT_AGENTS` | the sockets of the agents, separated by commas |
//! | `CLAVIGER_FAULT_SERVER` | the operator's socket of a server that is there at the end |
//! | `CLAVIGER_FAULT_UNTIL` | a file; once it is there, nothing breaks any more |
//! | `CLAVIGER_FAULT_ATTEMPTS` | how many attempts are made at least |

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use claviger_core::psk::binder;
use claviger_core::psk::derive::Psk;
use claviger_core::secret::Secret;
use claviger_proto::claviger::psk::v1::{IssueRequest, IssueResponse, RedeemRequest};
use claviger_tests::process::PATIENCE;
use claviger_tests::workload::Workload;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use crate::claviger;

const CLIENT: &str = "spiffe://example.org/client";
const SERVER: &str = "spiffe://example.org/server";

/// How many attempts race for each key.
const RACERS: usize = 200;

/// What the suite says.
fn told(name: &str) -> String {
    std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set")).into_string().unwrap()
}

fn agents() -> Vec<Workload> {
    told("CLAVIGER_FAULT_AGENTS").split(',').map(|socket| Workload::at(Path::new(socket))).collect()
}

async fn issue(agent: &Workload) -> Result<IssueResponse, Status> {
    let request = IssueRequest {
        peer: SERVER.to_owned(),
        purpose: "race".to_owned(),
        ttl_seconds: 300,
        spiffe_id: CLIENT.to_owned(),
        ..IssueRequest::default()
    };
    Ok(agent.broker().issue(Workload::request(request)).await?.into_inner())
}

async fn issue_until_answered(agent: &Workload) -> IssueResponse {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match issue(agent).await {
            Ok(issued) => return issued,
            Err(status) if status.code() == Code::Unavailable && Instant::now() < deadline => {
                sleep(Duration::from_millis(20)).await;
            }
            Err(status) => panic!("issue: {status}"),
        }
    }
}

/// What `attempt` shows for the key.
fn offer(issued: &IssueResponse, attempt: usize) -> RedeemRequest {
    let psk = Psk(Secret::copy_from(&issued.key).unwrap());
    let transcript = [7; 32];
    RedeemRequest {
        attempt_id: u128::try_from(attempt).unwrap().to_be_bytes().to_vec(),
        identity: issued.identity.clone(),
        transcript_hash: transcript.to_vec(),
        binder: binder::compute(&psk, &transcript).to_vec(),
        spiffe_id: SERVER.to_owned(),
    }
}

/// Redeems a key, repeating the attempt until there is an answer: the key, or that there is none.
async fn redeem(agent: Workload, offer: RedeemRequest) -> Result<Vec<u8>, Code> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = agent.broker().redeem(Workload::request(offer.clone())).await;
        match answer {
            Ok(redeemed) => return Ok(redeemed.into_inner().key),
            Err(status) if status.code() == Code::Unavailable && Instant::now() < deadline => {
                sleep(Duration::from_millis(20)).await;
            }
            Err(status) => return Err(status.code()),
        }
    }
}

/// A key, and the attempt that has it.
struct Spent {
    issued: IssueResponse,
    winner: usize,
}

/// Everybody wants one key, each at another agent than the next.
async fn race(agents: &[Workload], round: usize) -> Spent {
    let issued = issue_until_answered(&agents[round % agents.len()]).await;
    let mut attempts = JoinSet::new();
    for number in 0..RACERS {
        let redeemed = redeem(agents[number % agents.len()].clone(), offer(&issued, number));
        attempts.spawn(async move { (number, redeemed.await) });
    }
    let mut winner = None;
    while let Some(answer) = attempts.join_next().await {
        match answer.unwrap() {
            (number, Ok(key)) => {
                assert!(key == issued.key, "round {round}: another key than was issued");
                assert_eq!(winner.replace(number), None, "round {round}: two have the same key");
            }
            (number, Err(code)) => {
                assert_eq!(code, Code::PermissionDenied, "round {round}, attempt {number}");
            }
        }
    }
    Spent { issued, winner: winner.unwrap_or_else(|| panic!("round {round}: nobody has the key")) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs servers on PostgreSQL: tests/fault/postgresql/run"]
async fn one_attempt_has_the_key_whatever_becomes_of_servers_and_database() {
    let (agents, until) = (agents(), PathBuf::from(told("CLAVIGER_FAULT_UNTIL")));
    let least: usize = told("CLAVIGER_FAULT_ATTEMPTS").parse().unwrap();
    let mut spent = Vec::new();
    while !until.exists() || spent.len() * RACERS < least {
        spent.push(race(&agents, spent.len()).await);
    }

    // Whoever was told yes is told so again, wherever they ask, and nobody else is.
    for (number, Spent { issued, winner }) in spent.iter().enumerate() {
        let agent = &agents[(number + 1) % agents.len()];
        let again = redeem(agent.clone(), offer(issued, *winner)).await;
        assert!(again.is_ok_and(|key| key == issued.key), "key {number} is forgotten");
        let other = redeem(agent.clone(), offer(issued, winner + 1)).await;
        assert_eq!(other.unwrap_err(), Code::PermissionDenied, "key {number}");
    }
    let server = told("CLAVIGER_FAULT_SERVER");
    let output = claviger().run(["audit", "export", "--socket-path", &server]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let log = String::from_utf8(output.stdout).unwrap();
    for Spent { issued, .. } in &spent {
        for event in ["\"psk_redeemed\"", "\"psk_replayed\""] {
            let of = |line: &&str| line.contains(&issued.identity) && line.contains(event);
            assert_eq!(log.lines().filter(of).count(), 1, "{event} of {}", issued.identity);
        }
    }
    let (keys, attempts) = (spent.len(), spent.len() * (RACERS + 2));
    println!("survived: {attempts} attempts at {keys} keys, 0 lost, 0 twice");
}

/// Uses keys at `agent` until `stop`, and says how many; no call may fail.
async fn use_keys(agent: Workload, stop: Arc<AtomicBool>) -> usize {
    let mut count = 0;
    while !stop.load(Ordering::SeqCst) {
        let issued = issue(&agent).await.unwrap_or_else(|status| panic!("issue {count}: {status}"));
        let request = Workload::request(offer(&issued, count));
        let redeemed = agent.broker().redeem(request).await;
        let redeemed = redeemed.unwrap_or_else(|status| panic!("redeem {count}: {status}"));
        assert!(redeemed.into_inner().key == issued.key, "{count}: another key than was issued");
        count += 1;
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs servers on PostgreSQL: tests/fault/postgresql/run"]
async fn no_request_fails_while_servers_restart_one_after_the_other() {
    let until = PathBuf::from(told("CLAVIGER_FAULT_UNTIL"));
    let (stop, mut users) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
    for agent in agents() {
        for _user in 0..4 {
            users.spawn(use_keys(agent.clone(), Arc::clone(&stop)));
        }
    }
    while !until.exists() && users.try_join_next().is_none() {
        sleep(Duration::from_millis(20)).await;
    }
    stop.store(true, Ordering::SeqCst);
    let used: usize = users.join_all().await.into_iter().sum();
    assert!(until.exists(), "somebody has stopped");
    println!("survived: {} requests while servers restarted, 0 failed", used * 2);
}
