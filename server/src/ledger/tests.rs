//! The ledger over both stores. The properties that a restart must not break are in
//! `storage::tests`.

mod once;
mod series;
mod simulation;
mod together;
mod void;

use std::sync::Arc;
use std::time::Duration;

use claviger_attestors::join_token::{JoinToken, SpendError, SpendToken as _};
use claviger_core::audit::{Body, Event};
use claviger_core::evidence::KeyDigest;
use claviger_core::grant::PskProof;
use claviger_core::psk::binder;
use claviger_core::psk::derive::PskBase;
use claviger_core::psk::identity::WireIdentity;

use super::psk::{AttemptId, Minted, Redeemed, Refused};
use super::token::NewToken;
use super::*;
use crate::audit;
use crate::epoch::Doubt;
use crate::journal::{Change, Require};
use crate::policy::Met;
use crate::storage::fixture::{Life, NOW, TestClock, binding, issue, redemption, requester};
use crate::store::memory::{Fault, MemoryStore};
use crate::store::{Store as _, Write, json};

/// A storage over a store in memory, with everything a test may want to disturb.
struct World {
    life: Life,
    store: Arc<MemoryStore>,
    clock: Arc<TestClock>,
    _dir: tempfile::TempDir,
}

async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let (store, clock) = (Arc::new(MemoryStore::default()), TestClock::at(NOW));
    let open = Life::over(Arc::<MemoryStore>::clone(&store), dir.path(), &clock);
    World { life: open.await.unwrap(), store, clock, _dir: dir }
}

impl World {
    fn ledger(&self) -> &Ledger {
        &self.life.storage.ledger
    }

    async fn events(&self) -> Vec<Event> {
        let records = audit::read(&*self.store, 1, usize::MAX).await.unwrap();
        let body = |record: audit::AuditRecord| serde_json::from_slice::<Body>(&record.body);
        records.into_iter().map(|record| body(record).unwrap().event).collect()
    }

    async fn sweep(&self) {
        sweep::Sweeper::new(self.ledger().clone()).round().await.unwrap();
    }
}

fn proof(base: &PskBase, binding: &PskBinding) -> PskProof {
    let transcript = [7; 32];
    PskProof::Binder { transcript, binder: binder::compute(&base.psk(binding), &transcript) }
}

async fn redeem(
    ledger: &Ledger,
    minted: &Minted,
    proof: PskProof,
    attempt: u8,
) -> Result<Redeemed, Refused> {
    let found = ledger.find(minted.identity).await?;
    let grant = redemption(found.binding().clone(), proof);
    ledger.redeem(found, grant, AttemptId::from_bytes([attempt; 16])).await
}

#[tokio::test]
async fn both_ends_derive_from_the_same_base() {
    let world = world().await;
    let minted = world.ledger().mint(issue(binding(60)), Met::nothing()).await.unwrap();
    let proof = proof(&minted.base, &binding(60));
    let redeemed = redeem(world.ledger(), &minted, proof, 1).await.unwrap();
    assert!(redeemed.base.0.ct_eq(&minted.base.0));
    assert_eq!(redeemed.binding, binding(60));
    assert_eq!(minted.not_after, binding(60).not_after);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_a_thousand_concurrent_attempts_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let life = Life::embedded(dir.path(), &TestClock::at(NOW)).await.unwrap();
    let ledger = life.storage.ledger.clone();
    let minted = Arc::new(ledger.mint(issue(binding(60)), Met::nothing()).await.unwrap());
    let proof = proof(&minted.base, &binding(60));
    let mut attempts = tokio::task::JoinSet::new();
    for n in 0..1_000_u16 {
        let (ledger, minted) = (ledger.clone(), Arc::clone(&minted));
        attempts.spawn(async move {
            let found = ledger.find(minted.identity).await?;
            let mut attempt = [0; 16];
            attempt[..2].copy_from_slice(&n.to_be_bytes());
            let grant = redemption(found.binding().clone(), proof);
            ledger.redeem(found, grant, AttemptId::from_bytes(attempt)).await
        });
    }
    let outcomes = attempts.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let replays = outcomes.iter().filter(|outcome| matches!(outcome, Err(Refused::Replayed)));
    assert_eq!(replays.count(), 999);
    let head = audit::check::check_all(&**life.storage.journal.store()).await.unwrap();
    // First start: an epoch and the start; then issued, redeemed, and one alarm.
    assert_eq!(head.size, 5);
    drop(ledger);
    life.stop().await;
}

