//! The power goes while a server is at work for an agent, and a server starts on what is left: what was
//! acknowledged to the clients is on record, and no key works again.
//!
//! `CLAVIGER_FAULT_SERVER_CUTS` says how often it goes, `CLAVIGER_FAULT_SEED` when.

#[path = "../../../tests/power/cuts.rs"]
mod cuts;
mod machine;

use std::fmt;
use std::fs;
use std::str::FromStr;

use claviger_core::psk::binder;
use claviger_core::psk::derive::Psk;
use claviger_core::secret::Secret;
use claviger_proto::claviger::agent::v1::RedeemPskRequest;
use claviger_proto::claviger::agent::v1::agent_psk_client::AgentPskClient;
use claviger_proto::claviger::psk::v1::{IssueResponse, RedeemRequest};
use claviger_tests::process::{Deployment, Recorder, my_uid};
use claviger_tests::workload::Workload;
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::Channel;

use crate::claviger;
use crate::kill::{CLIENT, SERVER, issue};
use cuts::Cut;
use cuts::dice::{Dice, knob};
use cuts::disk::Names;
use cuts::recording::{Recording, append};
use machine::{Agent, Machine};

/// Clients that ask at a time, and how many keys each draws in each of three lives.
const CLIENTS: usize = 8;
const KEYS: usize = 10;

/// One recording serves so many cuts: before its keys expire, all of them have been tried.
const CUTS_OF_ONE: u64 = 60;

/// Machines that start at a time.
const MACHINES: usize = 3;

/// How many of the keys that were spent last are tried on each machine. All are looked for in the log.
const TRIED: usize = 12;

const TRANSCRIPT: [u8; 32] = [7; 32];

/// What a client was told.
#[derive(Clone, Debug)]
struct Told {
    /// Whether the key was redeemed; or else it was issued.
    spent: bool,
    identity: String,
    key: Vec<u8>,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.spent, self.identity, hex::encode(&self.key))
    }
}

impl FromStr for Told {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let words: Vec<_> = text.split(' ').collect();
        let (spent, key) = (words[0].parse().unwrap(), hex::decode(words[2]).unwrap());
        Ok(Self { spent, identity: words[1].to_owned(), key })
    }
}

impl Told {
    /// What whoever has the key shows.
    fn binder(&self) -> Vec<u8> {
        let psk = Psk(Secret::copy_from(&self.key).unwrap());
        binder::compute(&psk, &TRANSCRIPT).to_vec()
    }
}

