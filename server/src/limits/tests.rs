use std::sync::Barrier;

use claviger_core::decision::{Context, Party};
use claviger_core::standing::Risk;

use super::*;

const FIVE: Rate = Rate { times: 5, seconds: 60 };

fn question(principal: &str, purpose: &str, now: u64) -> Question {
    let id = |name: &str| format!("spiffe://example.org/{name}").parse().unwrap();
    Question {
        principal: Party::new(id(principal)),
        action: Action::Connect,
        resource: Resource::Identity(Party::new(id("db"))),
        context: Context {
            time: UnixTime::from_secs(now),
            purpose: Some(purpose.parse().unwrap()),
            ..Context::default()
        },
    }
}

/// How many of `tries` get a turn and use it.
fn used(limits: &Limits, question: &Question, tries: usize) -> usize {
    let takes = (0..tries).filter_map(|_| limits.take(question, FIVE).ok());
    takes.map(Turn::keep).count()
}

#[test]
fn each_principal_resource_and_purpose_has_turns_of_its_own() {
    let limits = Limits::default();
    assert_eq!(used(&limits, &question("a", "read", 1_000), 9), 5);
    assert_eq!(used(&limits, &question("b", "read", 1_000), 9), 5);
    assert_eq!(used(&limits, &question("a", "write", 1_000), 9), 5);
    let mut elsewhere = question("a", "read", 1_000);
    elsewhere.resource = Resource::Tool("db".parse().unwrap());
    assert_eq!(used(&limits, &elsewhere, 9), 5);
    assert_eq!(used(&limits, &question("a", "read", 1_059), 9), 0);
    assert_eq!(used(&limits, &question("a", "read", 1_060), 9), 5);
}

#[test]
fn of_fifty_threads_five_get_a_turn() {
    let (limits, all) = (Limits::default(), Barrier::new(50));
    let (question, turns) = (question("a", "read", 1_000), Mutex::new(Vec::new()));
    std::thread::scope(|threads| {
        for _ in 0..50 {
            threads.spawn(|| {
                all.wait();
                turns.lock().unwrap().extend(limits.take(&question, FIVE));
            });
        }
    });
    assert_eq!(turns.lock().unwrap().len(), 5);
    // None of them was used.
    drop(turns);
    assert_eq!(used(&limits, &question, 9), 5);
}

#[test]
fn risk_leaves_fewer_turns_and_at_last_none() {
    let at = |risk: u8, of_the_peer: bool| {
        let (limits, mut question) = (Limits::default(), question("a", "read", 1_000));
        let risk = Risk::try_from(risk).unwrap();
        if let Resource::Identity(peer) = &mut question.resource
            && of_the_peer
        {
            peer.risk = risk;
        } else {
            question.principal.risk = risk;
        }
        used(&limits, &question, 9)
    };
    assert_eq!((at(0, false), at(20, false), at(90, false), at(100, false)), (5, 4, 0, 0));
    assert_eq!((at(20, true), at(100, true)), (4, 0));
}

#[test]
fn a_clock_that_is_set_back_gives_no_turn_and_takes_none() {
    let limits = Limits::default();
    assert_eq!(used(&limits, &question("a", "read", 1_000_000), 9), 5);
    // An hour back: time stands still, then passes as before.
    assert_eq!(used(&limits, &question("a", "read", 996_400), 9), 0);
    assert_eq!(used(&limits, &question("a", "read", 996_459), 9), 0);
    assert_eq!(used(&limits, &question("a", "read", 996_460), 9), 5);
}

#[test]
fn there_is_a_bound_on_windows_and_those_that_are_over_make_room() {
    let limits = Limits::default();
    for n in 0..MAX_WINDOWS {
        limits.take(&question("a", &n.to_string(), 1_000), FIVE).unwrap().keep();
    }
    assert_eq!(used(&limits, &question("a", "one-more", 1_001), 1), 0);
    assert_eq!(used(&limits, &question("a", "7", 1_001), 9), 4, "who was there goes on");
    assert_eq!(used(&limits, &question("a", "one-more", 1_060), 1), 1);
    let windows = limits.0.lock().unwrap().windows.len();
    assert_eq!(windows, 2, "`7` and the new one");
}
