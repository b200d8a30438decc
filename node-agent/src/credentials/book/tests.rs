//! The rules, at chosen times.

use std::time::Duration;

use claviger_core::bundle::X509Authority;
use claviger_core::selector::Selectors;
use claviger_core::svid::Validity;

use super::*;
use crate::credentials::Identity;
use crate::world::{NOW, entry};

const HOUR: Duration = Duration::from_secs(3_600);

fn at(sequence: u64) -> Cursor {
    Cursor { log_id: vec![1; 16], sequence }
}

fn later(secs: u64) -> UnixTime {
    NOW.after(Duration::from_secs(secs))
}

fn bundle(tainted: &[bool]) -> Bundle {
    let authority = |(at, tainted): (usize, &bool)| X509Authority {
        der: Bytes::from(vec![u8::try_from(at).unwrap(); 3]),
        tainted: *tainted,
    };
    Bundle {
        x509_authorities: tainted.iter().enumerate().map(authority).collect(),
        sequence: 1,
        ..Bundle::empty("example.org".parse().unwrap())
    }
}

fn update(sequence: u64, upserts: Vec<Entry>) -> Update {
    let cursor = Some(at(sequence));
    Update {
        svids: Vec::new(),
        wits: Vec::new(),
        cursor,
        snapshot: false,
        upserts,
        deletes: Vec::new(),
        bundle: None,
        federated: None,
        revoked: None,
    }
}

fn snapshot(sequence: u64, upserts: Vec<Entry>) -> Update {
    Update { snapshot: true, bundle: Some(bundle(&[false])), ..update(sequence, upserts) }
}

fn one(id: &str) -> Entry {
    entry(id, &["unix:uid:1"])
}

fn empty(limit: usize) -> Book {
    book_of(limit, Standings::default())
}

fn book_of(limit: usize, standings: Standings) -> Book {
    Book::new(limit, standings, "spiffe://example.org/spire/agent/test".parse().unwrap())
}

fn book(entries: Vec<Entry>) -> Book {
    let mut book = empty(1_000);
    book.apply(snapshot(1, entries), NOW);
    book
}

fn svid(from: UnixTime) -> WorkloadSvid {
    let validity = Validity { not_before: from, not_after: from.after(HOUR) };
    WorkloadSvid { chain: Bytes::new(), key: Bytes::new(), validity }
}

/// Answers all that is due with SVIDs that begin now.
fn issue(book: &mut Book, now: UnixTime) -> usize {
    let due = book.take_due::<WorkloadSvid>(now);
    let count = due.len();
    let answers = due.into_iter().map(|entry| (entry, Ok(svid(now)))).collect();
    book.settle(answers, now, || u16::MAX);
    count
}

fn fail(book: &mut Book, now: UnixTime, why: &NotIssued) -> usize {
    let due = book.take_due::<WorkloadSvid>(now);
    let count = due.len();
    let answers = due.into_iter().map(|entry| (entry, Err(why.clone())));
    book.settle::<WorkloadSvid>(answers.collect(), now, || 0);
    count
}

fn refused() -> NotIssued {
    NotIssued::Refused("no".into())
}

/// The ids that have an SVID, and those that wait for one.
fn shown(book: &mut Book) -> (Vec<String>, Vec<String>) {
    let facts: Selectors = ["unix:uid:1".parse().unwrap()].into();
    let snapshot = book.snapshot().unwrap();
    let (with, without): (Vec<_>, Vec<_>) = snapshot
        .admitted(&facts, NOW)
        .into_iter()
        .partition(|identity| identity.x509.peek(NOW).is_some());
    let ids = |list: Vec<&Identity>| list.iter().map(|i| i.entry.id.to_string()).collect();
    (ids(with), ids(without))
}

#[test]
fn nothing_is_known_before_the_first_bundle() {
    let mut book = empty(9);
    assert!(book.snapshot().is_none() && book.applied().is_none());
    book.apply(snapshot(4, Vec::new()), NOW);
    assert!(book.snapshot().is_some());
    assert_eq!(book.applied(), Some(at(4)));
}