/// What became of all the cuts.
#[derive(Debug, Default)]
struct Survived {
    cuts: usize,
    fenced: usize,
    in_flight: usize,
    redemptions: usize,
    requests: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_power_cut_of_a_server_at_work_forgets_a_redemption_or_brings_a_key_back() {
    let (cuts, seed) = (knob("CLAVIGER_FAULT_SERVER_CUTS", 8), knob("CLAVIGER_FAULT_SEED", 1));
    let (_kept, library) = cuts::recorder();
    let (mut dice, mut survived) = (Dice::new(seed), Survived::default());
    let mut left = cuts;
    while left > 0 {
        let some = left.min(CUTS_OF_ONE);
        record_and_cut(&library, some, &mut dice, &mut survived).await;
        left -= some;
    }
    let Survived { cuts, fenced, in_flight, redemptions, requests } = survived;
    assert!(fenced < cuts, "a machine that has lost nothing goes on in its epoch");
    println!(
        "survived: {cuts} power cuts of a server at work, {in_flight} writes in flight, {fenced} epochs \
         fenced, {redemptions} redemptions acknowledged before, {requests} requests after, 0 lost, 0 twice"
    );
}

async fn record_and_cut(
    library: &std::path::Path,
    count: u64,
    dice: &mut Dice,
    survived: &mut Survived,
) {
    let place = tempfile::tempdir().unwrap();
    let log = place.path().join("log");
    let recorder = Recorder { library: library.to_owned(), log: log.clone() };
    let (agent, data) = record(recorder, &log, place.path()).await;
    let recording = Recording::read(&log);
    let redeemed = KEYS - KEYS / 4;
    assert_eq!(recording.promised().count(), 3 * CLIENTS * (KEYS + redeemed));
    for (names, count) in [(Names::Strict, count / 2), (Names::Journaled, count - count / 2)] {
        let mut machines = Vec::new();
        let disk = cuts::cut(&recording, names, count, dice, |cut, dice| {
            let Cut { at, fate, disk, promised } = cut;
            let machine = Machine::new(format!("a cut after operation {at}, {names:?}, {fate:?}"));
            disk.cut(fate, dice, &machine.data());
            survived.in_flight += disk.pending();
            machines.push((machine, promised.iter().map(|told| told.parse().unwrap()).collect()));
        });
        disk.is_as_seen(&data);
        survived.cuts += machines.len();
        try_all(machines, &agent, survived).await;
    }
}

/// Three lives of a server that serves an agent: one is killed, the others stop in good order. The agent as
/// whom the server is asked later, and the server's data.
async fn record(
    recorder: Recorder,
    log: &std::path::Path,
    place: &std::path::Path,
) -> (Agent, std::path::PathBuf) {
    let mut deployment = Deployment::start_recorded(&claviger(), recorder).await;
    for id in [CLIENT, SERVER] {
        let args = ["entry", "create", "--spiffe-id", id, "--selector", &my_uid(), "--wait"];
        deployment.admin(&args).await;
    }
    let log = fs::OpenOptions::new().append(true).open(log).unwrap();
    work(&deployment, &log).await;
    deployment.kill_and_restart_server().await;
    work(&deployment, &log).await;
    deployment.stop_server().await;
    deployment.start_server().await;
    work(&deployment, &log).await;
    let exported = deployment.export_audit().await;
    assert!(!is_fenced(&exported), "{exported}");
    deployment.stop_server().await;
    let agent = Agent::of(&deployment);
    let data = place.join("data");
    fs::rename(deployment.dir().join("server"), &data).unwrap();
    (agent, data)
}

/// Clients draw keys, and redeem all but every fourth, each in an attempt of its own.
async fn work(deployment: &Deployment, log: &fs::File) {
    let workload = Workload::at(&deployment.agent_socket());
    let mut clients = JoinSet::new();
    for _client in 0..CLIENTS {
        let (workload, log) = (workload.clone(), log.try_clone().unwrap());
        clients.spawn(async move {
            for number in 0..KEYS {
                let IssueResponse { identity, key, .. } = issue(workload.broker()).await;
                let told = Told { spent: false, identity, key };
                append(&log, &told.to_string());
                if number % 4 == 3 {
                    continue;
                }
                let offer = RedeemRequest {
                    attempt_id: vec![1; 16],
                    identity: told.identity.clone(),
                    transcript_hash: TRANSCRIPT.to_vec(),
                    binder: told.binder(),
                    spiffe_id: SERVER.to_owned(),
                };
                assert_eq!(workload.clone().redeem_until_answered(offer).await, Code::Ok);
                append(&log, &Told { spent: true, ..told }.to_string());
            }
        });
    }
    clients.join_all().await;
}

/// Starts each machine, and asks there.
async fn try_all(machines: Vec<(Machine, Vec<Told>)>, agent: &Agent, survived: &mut Survived) {
    let mut trying = JoinSet::new();
    for (machine, told) in machines {
        if trying.len() == MACHINES {
            add(trying.join_next().await.unwrap().unwrap(), survived);
        }
        let agent = agent.clone();
        trying.spawn(async move { after(machine, &told, &agent).await });
    }
    for found in trying.join_all().await {
        add(found, survived);
    }
}

/// What was found on one machine: whether a new epoch has begun, spent keys, requests.
type Found = (bool, usize, usize);

fn add((fenced, redemptions, requests): Found, survived: &mut Survived) {
    survived.fenced += usize::from(fenced);
    survived.redemptions += redemptions;
    survived.requests += requests;
}

/// The machine has started again. Everything that somebody was told is on record; and who has a key that was
/// spent does not get in with it.
async fn after(machine: Machine, told: &[Told], agent: &Agent) -> Found {
    let what = machine.what.clone();
    let server = machine.start().await;
    let log = server.export_audit().await;
    let fenced = is_fenced(&log);
    for Told { spent, identity, .. } in told {
        let event = if *spent { "psk_redeemed" } else { "psk_issued" };
        let is = |line: &&str| line.contains(identity.as_str()) && line.contains(event);
        assert_eq!(log.lines().filter(is).count(), 1, "{what}: lost {event} of {identity}");
    }
    let spent: Vec<_> = told.iter().filter(|told| told.spent).collect();
    let mut asked = 0;
    if !spent.is_empty() {
        let line = agent.subscribed(&server).await;
        for told in spent.iter().rev().take(TRIED) {
            let other = redeem(&line.channel, told, 2).await;
            assert_eq!(
                other,
                Code::PermissionDenied,
                "{what}: {} was redeemed twice",
                told.identity
            );
            let same = redeem(&line.channel, told, 1).await;
            let due = if fenced { Code::PermissionDenied } else { Code::Ok };
            assert_eq!(same, due, "{what}: {}", told.identity);
            asked += 2;
        }
    }
    server.stop().await;
    (fenced, spent.len(), asked)
}

/// Whether another epoch has begun since the first.
fn is_fenced(log: &str) -> bool {
    log.lines().filter(|line| line.contains("epoch_fenced")).count() > 1
}

async fn redeem(channel: &Channel, told: &Told, attempt: u8) -> Code {
    let request = RedeemPskRequest {
        attempt_id: vec![attempt; 16],
        identity: told.identity.clone(),
        transcript_hash: TRANSCRIPT.to_vec(),
        binder: told.binder(),
        acceptor_ids: vec![SERVER.to_owned()],
    };
    let answer = AgentPskClient::new(channel.clone()).redeem_psk(request).await;
    answer.map_or_else(|status| status.code(), |_redeemed| Code::Ok)
}
