//! Several servers over one store: what one does, all know; what may happen once, happens once.

mod failover;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use claviger_core::audit::Head;
use claviger_core::entry::Entry;
use claviger_core::grant::{PskProof, Requester};
use claviger_core::id::SpiffeId;
use claviger_core::standing::Reason;
use claviger_core::time::{Clock, UnixTime};
use tempfile::TempDir;

use super::fixture::{Life, NOW, TestClock, binding, issue, redemption, requester};
use crate::audit::Verdict;
use crate::audit::check::check_all;
use crate::ca::Authority;
use crate::ca::rotation::Rotation;
use crate::config::{Config, Limits};
use crate::epoch::Doubt;
use crate::journal::Listener;
use crate::ledger::psk::{AttemptId, Minted, Redeemed, Refused};
use crate::policy::Met;
use crate::registry::Registry;
use crate::registry::draft::Refused as EntryRefused;
use crate::registry::fixture::{domain, entry};
use crate::standings::Change;
use crate::store::Store;
use crate::store::memory::{Fault, MemoryStore};

/// One of several servers, without its doors.
struct Server {
    life: Life,
    registry: Registry,
    authority: Authority,
    _dir: Option<TempDir>,
}

impl Server {
    async fn start(store: Arc<dyn Store>, clock: &Arc<TestClock>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let started = Self::start_in(dir.path(), store, clock).await;
        Self { _dir: Some(dir), ..started }
    }

    async fn start_in(dir: &Path, store: Arc<dyn Store>, clock: &Arc<TestClock>) -> Self {
        let life = Life::shared(store, dir, clock).await.unwrap();
        let listener = life.storage.journal.listen();
        let clock: Arc<dyn Clock> = Arc::<TestClock>::clone(clock);
        let journal = life.storage.journal.clone();
        let limits = Limits::default();
        let opened =
            Registry::open(domain(), limits, journal.clone(), Arc::clone(&clock), &life.tasks);
        let registry = opened.await.unwrap();
        let config = Config::new(domain(), dir.into());
        let keys = life.storage.directory.keys();
        let (rotation, authority) = Rotation::open(keys, &config, journal, clock).await.unwrap();
        life.tasks.spawn("authorities", |stop| rotation.run(stop));
        let (storage, known, signs) = (life.storage.clone(), registry.clone(), authority.clone());
        life.tasks.spawn("other servers", |stop| async move {
            let taking_in = take_in(listener, storage, known, signs);
            stop.run_until_cancelled(taking_in).await.unwrap_or(Ok(()))
        });
        Self { life, registry, authority, _dir: None }
    }

    async fn mint(&self) -> Minted {
        self.life.storage.ledger.mint(issue(binding(60)), Met::nothing()).await.unwrap()
    }

    async fn redeem(&self, minted: &Minted, attempt: u8) -> Result<Redeemed, Refused> {
        let ledger = &self.life.storage.ledger;
        let found = ledger.find(minted.identity).await?;
        let grant = redemption(found.binding().clone(), PskProof::IdentityOnly);
        ledger.redeem(found, grant, AttemptId::from_bytes([attempt; 16])).await
    }

    async fn create(&self, entries: Vec<Entry>) -> Vec<Result<(), EntryRefused>> {
        let created = self.registry.create(entries, &Requester::Server).await.unwrap();
        created.into_iter().map(|created| created.map(drop)).collect()
    }

    fn entries(&self) -> Vec<String> {
        self.registry.entries(None, usize::MAX, |_| true).into_iter().map(|e| e.id).collect()
    }
}

async fn take_in(
    mut listener: Listener,
    storage: super::Storage,
    registry: Registry,
    authority: Authority,
) -> anyhow::Result<()> {
    while let Some(group) = listener.next().await? {
        storage.take_in(&group).await?;
        registry.take_in(&group).await?;
        authority.look_around();
        listener.taken_in();
    }
    Ok(())
}

