//! What is known, and who hears of it.

use claviger_core::standing::Risk;
use claviger_proto::claviger::agent::v1 as wire;
use tempfile::tempdir;

use super::*;
use crate::files::DataDir;

fn id(name: &str) -> SpiffeId {
    format!("spiffe://example.org/{name}").parse().unwrap()
}

fn wire(name: &str, version: u64, quarantined: bool) -> wire::Standing {
    let spiffe_id = format!("spiffe://example.org/{name}");
    wire::Standing { spiffe_id, risk: 30, quarantined, changed_at: 7, version }
}

fn page(snapshot: bool, version: u64, upserts: Vec<wire::Standing>) -> wire::Standings {
    wire::Standings { snapshot, upserts, version, more: false }
}

fn update(page: wire::Standings) -> Update {
    Pages::default().push(page).unwrap().unwrap()
}

fn names(changes: &Changes) -> Vec<&str> {
    changes.records.iter().map(|(id, _)| id.path()).collect()
}

#[test]
fn of_whom_nothing_was_said_there_is_nothing_to_fear() {
    let standings = Standings::default();
    assert_eq!(standings.of(&id("a")), Standing::default());
    assert_eq!(standings.version(), 0);
    assert!(standings.since(None).all);
}

#[test]
fn who_has_seen_an_edition_is_told_what_is_new() {
    let standings = Standings::default();
    standings.apply(update(page(true, 2, vec![wire("a", 1, true), wire("b", 2, false)]))).unwrap();
    let first = standings.since(None);
    assert_eq!((first.all, names(&first)), (true, vec!["/a", "/b"]));

    standings.apply(update(page(false, 4, vec![wire("a", 4, false), wire("c", 3, true)]))).unwrap();
    let next = standings.since(Some(first.edition));
    assert_eq!((next.all, names(&next)), (false, vec!["/c", "/a"]));
    assert_eq!(names(&standings.since(Some(next.edition))), [""; 0]);
    assert_eq!(names(&standings.since(None)), ["/b", "/c", "/a"]);

    // What is said of everybody replaces what was known, be it older.
    standings.apply(update(page(true, 1, vec![wire("d", 1, true)]))).unwrap();
    let all = standings.since(Some(next.edition));
    assert_eq!((all.all, names(&all), standings.version()), (true, vec!["/d"], 1));
    assert!(!standings.of(&id("c")).quarantined);
}

#[test]
fn an_older_word_changes_nothing() {
    let standings = Standings::default();
    standings.apply(update(page(false, 5, vec![wire("a", 5, true)]))).unwrap();
    standings.apply(update(page(false, 5, vec![wire("a", 4, false)]))).unwrap();
    assert!(standings.of(&id("a")).quarantined);
}

#[test]
fn pages_are_applied_together() {
    let mut pages = Pages::default();
    let first = wire::Standings { more: true, ..page(true, 2, vec![wire("a", 1, true)]) };
    assert_eq!(pages.push(first).unwrap(), None);
    let update = pages.push(page(false, 2, vec![wire("b", 2, true)])).unwrap().unwrap();
    assert!(update.all);
    assert_eq!(update.records.len(), 2);
}

#[test]
fn what_is_not_understood_counts_as_quarantine() {
    let strange = wire::Standing { risk: 101, ..wire("a", 1, false) };
    let unnumbered = wire("b", 0, false);
    let nobody = wire::Standing { spiffe_id: "a".to_owned(), ..wire("c", 1, true) };
    let update = update(page(false, 1, vec![strange, unnumbered, nobody]));
    let found: Vec<_> = update.records.iter().map(|(id, s)| (id.path(), s.quarantined)).collect();
    assert_eq!(found, [("/a", true), ("/b", true)]);
    assert_eq!(update.records[0].1.risk, Risk::MAX);
}

#[test]
fn there_is_an_end_to_what_is_known() {
    let many = |from: usize| (from..from + MAX).map(|n| wire(&n.to_string(), 1, false)).collect();
    let standings = Standings::default();
    standings.apply(update(page(true, 1, many(0)))).unwrap();
    standings.apply(update(page(false, 2, vec![wire("1", 2, true)]))).unwrap();
    let full = standings.apply(update(page(false, 3, vec![wire("new", 3, true)])));
    assert_eq!(full, Err(TooManyStandings));
    assert_eq!(standings.version(), 2);

    let mut pages = Pages::default();
    let endless = wire::Standings { more: true, ..page(true, 1, many(0)) };
    assert_eq!(pages.push(endless), Ok(None));
    assert_eq!(pages.push(page(false, 1, vec![wire("a", 1, true)])), Err(TooManyStandings));
}

#[test]
fn pages_say_what_they_were_made_of() {
    let standings = Standings::default();
    let upserts = (1..=2_500).map(|n| wire(&n.to_string(), n, n % 2 == 0)).collect();
    standings.apply(update(page(true, 2_500, upserts))).unwrap();
    let pages = standings.since(None).into_pages();
    assert_eq!(
        pages.iter().map(|page| page.upserts.len()).collect::<Vec<_>>(),
        [1_000, 1_000, 500]
    );
    let (again, mut read) = (Standings::default(), Pages::default());
    for page in pages {
        if let Some(update) = read.push(page).unwrap() {
            again.apply(update).unwrap();
        }
    }
    assert_eq!(again.since(None).records, standings.since(None).records);
    assert_eq!(standings.since(Some(standings.since(None).edition)).into_pages().len(), 1);
}

#[tokio::test]
async fn who_is_in_quarantine_is_known_after_a_restart() {
    let parent = tempdir().unwrap();
    let dir = DataDir::open(&parent.path().join("agent")).unwrap();
    let standings = Standings::load(&dir).await.unwrap();
    let (stop, keeps) = (tokio_util::sync::CancellationToken::new(), standings.clone());
    let mut keeping = tokio::task::JoinSet::new();
    keeping.spawn(keep(keeps, dir.clone(), stop.clone()));
    tokio::task::yield_now().await;
    let harmless = wire::Standing { risk: 0, ..wire("b", 2, false) };
    standings.apply(update(page(true, 2, vec![wire("a", 1, true), harmless]))).unwrap();
    let known = crate::world::within(async {
        loop {
            let known = Standings::load(&dir).await.unwrap();
            if known.version() == 2 {
                return known;
            }
            tokio::task::yield_now().await;
        }
    });
    let known = known.await;
    assert!(known.of(&id("a")).quarantined);
    assert_eq!(names(&known.since(None)), ["/a"]);
    stop.cancel();
    keeping.join_all().await;

    dir.write("standings.json", b"[]".to_vec().into()).await.unwrap();
    let error = Standings::load(&dir).await.unwrap_err();
    assert!(error.to_string().contains("standings.json"), "{error}");
}
