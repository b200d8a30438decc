use std::time::Duration;

use claviger_core::audit::Event;
use claviger_runtime::tasks::Drain;

use super::*;
use crate::audit::check::check_all;
use crate::storage::fixture::{Life, NOW, TestClock};
use crate::store::memory::{Fault, MemoryStore};

struct World {
    life: Life,
    store: Arc<MemoryStore>,
    _dir: tempfile::TempDir,
}

async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(MemoryStore::default());
    let shared = Arc::<MemoryStore>::clone(&store);
    let life = Life::over(shared, dir.path(), &TestClock::at(NOW)).await.unwrap();
    World { life, store, _dir: dir }
}

impl World {
    fn journal(&self) -> &Journal {
        &self.life.storage.journal
    }
}

fn event() -> Event {
    Event::ServerStarted { epoch: 1 }
}

/// Sets `key`, once.
fn once(key: &str, value: &str) -> Change {
    Change {
        require: vec![Require::absent(Space::Entries, key)],
        writes: vec![Write::put(Space::Entries, key, value)],
        events: vec![event()],
    }
}

#[tokio::test]
async fn changes_of_one_group_see_each_other() {
    let world = world().await;
    let before = *world.journal().head().borrow();
    // One thread: all three are queued before the journal runs.
    let next = Change {
        require: vec![Require::value(Space::Entries, "k", "1")],
        writes: vec![Write::put(Space::Entries, "k", "2")],
        events: vec![event()],
    };
    let (first, rival, next) = tokio::join!(
        world.journal().commit(once("k", "1")),
        world.journal().commit(once("k", "9")),
        world.journal().commit(next),
    );
    let after = next.unwrap();
    assert_eq!(first.unwrap(), after, "one head covers the group");
    assert!(matches!(rival, Err(CommitError::Conflict { unmet: 0 })), "{rival:?}");
    assert_eq!(after.size, before.size + 2);
    assert_eq!(world.store.get(Space::Entries, b"k").await.unwrap(), Some(b"2".to_vec()));
}

#[tokio::test]
async fn a_deletion_counts_within_its_group() {
    let world = world().await;
    world.journal().commit(once("a", "1")).await.unwrap();
    world.journal().commit(once("b", "1")).await.unwrap();
    let delete = Change { writes: vec![Write::delete(Space::Entries, "a")], ..Change::default() };
    let drop_range = Change {
        writes: vec![Write::DeleteBelow { space: Space::Entries, key: b"c".to_vec() }],
        ..Change::default()
    };
    let (_, again, _, and_again) = tokio::join!(
        world.journal().commit(delete),
        world.journal().commit(once("a", "2")),
        world.journal().commit(drop_range),
        world.journal().commit(once("b", "2")),
    );
    again.unwrap();
    and_again.unwrap();
    assert_eq!(world.store.get(Space::Entries, b"a").await.unwrap(), None);
    assert_eq!(world.store.get(Space::Entries, b"b").await.unwrap(), Some(b"2".to_vec()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_log_is_whole_after_many_concurrent_changes() {
    let world = world().await;
    let before = world.journal().head().borrow().size;
    let mut changes = tokio::task::JoinSet::new();
    for n in 0..2_000 {
        let journal = world.journal().clone();
        changes.spawn(async move { journal.commit(once(&n.to_string(), "x")).await.unwrap() });
    }
    let mut heads = changes.join_all().await;
    heads.sort_by_key(|head| head.size);
    let whole = check_all(&*world.store).await.unwrap();
    assert_eq!(whole.size, before + 2_000);
    assert_eq!(heads.last(), Some(&whole));
}

#[tokio::test]
async fn a_full_disk_fails_the_group_and_leaves_the_head() {
    let world = world().await;
    let before = *world.journal().head().borrow();
    world.store.fail(Fault::Full);
    let (one, two) = tokio::join!(
        world.journal().commit(once("a", "1")),
        world.journal().commit(once("b", "1"))
    );
    for failed in [one, two] {
        assert!(matches!(failed, Err(CommitError::Store(_))), "{failed:?}");
    }
    assert_eq!(*world.journal().head().borrow(), before);
    world.store.fail(Fault::None);
    let head = world.journal().commit(once("a", "1")).await.unwrap();
    assert_eq!(head.size, before.size + 1);
    assert_eq!(check_all(&*world.store).await.unwrap(), head);
}

#[tokio::test]
async fn the_server_drains_when_nobody_knows_where_the_log_ends() {
    let world = world().await;
    world.store.fail(Fault::AfterWriting);
    let failed = world.journal().commit(once("a", "1")).await;
    assert!(matches!(failed, Err(CommitError::Store(_))), "{failed:?}");
    assert_eq!(world.life.tasks.drained(Duration::from_secs(30)).await, Drain::Clean);
    let failed = world.journal().commit(once("b", "1")).await;
    assert!(matches!(failed, Err(CommitError::Stopped)), "{failed:?}");
}

#[tokio::test]
async fn a_full_queue_refuses() {
    let world = world().await;
    let changes = (0..=QUEUE).map(|n| world.journal().commit(once(&n.to_string(), "x")));
    let outcomes = futures_util::future::join_all(changes).await;
    let refused = outcomes.iter().filter(|outcome| matches!(outcome, Err(CommitError::Overloaded)));
    assert_eq!(refused.count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), QUEUE);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_still_busy_after_the_signal_can_write() {
    let world = world().await;
    world.life.tasks.stop();
    for n in 0..5 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        world.journal().commit(once(&n.to_string(), "x")).await.unwrap();
    }
    // The handles live on; the journal ends nevertheless.
    assert_eq!(world.life.tasks.drained(Duration::from_secs(30)).await, Drain::Clean);
    let late = world.journal().commit(once("late", "x")).await;
    assert!(matches!(late, Err(CommitError::Stopped)), "{late:?}");
}