#[tokio::test]
async fn the_same_attempt_gets_the_same_answer() {
    let world = world().await;
    let minted = world.ledger().mint(issue(binding(60)), Met::nothing()).await.unwrap();
    let proof = proof(&minted.base, &binding(60));
    for _ in 0..3 {
        let redeemed = redeem(world.ledger(), &minted, proof, 1).await.unwrap();
        assert!(redeemed.base.0.ct_eq(&minted.base.0));
    }
    let again = |event: &&Event| matches!(event, Event::PskRedeemed { .. });
    assert_eq!(world.events().await.iter().filter(again).count(), 1);
}

#[tokio::test]
async fn the_same_attempt_with_another_client_hello_is_a_replay() {
    let world = world().await;
    let minted = world.ledger().mint(issue(binding(60)), Met::nothing()).await.unwrap();
    let first = proof(&minted.base, &binding(60));
    redeem(world.ledger(), &minted, first, 1).await.unwrap();
    let transcript = [8; 32];
    let binder = binder::compute(&minted.base.psk(&binding(60)), &transcript);
    let second = PskProof::Binder { transcript, binder };
    let refused = redeem(world.ledger(), &minted, second, 1).await.unwrap_err();
    assert!(matches!(refused, Refused::Replayed), "{refused}");
    let refused = redeem(world.ledger(), &minted, PskProof::IdentityOnly, 1).await.unwrap_err();
    assert!(matches!(refused, Refused::Replayed), "{refused}");
}

#[tokio::test]
async fn a_wrong_binder_spends_nothing() {
    let world = world().await;
    let minted = world.ledger().mint(issue(binding(60)), Met::nothing()).await.unwrap();
    let wrong = PskProof::Binder { transcript: [7; 32], binder: [0; 32] };
    let refused = redeem(world.ledger(), &minted, wrong, 1).await.unwrap_err();
    assert!(matches!(refused, Refused::WrongBinder), "{refused}");
    let right = proof(&minted.base, &binding(60));
    redeem(world.ledger(), &minted, right, 2).await.unwrap();
}

#[tokio::test]
async fn a_replay_is_audited_once() {
    let world = world().await;
    let minted = world.ledger().mint(issue(binding(60)), Met::nothing()).await.unwrap();
    let proof = proof(&minted.base, &binding(60));
    redeem(world.ledger(), &minted, proof, 1).await.unwrap();
    for attempt in 2..9 {
        let refused = redeem(world.ledger(), &minted, proof, attempt).await.unwrap_err();
        assert!(matches!(refused, Refused::Replayed), "{refused}");
    }
    redeem(world.ledger(), &minted, proof, 1).await.unwrap();
    let alarm = |event: &&Event| matches!(event, Event::PskReplayed { .. });
    assert_eq!(world.events().await.iter().filter(alarm).count(), 1);
}

#[tokio::test]
async fn an_expired_psk_is_refused() {
    let world = world().await;
    let minted = world.ledger().mint(issue(binding(60)), Met::nothing()).await.unwrap();
    let proof = proof(&minted.base, &binding(60));
    world.clock.advance(60);
    redeem(world.ledger(), &minted, proof, 1).await.unwrap();
    world.clock.advance(1);
    let refused = redeem(world.ledger(), &minted, proof, 1).await.unwrap_err();
    assert!(matches!(refused, Refused::Expired), "{refused}");
    // A clock that was set back a little does not bring it back.
    world.clock.set(NOW + 30);
    let refused = redeem(world.ledger(), &minted, proof, 1).await.unwrap_err();
    assert!(matches!(refused, Refused::Expired), "{refused}");
}