/// Two servers over one store in memory.
async fn two() -> (Server, Server, Arc<MemoryStore>) {
    let (clock, first) = (TestClock::at(NOW), Arc::new(MemoryStore::default()));
    let second = Arc::new(first.join());
    let one = Server::start(Arc::<MemoryStore>::clone(&first), &clock).await;
    let other = Server::start(second, &clock).await;
    (one, other, first)
}

/// Waits for what is about to be.
async fn until(is: impl Fn() -> bool) {
    for _attempt in 0..500 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never was");
}

#[tokio::test]
async fn any_server_redeems_what_any_other_minted_and_once() {
    let (one, other, store) = two().await;
    let minted = one.mint().await;
    let redeemed = other.redeem(&minted, 1).await.unwrap();
    assert!(redeemed.base.0.ct_eq(&minted.base.0));
    assert!(one.redeem(&minted, 1).await.unwrap().base.0.ct_eq(&minted.base.0), "repeated");
    for server in [&one, &other] {
        let refused = server.redeem(&minted, 2).await.unwrap_err();
        assert!(matches!(refused, Refused::Replayed), "{refused}");
    }
    check_all(&*store).await.unwrap();
}

#[tokio::test]
async fn what_one_server_says_of_the_log_the_other_judges_by_the_same_key() {
    let (one, other, _store) = two().await;
    let [ours, theirs] = [&one, &other].map(|server| &server.life.storage.checkpoints);
    assert_eq!(ours.key(), theirs.key());
    for _written in 0..20 {
        one.mint().await;
        let note = ours.sign_now().note().to_string();
        assert_eq!(theirs.judge(&note).await.unwrap(), Verdict::Fine, "it may not have heard yet");
    }
    one.life.storage.epochs.fence(1, &Doubt::NoRoot { epoch: 1 }).await.unwrap();
    let note = ours.sign_now().note().to_string();
    assert_eq!(theirs.judge(&note).await.unwrap(), Verdict::Fine, "nor of a new epoch");
    let head = Head { size: 1_000, ..Head::default() };
    let ahead = ours.sign(head, 2, UnixTime::from_secs(NOW)).note().to_string();
    assert!(matches!(theirs.judge(&ahead).await.unwrap(), Verdict::Behind { epoch: 2, .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_attempts_at_two_servers_one_succeeds() {
    let (one, other, store) = two().await;
    let servers = Arc::new([one, other]);
    for _key in 0..10 {
        let minted = Arc::new(servers[0].mint().await);
        let mut attempts = tokio::task::JoinSet::new();
        for attempt in 0..40_u8 {
            let (servers, minted) = (Arc::clone(&servers), Arc::clone(&minted));
            attempts.spawn(async move {
                servers[usize::from(attempt % 2)].redeem(&minted, attempt).await
            });
        }
        let outcomes = attempts.join_all().await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        let replayed = outcomes.iter().filter(|o| matches!(o, Err(Refused::Replayed))).count();
        assert_eq!(replayed, 39);
    }
    check_all(&*store).await.unwrap();
}

#[tokio::test]
async fn a_quarantine_at_one_server_counts_at_every_other_at_once() {
    let (one, other, _store) = two().await;
    let client: SpiffeId = binding(60).client;
    let reason: Reason = "test".parse().unwrap();
    let (before, other_client) = (other.mint().await, "spiffe://example.org/x".parse().unwrap());
    for id in [&client, &other_client] {
        let change =
            one.life.storage.standings.change(id, Change::Quarantine, reason.clone(), requester());
        change.await.unwrap();
    }
    let refused = other.redeem(&before, 1).await.unwrap_err();
    assert!(matches!(refused, Refused::Voided), "{refused}");
    assert!(other.life.storage.standings.of(&client).quarantined);
    // Both go on from there, one after the other.
    let lift =
        other.life.storage.standings.change(&client, Change::Lift, reason.clone(), requester());
    let lift_other =
        one.life.storage.standings.change(&other_client, Change::Lift, reason, requester());
    let (lifted, other_lifted) = tokio::join!(lift, lift_other);
    lifted.unwrap();
    other_lifted.unwrap();
    until(|| one.life.storage.standings.number() == 4).await;
    until(|| other.life.storage.standings.number() == 4).await;
    for server in [&one, &other] {
        assert!(!server.life.storage.standings.of(&client).quarantined);
    }
}

#[tokio::test]
async fn an_epoch_that_one_begins_is_everybodys() {
    let (one, other, _store) = two().await;
    let epoch = one.life.storage.epochs.current().number;
    assert_eq!(other.life.storage.epochs.current().number, epoch, "the second joins");
    let minted = one.mint().await;
    let doubt = Doubt::CheckpointAhead { epoch, sequence: 9 };
    let (first, second) = tokio::join!(
        one.life.storage.epochs.fence(epoch, &doubt),
        other.life.storage.epochs.fence(epoch, &doubt),
    );
    assert_eq!(first.unwrap().number, epoch + 1);
    assert_eq!(second.unwrap().number, epoch + 1, "one of them begins it");
    other.redeem(&minted, 1).await.unwrap_err();
    let minted = other.mint().await;
    assert!(one.redeem(&minted, 1).await.unwrap().base.0.ct_eq(&minted.base.0));
    one.life.storage.epochs.fence(epoch + 1, &doubt).await.unwrap();
    until(|| other.life.storage.epochs.current().number == epoch + 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn entries_have_one_order_whoever_makes_them() {
    let (one, other, _store) = two().await;
    let servers = Arc::new([one, other]);
    let mut creating = tokio::task::JoinSet::new();
    for number in 0..40_usize {
        let servers = Arc::clone(&servers);
        creating.spawn(async move {
            let uid = format!("unix:uid:{number}");
            let new = entry(&format!("e{number}"), "/spire/agent/a", "/web", &uid);
            servers[number % 2].create(vec![new]).await.remove(0).unwrap();
        });
    }
    creating.join_all().await;
    until(|| servers.iter().all(|server| server.entries().len() == 40)).await;
    assert_eq!(servers[0].entries(), servers[1].entries());
    let agent = crate::registry::fixture::id("/spire/agent/a");
    assert_eq!(servers[0].registry.authorized(&agent), servers[1].registry.authorized(&agent));
    assert_eq!(servers[0].registry.log_id(), servers[1].registry.log_id());
    // What one has is refused by the other, even if it has not heard of it yet.
    let twin = |id: &str| entry(id, "/spire/agent/b", "/db", "unix:uid:1");
    let (first, second) =
        tokio::join!(servers[0].create(vec![twin("a")]), servers[1].create(vec![twin("b")]));
    let refused = [&first[0], &second[0]].into_iter().filter(|created| created.is_err()).count();
    assert_eq!(refused, 1, "{first:?} {second:?}");
}

#[tokio::test]
async fn each_signs_by_authorities_of_its_own_and_every_bundle_has_all() {
    let (one, other, _store) = two().await;
    let of = |server: &Server| server.authority.bundle().borrow().x509_authorities.len();
    until(|| of(&one) == 2 && of(&other) == 2).await;
    let ders = |server: &Server| {
        let bundle = Arc::clone(&server.authority.bundle().borrow());
        (
            bundle.x509_authorities.clone(),
            bundle.jwt_authorities.len(),
            bundle.wit_authorities.len(),
        )
    };
    assert_eq!(ders(&one), ders(&other));
    assert_eq!((ders(&one).1, ders(&one).2), (2, 2));
}

#[tokio::test]
async fn what_was_written_without_an_answer_is_known_with_the_next_turn() {
    let (one, other, store) = two().await;
    store.fail(Fault::Unsettled);
    let lost = entry("lost", "/spire/agent/a", "/web", "unix:uid:1");
    one.registry.create(vec![lost], &Requester::Server).await.unwrap_err();
    store.fail(Fault::None);
    until(|| other.entries() == ["lost"]).await;
    one.create(vec![entry("next", "/spire/agent/a", "/web", "unix:uid:2")])
        .await
        .remove(0)
        .unwrap();
    until(|| one.entries() == ["lost", "next"] && other.entries() == ["lost", "next"]).await;
    check_all(&*store).await.unwrap();
}