#[test]
fn a_new_entry_is_asked_for_at_once_and_once() {
    let mut book = book(vec![one("a")]);
    assert_eq!(book.next_event(), Some(NOW));
    let due = book.take_due::<WorkloadSvid>(NOW);
    assert_eq!(due.len(), 1);
    assert_eq!(book.take_due::<WorkloadSvid>(NOW), []);
    assert_eq!(book.next_event(), None);
    book.settle(vec![(Arc::clone(&due[0]), Ok(svid(NOW)))], NOW, || 0);
    assert_eq!(shown(&mut book).0, ["a"]);
}

#[test]
fn a_change_is_applied_when_its_svids_are_there_or_refused() {
    let mut book = book(vec![one("a")]);
    assert_eq!(book.applied(), Some(at(0)));
    issue(&mut book, NOW);
    assert_eq!(book.applied(), Some(at(1)));
    book.apply(update(5, vec![one("b")]), NOW);
    book.apply(update(6, vec![]), NOW);
    assert_eq!(book.applied(), Some(at(4)));
    fail(&mut book, NOW, &refused());
    assert_eq!(book.applied(), Some(at(6)));
}

#[test]
fn a_bundle_alone_moves_nothing_else() {
    let mut book = book(vec![one("a")]);
    issue(&mut book, NOW);
    let bundle = Some(bundle(&[false, false]));
    book.apply(Update { cursor: None, bundle, ..update(0, Vec::new()) }, NOW);
    assert_eq!(book.applied(), Some(at(1)));
    assert_eq!(shown(&mut book).0, ["a"]);
    assert_eq!(book.snapshot().unwrap().bundle().x509.len(), 6);
}

#[test]
fn an_svid_is_renewed_around_half_life() {
    let mut book = book(vec![one("a")]);
    issue(&mut book, NOW);
    let due = book.next_event().unwrap();
    assert!((later(1_700)..later(1_900)).contains(&due), "{due}");
    assert_eq!(book.take_due::<WorkloadSvid>(later(1_600)), []);
    assert_eq!(issue(&mut book, due), 1);
    assert!(later(3_600) < book.next_event().unwrap());
}

#[test]
fn an_svid_that_cannot_be_renewed_is_served_until_it_ends() {
    let mut book = book(vec![one("a")]);
    issue(&mut book, NOW);
    for secs in (1_900..3_600).step_by(60) {
        fail(&mut book, later(secs), &NotIssued::Unanswered);
        book.drop_ended(later(secs));
        assert_eq!(shown(&mut book).0, ["a"]);
    }
    book.drop_ended(later(3_600));
    assert_eq!(shown(&mut book).0, ["a"], "the last second counts");
    assert_eq!(book.next_event().unwrap().max(later(3_601)), later(3_601));
    book.drop_ended(later(3_601));
    assert_eq!(shown(&mut book), (vec![], vec!["a".to_owned()]));
}