#[tokio::test]
async fn a_clock_set_back_far_begins_a_new_epoch() {
    let world = world().await;
    world.clock.advance(3_600);
    let end = NOW + 3_660 - NOW;
    let minted = world.ledger().mint(issue(binding(end)), Met::nothing()).await.unwrap();
    world.clock.set(NOW);
    assert_eq!(world.ledger().now().as_secs(), NOW + 3_600);
    world.sweep().await;
    assert_eq!(world.ledger().epochs().current().number, 2);
    assert_eq!(world.ledger().now().as_secs(), NOW);
    let refused = world.ledger().find(minted.identity).await.unwrap_err();
    assert!(matches!(refused, Refused::Unknown), "{refused}");
    world.ledger().mint(issue(binding(60)), Met::nothing()).await.unwrap();
}

#[tokio::test]
async fn a_fence_voids_what_was_found_before_it() {
    let world = world().await;
    let minted = world.ledger().mint(issue(binding(60)), Met::nothing()).await.unwrap();
    let spent = world.ledger().mint(issue(binding(60)), Met::nothing()).await.unwrap();
    redeem(world.ledger(), &spent, PskProof::IdentityOnly, 1).await.unwrap();
    let found = world.ledger().find(minted.identity).await.unwrap();
    let found_spent = world.ledger().find(spent.identity).await.unwrap();
    let epochs = world.ledger().epochs();
    epochs.fence(1, &Doubt::NoWitness).await.unwrap();
    for found in [found, found_spent] {
        let grant = redemption(binding(60), PskProof::IdentityOnly);
        let attempt = AttemptId::from_bytes([1; 16]);
        let refused = world.ledger().redeem(found, grant, attempt).await.unwrap_err();
        assert!(matches!(refused, Refused::EpochOver), "{refused}");
    }
    let refused = world.ledger().find(minted.identity).await.unwrap_err();
    assert!(matches!(refused, Refused::Unknown), "{refused}");
}

#[tokio::test]
async fn a_fence_that_another_has_made_is_not_made_again() {
    let world = world().await;
    let epochs = world.ledger().epochs();
    let doubt = Doubt::CheckpointAhead { epoch: 7, sequence: 9 };
    let (one, two) = tokio::join!(epochs.fence(7, &doubt), epochs.fence(7, &doubt));
    assert_eq!((one.unwrap().number, two.unwrap().number), (8, 8));
    assert_eq!(epochs.current().number, 8);
}

#[tokio::test]
async fn the_grant_has_to_be_for_what_was_found() {
    let world = world().await;
    let minted = world.ledger().mint(issue(binding(60)), Met::nothing()).await.unwrap();
    let found = world.ledger().find(minted.identity).await.unwrap();
    let grant = redemption(binding(61), PskProof::IdentityOnly);
    let attempt = AttemptId::from_bytes([1; 16]);
    let refused = world.ledger().redeem(found, grant, attempt).await.unwrap_err();
    assert!(matches!(refused, Refused::OtherBinding), "{refused}");
}

#[tokio::test]
async fn no_psk_lives_too_long_or_not_at_all() {
    let world = world().await;
    for ttl in [301, 1 << 40] {
        let refused = world.ledger().mint(issue(binding(ttl)), Met::nothing()).await.unwrap_err();
        assert!(matches!(refused, LedgerError::Lifetime { .. }), "{refused}");
    }
    world.clock.advance(61);
    let refused = world.ledger().mint(issue(binding(60)), Met::nothing()).await.unwrap_err();
    assert!(matches!(refused, LedgerError::Lifetime { .. }), "{refused}");
}

