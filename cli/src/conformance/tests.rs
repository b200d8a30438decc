//! The suite against a Workload API that conforms, and against many that do not, each in one way.

mod faults;
mod mock;

use std::time::Duration;

use claviger_core::time::{Clock as _, SystemClock};
use tokio::net::UnixListener;

use super::report::Summary;
use super::*;
use mock::{Fault, Mock};

/// Long enough for a machine with other things to do.
const PATIENCE: Duration = Duration::from_secs(5);

fn foreign() -> ForeignDomain {
    let [es256, ed25519] = ForeignDomain::generate().unwrap();
    ForeignDomain::new(&es256, &ed25519).unwrap()
}

fn options(foreign: Option<&ForeignDomain>) -> Options<'_> {
    Options {
        audience: "the-suite",
        patience: PATIENCE,
        quiet: Duration::from_millis(100),
        foreign,
    }
}

/// What the suite says about a mock.
async fn report(fault: Option<Fault>) -> Report {
    let foreign = foreign();
    let mock = Mock::new(fault, &foreign);
    let options = options(Some(&foreign));
    mock.serve(async |address| run(address, &options, SystemClock.now()).await.unwrap()).await
}

fn failed(report: &Report) -> Vec<u8> {
    let failed = |check: &&Verdict| matches!(check.outcome, Outcome::Failed { .. });
    report.checks.iter().filter(failed).map(|check| check.number).collect()
}

fn unseen(report: &Report) -> Vec<u8> {
    let unseen = |check: &&Verdict| matches!(check.outcome, Outcome::NotObservable { .. });
    report.checks.iter().filter(unseen).map(|check| check.number).collect()
}

/// What no Workload API shows, and what this mock has no occasion to.
const INVISIBLE: [u8; 15] = [4, 9, 31, 32, 48, 51, 54, 57, 60, 61, 62, 63, 64, 65, 66];

#[tokio::test]
async fn one_that_conforms_passes_everything_that_can_be_seen() {
    let report = report(None).await;
    assert_eq!(failed(&report), [0; 0], "{report:#?}");
    assert_eq!(unseen(&report), INVISIBLE);
    let Summary { passed, failed, not_observable } = report.summary;
    assert_eq!((passed, failed, not_observable), (51, 0, 15));
    assert_eq!(report.advice, []);
    let numbers: Vec<_> = report.checks.iter().map(|check| check.number).collect();
    assert_eq!(numbers, (1..=66).collect::<Vec<_>>());
}

#[tokio::test]
async fn without_a_trust_domain_of_its_own_the_suite_says_what_it_did_not_see() {
    let foreign = foreign();
    let mock = Mock::new(None, &foreign);
    let report =
        async |address: &Address| run(address, &options(None), SystemClock.now()).await.unwrap();
    let report = mock.serve(report).await;
    assert_eq!(failed(&report), [0; 0], "{report:#?}");
    assert_eq!(report.advice, [Advice::Federate]);
    let exp = report.checks.iter().find(|check| check.number == 39).unwrap();
    assert!(exp.outcome == Outcome::Passed && !exp.not_seen.is_empty(), "{exp:?}");
}

#[tokio::test]
async fn over_tcp_it_is_the_same() {
    let foreign = foreign();
    let mock = Mock::new(None, &foreign);
    let options = options(Some(&foreign));
    let report = async |address: &Address| run(address, &options, SystemClock.now()).await.unwrap();
    let report = mock.serve_tcp(report).await;
    assert_eq!(failed(&report), [0; 0], "{report:#?}");
    assert!(report.address.starts_with("tcp://127.0.0.1:"), "{}", report.address);
    let grpc = report.checks.first().unwrap();
    assert!(grpc.not_seen.iter().any(|part| part.contains("source address")), "{grpc:?}");
}

#[tokio::test]
async fn who_has_no_identity_sees_little_and_is_told_why() {
    let report = report(Some(Fault::Nobody)).await;
    assert_eq!(failed(&report), [0; 0], "{report:#?}");
    assert_eq!(report.advice, [Advice::Register]);
    let seen: Vec<_> = (1..=66).filter(|number| !unseen(&report).contains(number)).collect();
    assert_eq!(seen, [1, 2, 3, 5, 6, 7, 8, 16]);
}

#[tokio::test]
async fn one_that_is_silent_fails_and_does_not_keep_the_suite_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("silent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let silence = async {
        let mut open = Vec::new();
        loop {
            open.push(listener.accept().await.unwrap());
        }
    };
    let options = Options { patience: Duration::from_millis(300), ..options(None) };
    let address = Address::Unix(path);
    let report = tokio::select! {
        () = silence => unreachable!("it accepts for ever"),
        report = run(&address, &options, SystemClock.now()) => report.unwrap(),
    };
    assert_eq!(failed(&report), [1]);
    assert_eq!(report.summary.not_observable, 65);
}
