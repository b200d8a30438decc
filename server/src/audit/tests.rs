use std::sync::Arc;

use claviger_core::audit::{Event, Head, Link, Verifier};

use super::check::{check_all, check_page};
use super::record::{MAX_PAGE, encode};
use super::*;
use crate::journal::Change;
use crate::storage::fixture::{Life, NOW, TestClock};
use crate::store::Store as _;
use crate::store::memory::MemoryStore;

async fn life(dir: &tempfile::TempDir) -> (Life, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::default());
    let shared = Arc::<MemoryStore>::clone(&store);
    (Life::over(shared, dir.path(), &TestClock::at(NOW)).await.unwrap(), store)
}

fn say(times: usize) -> Change {
    let events = vec![Event::ServerStarted { epoch: 1 }; times];
    Change { events, ..Change::default() }
}

#[tokio::test]
async fn pages_join_without_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let (life, store) = life(&dir).await;
    let head = life.storage.journal.commit(say(2 * MAX_PAGE)).await.unwrap();
    let (mut verifier, mut previous) = (Verifier::default(), Link::GENESIS);
    for (from, limit) in [(0, 2), (3, 7), (10, usize::MAX), (1_010, usize::MAX)] {
        let page = read(&*store, from, limit).await.unwrap();
        assert!(page.len() <= limit.min(MAX_PAGE));
        assert_eq!(page[0].previous, previous);
        previous = page.last().unwrap().link;
        check_page(&mut verifier, &page).unwrap();
    }
    assert_eq!(verifier.head(), head);
    assert_eq!(check_all(&*store).await.unwrap(), head);
    assert!(read(&*store, head.sequence + 1, 1).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_edit_anywhere_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (life, store) = life(&dir).await;
    let head = life.storage.journal.commit(say(5)).await.unwrap();
    for sequence in 1..=head.sequence {
        let edited = store.copy();
        let record = read(&edited, sequence, 1).await.unwrap().remove(0);
        let forged = encode(sequence, record.link, br#"{"time":0,"event":"forged"}"#);
        edited.write(vec![forged]).await.unwrap();
        let found = check_all(&edited).await.unwrap_err();
        assert!(matches!(found, check::CheckError::Broken(_)), "{found}");
    }
}

#[tokio::test]
async fn whoever_follows_sees_every_record_once() {
    let dir = tempfile::tempdir().unwrap();
    let (life, store) = life(&dir).await;
    let mut follow = Follow::new(store, life.storage.journal.head(), 1);
    let journal = life.storage.journal.clone();
    let writing = async {
        for _ in 0..20 {
            journal.commit(say(3)).await.unwrap();
            tokio::task::yield_now().await;
        }
        drop(journal);
        life.stop().await;
    };
    let reading = async {
        let mut verifier = Verifier::default();
        while let Some(page) = follow.next_page().await.unwrap() {
            check_page(&mut verifier, &page).unwrap();
        }
        verifier.head()
    };
    let ((), head) = tokio::join!(writing, reading);
    // First start: an epoch and the start.
    assert_eq!(head.sequence, 62);
    assert_ne!(head, Head::default());
}