#[test]
fn failures_are_repeated_ever_more_slowly() {
    let mut book = book(vec![one("a")]);
    let mut now = NOW;
    let mut pauses = Vec::new();
    for _ in 0..8 {
        assert_eq!(fail(&mut book, now, &refused()), 1);
        let next = book.next_event().unwrap();
        pauses.push(next.since(now).as_secs());
        now = next;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
}

#[test]
fn what_nobody_answered_is_repeated_when_the_server_is_heard_of() {
    for (why, repeated) in [(NotIssued::Unanswered, 1), (refused(), 0)] {
        let mut book = book(vec![one("a")]);
        fail(&mut book, NOW, &why);
        assert_eq!(book.take_due::<WorkloadSvid>(NOW), []);
        book.apply(update(2, Vec::new()), NOW);
        assert_eq!(book.take_due::<WorkloadSvid>(NOW).len(), repeated, "{why:?}");
    }
}

#[test]
fn only_what_changed_is_published() {
    let mut book = book(vec![one("a")]);
    assert!(book.take_changed().is_some() && book.take_changed().is_none());
    fail(&mut book, NOW, &NotIssued::Unanswered);
    assert!(book.take_changed().is_none());
    fail(&mut book, later(1), &refused());
    let told = book.take_changed().unwrap().identities()[0].refusal.clone();
    assert_eq!(told.as_deref(), Some("no"));
    fail(&mut book, later(5), &refused());
    assert!(book.take_changed().is_none(), "the same refusal");
    issue(&mut book, later(60));
    assert!(book.take_changed().is_some());
    book.drop_ended(later(61));
    assert!(book.take_changed().is_none());
    book.drop_ended(later(3_661));
    assert!(book.take_changed().is_some());
}

#[test]
fn a_deleted_entry_is_gone_even_if_its_svid_comes_later() {
    let mut book = book(vec![one("a"), one("b")]);
    let due = book.take_due::<WorkloadSvid>(NOW);
    let deletes = vec!["a".parse().unwrap()];
    book.apply(Update { deletes, ..update(2, Vec::new()) }, NOW);
    book.settle(due.into_iter().map(|e| (e, Ok(svid(NOW)))).collect(), NOW, || 0);
    assert_eq!(shown(&mut book), (vec!["b".to_owned()], vec![]));
}

#[test]
fn a_snapshot_replaces_everything_and_keeps_what_stays() {
    let mut book = book(vec![one("a"), one("b")]);
    issue(&mut book, NOW);
    book.apply(snapshot(9, vec![one("b"), one("c")]), NOW);
    assert_eq!(shown(&mut book), (vec!["b".to_owned()], vec!["c".to_owned()]));
    assert_eq!(issue(&mut book, NOW), 1);
}

#[test]
fn an_entry_that_means_another_certificate_waits_for_it() {
    let mut book = book(vec![one("a")]);
    issue(&mut book, NOW);
    let renamed = Entry { spiffe_id: "spiffe://example.org/new".parse().unwrap(), ..one("a") };
    book.apply(update(2, vec![renamed.clone()]), NOW);
    assert_eq!(shown(&mut book).1, ["a"]);
    assert_eq!(issue(&mut book, NOW), 1);

    // One that means the same certificate keeps it.
    book.apply(update(3, vec![Entry { hint: "new".to_owned(), ..renamed }]), NOW);
    assert_eq!(shown(&mut book).0, ["a"]);
    assert_eq!(issue(&mut book, NOW), 0);
}

#[test]
fn an_answer_for_an_entry_as_it_was_is_not_used() {
    let mut book = book(vec![one("a")]);
    let due = book.take_due::<WorkloadSvid>(NOW);
    let renamed = Entry { spiffe_id: "spiffe://example.org/new".parse().unwrap(), ..one("a") };
    book.apply(update(2, vec![renamed]), NOW);
    book.settle(vec![(Arc::clone(&due[0]), Ok(svid(NOW)))], NOW, || 0);
    assert_eq!(shown(&mut book).1, ["a"]);
    assert_eq!(book.take_due::<WorkloadSvid>(NOW).len(), 1);
}

#[test]
fn an_entry_ends_when_it_says() {
    let mut book = book(vec![Entry { expires_at: Some(later(9)), ..one("a") }]);
    issue(&mut book, NOW);
    assert_eq!(book.next_event(), Some(later(9)));
    book.drop_ended(later(9));
    assert_eq!(book.counts(), Counts { entries: 0, x509: 0, wit: 0 });
}

#[test]
fn svids_for_secret_stores_are_not_for_callers() {
    let mut book = book(vec![Entry { store_svid: true, ..one("a") }]);
    assert_eq!(book.counts(), Counts { entries: 0, x509: 0, wit: 0 });
    assert_eq!(book.take_due::<WorkloadSvid>(NOW), []);
}

#[test]
fn a_tainted_authority_renews_everything_once() {
    let mut book = book(vec![one("a"), one("b")]);
    issue(&mut book, NOW);
    let tainted =
        |sequence| Update { bundle: Some(bundle(&[true, false])), ..update(sequence, Vec::new()) };
    book.apply(tainted(2), NOW);
    assert_eq!(issue(&mut book, NOW), 2);
    book.apply(tainted(3), NOW);
    assert_eq!(issue(&mut book, NOW), 0);
}

#[test]
fn who_is_left_out_is_remembered_with_the_reason() {
    let reasons = |book: &mut Book| {
        let snapshot = book.snapshot().unwrap();
        let of = |left: &LeftOut| (left.entry.id.to_string(), left.reason);
        snapshot.left_out().iter().map(of).collect::<Vec<_>>()
    };
    let mut book = empty(1);
    let stored = Entry { store_svid: true, ..one("stored") };
    let ends = Entry { expires_at: Some(later(5)), ..one("ends") };
    book.apply(snapshot(1, vec![ends, stored, one("too-many")]), NOW);
    book.drop_ended(later(5));
    assert_eq!(
        reasons(&mut book),
        [
            ("ends".to_owned(), Reason::EntryExpired),
            ("stored".to_owned(), Reason::ForSecretStore),
            ("too-many".to_owned(), Reason::OverEntryLimit),
        ]
    );
    let deletes = vec!["stored".parse().unwrap()];
    book.apply(Update { deletes, ..update(2, vec![one("ends")]) }, later(5));
    assert_eq!(reasons(&mut book), [("too-many".to_owned(), Reason::OverEntryLimit)]);
    book.apply(snapshot(3, vec![one("ends")]), later(5));
    assert_eq!(reasons(&mut book), []);
}

#[test]
fn batches_and_entries_are_bounded() {
    let many = |count: usize| (0..count).map(|n| one(&format!("e{n}"))).collect::<Vec<_>>();
    let mut book = empty(600);
    book.apply(snapshot(1, many(601)), NOW);
    assert_eq!(book.counts().entries, 600);
    assert_eq!(issue(&mut book, NOW), 500);
    assert_eq!(issue(&mut book, NOW), 100);
    assert_eq!(issue(&mut book, NOW), 0);
}

/// Those who have a WIT-SVID, as somebody sees them who wants one.
fn shown_wit(book: &mut Book, now: UnixTime) -> Vec<String> {
    let facts: Selectors = ["unix:uid:1".parse().unwrap()].into();
    let snapshot = book.snapshot().unwrap();
    let admitted = snapshot.admitted(&facts, NOW).into_iter();
    let with = admitted.filter(|identity| identity.wit.want(now).is_some());
    with.map(|identity| identity.entry.id.to_string()).collect()
}

fn issue_wit(book: &mut Book, now: UnixTime) -> usize {
    let due = book.take_due::<WorkloadWit>(now);
    let count = due.len();
    let validity = Validity { not_before: now, not_after: now.after(HOUR) };
    let svid = || WorkloadWit { token: String::new().into(), key: String::new().into(), validity };
    book.settle(due.into_iter().map(|entry| (entry, Ok(svid()))).collect(), now, || 0);
    count
}

#[test]
fn wit_svids_are_made_for_those_who_are_asked_for() {
    let mut book = book(vec![one("a"), one("b")]);
    issue(&mut book, NOW);
    assert_eq!(issue_wit(&mut book, NOW), 0);
    assert!(shown_wit(&mut book, NOW).is_empty());
    assert_eq!(issue_wit(&mut book, NOW), 2);
    assert_eq!(shown_wit(&mut book, NOW), ["a", "b"]);
    assert_eq!(book.counts(), Counts { entries: 2, x509: 2, wit: 2 });
}

#[test]
fn a_wit_svid_stays_as_long_as_it_names_the_identity() {
    let mut book = book(vec![one("a")]);
    shown_wit(&mut book, NOW);
    issue_wit(&mut book, NOW);
    let renewed = Entry { dns_names: vec!["db".parse().unwrap()], ..one("a") };
    book.apply(update(2, vec![renewed.clone()]), NOW);
    assert_eq!(shown_wit(&mut book, NOW), ["a"]);
    let renamed = Entry { spiffe_id: "spiffe://example.org/new".parse().unwrap(), ..renewed };
    book.apply(update(3, vec![renamed]), NOW);
    assert!(shown_wit(&mut book, NOW).is_empty());
    assert_eq!(issue_wit(&mut book, NOW), 1);
}

#[test]
fn an_entry_on_demand_keeps_no_change_waiting() {
    let on_demand = Entry { x509_on_demand: true, ..one("a") };
    let mut book = book(vec![on_demand.clone()]);
    assert_eq!(book.applied(), Some(at(1)));
    assert_eq!(book.next_event(), None);
    // It is asked for as soon as it is not on demand any more.
    book.apply(update(2, vec![one("a")]), NOW);
    assert_eq!((book.applied(), issue(&mut book, NOW)), (Some(at(1)), 1));
    // And stays for a while if it is again.
    book.apply(update(3, vec![on_demand]), NOW);
    assert_eq!((book.applied(), shown(&mut book).0), (Some(at(3)), vec!["a".to_owned()]));
    assert_eq!(issue(&mut book, later(3_000)), 0);
}

fn stand(standings: &Standings, name: &str, version: u64, quarantined: bool) {
    let id = format!("spiffe://example.org/{name}").parse().unwrap();
    let standing = Standing { quarantined, version, ..Standing::default() };
    let records = vec![(id, standing)];
    standings.apply(crate::standings::Update { all: false, records, version }).unwrap();
}

fn quarantined(book: &mut Book) -> Vec<String> {
    let snapshot = book.snapshot().unwrap();
    let left_out = snapshot.left_out().iter().filter(|left| left.reason == Reason::Quarantined);
    left_out.map(|left| left.entry.id.to_string()).collect()
}

#[test]
fn who_is_in_quarantine_is_neither_given_out_nor_asked_for() {
    let standings = Standings::default();
    let mut book = book_of(9, standings.clone());
    book.apply(snapshot(1, vec![one("a"), one("b")]), NOW);
    issue(&mut book, NOW);
    stand(&standings, "a", 1, true);
    assert_eq!(book.reconsider(NOW), 1);
    assert_eq!((shown(&mut book).0, quarantined(&mut book)), (vec!["b".into()], vec!["a".into()]));
    assert_eq!(issue(&mut book, later(60)), 0);
    assert_eq!(book.applied(), Some(at(1)));
    // Nor if it comes, or comes back, as another entry.
    book.apply(update(2, vec![Entry { revision: 1, ..one("a") }]), NOW);
    assert_eq!((issue(&mut book, NOW), book.applied()), (0, Some(at(2))));

    stand(&standings, "a", 2, false);
    assert_eq!(book.reconsider(NOW), 2);
    assert_eq!((issue(&mut book, NOW), quarantined(&mut book)), (1, vec![]));
    assert_eq!(shown(&mut book).0, ["a", "b"]);
}

#[test]
fn what_was_on_its_way_when_somebody_came_into_doubt_is_not_taken_in() {
    let standings = Standings::default();
    let mut book = book_of(9, standings.clone());
    book.apply(snapshot(1, vec![one("a")]), NOW);
    let due = book.take_due::<WorkloadSvid>(NOW);
    stand(&standings, "a", 1, false);
    book.reconsider(NOW);
    book.settle(due.into_iter().map(|entry| (entry, Ok(svid(NOW)))).collect(), NOW, || 0);
    assert_eq!(shown(&mut book), (vec![], vec!["a".to_owned()]));
    assert_eq!(issue(&mut book, NOW), 1);
    let doubted = book.snapshot().unwrap().identities()[0].doubted;
    assert!(doubted.is_some());
}

#[test]
fn an_agent_in_quarantine_serves_nobody() {
    let standings = Standings::default();
    let mut book = book_of(9, standings.clone());
    book.apply(snapshot(1, vec![one("a")]), NOW);
    issue(&mut book, NOW);
    stand(&standings, "spire/agent/test", 1, true);
    book.reconsider(NOW);
    assert_eq!(quarantined(&mut book), ["a"]);
}