#[tokio::test]
async fn garbage_is_turned_away() {
    let world = world().await;
    for byte in 0..=255 {
        let identity = WireIdentity::from_bytes([byte; 16]);
        let refused = world.ledger().find(identity).await.unwrap_err();
        assert!(matches!(refused, Refused::Unknown), "{refused}");
        world.ledger().refuse_dummy(identity, &PskProof::IdentityOnly);
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_that_was_not_written() {
    let world = world().await;
    let minted = world.ledger().mint(issue(binding(60)), Met::nothing()).await.unwrap();
    let proof = proof(&minted.base, &binding(60));
    let before = *world.life.storage.journal.head().borrow();
    world.store.fail(Fault::Full);
    let refused = world.ledger().mint(issue(binding(60)), Met::nothing()).await.unwrap_err();
    assert!(matches!(refused, LedgerError::Commit(CommitError::Store(_))), "{refused}");
    let refused = redeem(world.ledger(), &minted, proof, 1).await.unwrap_err();
    assert!(matches!(refused, Refused::Commit(CommitError::Store(_))), "{refused}");
    assert!(refused.is_unavailable());
    assert_eq!(*world.life.storage.journal.head().borrow(), before);
    // There is room again: nobody has to start anything anew.
    world.store.fail(Fault::None);
    redeem(world.ledger(), &minted, proof, 2).await.unwrap();
    audit::check::check_all(&*world.store).await.unwrap();
}

#[tokio::test]
async fn what_has_expired_is_dropped_and_nothing_else() {
    let world = world().await;
    for ttl in [30, 60, 239] {
        world.ledger().mint(issue(binding(ttl)), Met::nothing()).await.unwrap();
    }
    let kept = world.ledger().mint(issue(binding(300)), Met::nothing()).await.unwrap();
    world.sweep().await;
    assert_eq!(world.ledger().0.psks.used(), 4);
    world.clock.advance(299);
    world.sweep().await;
    assert_eq!(world.ledger().0.psks.used(), 1);
    assert_eq!(world.store.count(Space::Psks).await.unwrap(), 1);
    redeem(world.ledger(), &kept, PskProof::IdentityOnly, 1).await.unwrap();
}

#[tokio::test]
async fn more_than_one_batch_is_dropped_in_one_round() {
    let world = world().await;
    let mints = (0..2_500).map(|_| world.ledger().mint(issue(binding(30)), Met::nothing()));
    for minted in futures_util::future::join_all(mints).await {
        minted.unwrap();
    }
    world.clock.advance(120);
    world.sweep().await;
    assert_eq!(world.ledger().0.psks.used(), 0);
    assert_eq!(world.store.count(Space::Psks).await.unwrap(), 0);
}

fn token(text: &str) -> JoinToken {
    text.parse().unwrap()
}

fn new(token: &JoinToken, ttl: u64) -> NewToken<'_> {
    NewToken { token, ttl: Duration::from_secs(ttl), agent_id: None, requester: requester() }
}

fn holder(n: u8) -> KeyDigest {
    KeyDigest::of_spki(&[n])
}

#[tokio::test]
async fn a_token_belongs_to_the_key_that_spends_it_first() {
    let world = world().await;
    let token = token("t");
    world.ledger().create_token(new(&token, 600), Change::default()).await.unwrap();
    for _ in 0..2 {
        world.ledger().spend(&token, &holder(1)).await.unwrap();
    }
    for n in 2..5 {
        let refused = world.ledger().spend(&token, &holder(n)).await.unwrap_err();
        assert!(matches!(refused, SpendError::Replayed), "{refused}");
    }
    world.ledger().spend(&token, &holder(1)).await.unwrap();
    let alarm = |event: &&Event| matches!(event, Event::JoinTokenReplayed { .. });
    let events = world.events().await;
    assert_eq!(events.iter().filter(alarm).count(), 1);
    let log = serde_json::to_string(&events).unwrap();
    assert!(!log.contains("\"t\""), "{log}");
}

#[tokio::test]
async fn many_nodes_with_one_token_are_one_node() {
    let world = world().await;
    let token = token("t");
    world.ledger().create_token(new(&token, 600), Change::default()).await.unwrap();
    let holders: Vec<_> = (0..=255).map(holder).collect();
    let spends = holders.iter().map(|holder| world.ledger().spend(&token, holder));
    let outcomes = futures_util::future::join_all(spends).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
}

#[tokio::test]
async fn a_token_ends_with_its_time_and_with_its_epoch() {
    let world = world().await;
    let (short, long) = (token("short"), token("long"));
    world.ledger().create_token(new(&short, 10), Change::default()).await.unwrap();
    world.ledger().create_token(new(&long, 600), Change::default()).await.unwrap();
    world.clock.advance(11);
    let refused = world.ledger().spend(&short, &holder(1)).await.unwrap_err();
    assert!(matches!(refused, SpendError::Unknown), "{refused}");
    world.sweep().await;
    assert_eq!(world.ledger().0.tokens.used(), 1);
    world.ledger().epochs().fence(1, &Doubt::NoWitness).await.unwrap();
    let refused = world.ledger().spend(&long, &holder(1)).await.unwrap_err();
    assert!(matches!(refused, SpendError::Unknown), "{refused}");
    world.sweep().await;
    assert_eq!(world.store.count(Space::Tokens).await.unwrap(), 0);
}

#[tokio::test]
async fn a_token_is_made_once_and_with_what_belongs_to_it() {
    let world = world().await;
    let token = token("t");
    let alias = Change {
        require: vec![Require::absent(Space::Entries, b"alias")],
        writes: vec![Write::put(Space::Entries, b"alias", json(&1))],
        events: Vec::new(),
    };
    world.ledger().create_token(new(&token, 600), alias.clone()).await.unwrap();
    assert!(world.store.get(Space::Entries, b"alias").await.unwrap().is_some());
    let refused = world.ledger().create_token(new(&token, 600), Change::default()).await;
    assert!(matches!(refused, Err(LedgerError::Exists)), "{refused:?}");
    let other = self::token("u");
    let refused = world.ledger().create_token(new(&other, 600), alias).await;
    let conflict = LedgerError::Commit(CommitError::Conflict { unmet: 0 }).to_string();
    assert_eq!(refused.unwrap_err().to_string(), conflict);
    let unknown = world.ledger().spend(&other, &holder(1)).await.unwrap_err();
    assert!(matches!(unknown, SpendError::Unknown), "{unknown}");
    assert_eq!(world.ledger().0.tokens.used(), 1);
}

#[tokio::test]
async fn there_are_only_so_many_tokens() {
    let world = world().await;
    for _ in 0..MAX_TOKENS {
        world.ledger().0.tokens.take(1).unwrap().keep();
    }
    let token = token("t");
    let refused = world.ledger().create_token(new(&token, 600), Change::default()).await;
    assert!(matches!(refused, Err(LedgerError::Full { .. })), "{refused:?}");
}

/// What was made counts, though nobody waited for it.
#[tokio::test]
async fn the_count_is_right_though_a_caller_hangs_up() {
    let world = world().await;
    let (ledger, token) = (world.ledger(), "t1".parse().unwrap());
    {
        let minting = ledger.mint(issue(binding(60)), Met::nothing());
        assert!(futures_util::poll!(std::pin::pin!(minting)).is_pending());
        let creating = ledger.create_token(new(&token, 600), Change::default());
        assert!(futures_util::poll!(std::pin::pin!(creating)).is_pending());
    }
    // The journal takes one after the other.
    ledger.mint(issue(binding(60)), Met::nothing()).await.unwrap();
    assert_eq!(world.store.count(Space::Psks).await.unwrap(), 2);
    assert_eq!(world.store.count(Space::Tokens).await.unwrap(), 1);
    assert_eq!((ledger.0.psks.used(), ledger.0.tokens.used()), (2, 1));
}
