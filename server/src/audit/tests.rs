use std::sync::Arc;

use claviger_core::audit::proof::{Wanted, verify_consistency, verify_inclusion};
use claviger_core::audit::tile::TileId;
use claviger_core::audit::{BrokenLog, Event, TreeHash, Verifier};

use super::check::{CheckError, check_all};
use super::record::{MAX_PAGE, encode};
use super::*;
use crate::journal::Change;
use crate::storage::fixture::{Life, NOW, TestClock};
use crate::store::memory::MemoryStore;
use crate::store::{Space, Store as _, Write};

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
    let mut verifier = Verifier::default();
    for (from, limit) in [(0, 2), (3, 7), (10, usize::MAX), (1_010, usize::MAX)] {
        let page = read(&*store, from, limit).await.unwrap();
        assert!(page.len() <= limit.min(MAX_PAGE));
        for AuditRecord { sequence, body } in page {
            verifier.push(sequence, &body).unwrap();
        }
    }
    assert_eq!(verifier.head(), head);
    assert_eq!(check_all(&*store).await.unwrap(), head);
    assert!(read(&*store, head.size + 1, 1).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_edit_anywhere_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (life, store) = life(&dir).await;
    let head = life.storage.journal.commit(say(300)).await.unwrap();
    for sequence in [1, 2, 17, 256, 257, head.size] {
        let edited = store.copy();
        let forged = encode(sequence, br#"{"time":0,"event":"forged"}"#.to_vec());
        edited.write(vec![forged]).await.unwrap();
        let found = check_all(&edited).await.unwrap_err();
        let CheckError::Broken(broken) = found else { panic!("{found}") };
        // Under a full tile it is known which.
        let exact = BrokenLog::Hash { sequence };
        let expected = if sequence <= 256 { exact } else { BrokenLog::Root { size: head.size } };
        assert_eq!(broken, expected);
    }
    for (level, index) in [(0, 0), (1, 0)] {
        let edited = store.copy();
        let mut tile = tiles::tile(&edited, TileId { level, index }, head.size).await.unwrap();
        tile[0] = TreeHash::EMPTY;
        edited.write(vec![tiles::encode(TileId { level, index }, &tile)]).await.unwrap();
        check_all(&edited).await.unwrap_err();
        let key = [&[level][..], &index.to_be_bytes()].concat();
        edited.write(vec![Write::delete(Space::Tiles, key)]).await.unwrap();
        let found = check_all(&edited).await.unwrap_err();
        assert!(matches!(found, CheckError::Tree { .. }), "{found}");
    }
}

#[tokio::test]
async fn the_tree_answers_for_every_size_that_it_had() {
    let dir = tempfile::tempdir().unwrap();
    let (life, store) = life(&dir).await;
    let mut heads = vec![*life.storage.journal.head().borrow()];
    // So that groups end before, at and after the ends of tiles.
    for times in [1, 200, 53, 1, 255, 256, 300, 2, 66_000, 7] {
        heads.push(life.storage.journal.commit(say(times)).await.unwrap());
    }
    let newest = *heads.last().unwrap();
    for head in &heads {
        assert_eq!(tiles::head_at(&*store, head.size).await.unwrap(), *head);
        let wanted = Wanted::consistency(head.size, newest.size).unwrap();
        let path = tiles::resolve(&*store, &wanted, newest.size).await.unwrap();
        verify_consistency(head, &newest, &path).unwrap();
        let index = head.size - 1;
        let wanted = Wanted::inclusion(index, newest.size).unwrap();
        let path = tiles::resolve(&*store, &wanted, newest.size).await.unwrap();
        let record = read(&*store, head.size, 1).await.unwrap().remove(0);
        verify_inclusion(index, TreeHash::of_leaf(&record.body), &path, &newest).unwrap();
    }
    // A restart takes the tree up where it was.
    life.stop().await;
    let shared = Arc::<MemoryStore>::clone(&store);
    let life = Life::over(shared, dir.path(), &TestClock::at(NOW)).await.unwrap();
    let head = life.storage.journal.commit(say(300)).await.unwrap();
    assert_eq!(check_all(&*store).await.unwrap(), head);
}

#[tokio::test]
async fn whoever_follows_sees_every_record_once() {
    let dir = tempfile::tempdir().unwrap();
    let (life, store) = life(&dir).await;
    let mut follow = Follow::new(store, life.storage.journal.head(), 1);
    let journal = life.storage.journal.clone();
    let mut last = journal.head();
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
            for AuditRecord { sequence, body } in page {
                verifier.push(sequence, &body).unwrap();
            }
        }
        verifier.head()
    };
    let ((), head) = tokio::join!(writing, reading);
    // First start: an epoch and the start.
    assert_eq!(head.size, 62);
    assert_eq!(head, *last.borrow_and_update());
}
