//! Series: of two epochs, the later voids the earlier.

use claviger_core::psk::SeriesEpoch;
use tokio::task::JoinSet;

use super::*;
use crate::ledger::series::{KEPT, MAX_SERIES_PER_CLIENT};

/// What is bound to this epoch of a series.
fn of(name: &str, epoch: u64, ttl: u64) -> PskBinding {
    PskBinding { series: SeriesEpoch::from_wire(name, epoch).unwrap(), ..binding(ttl) }
}

async fn mint(ledger: &Ledger, binding: PskBinding) -> Result<Minted, LedgerError> {
    ledger.mint(issue(binding), Met::nothing()).await
}

/// Mints a key of an epoch, and makes the proof for it.
async fn key(world: &World, epoch: u64) -> (Minted, PskProof) {
    let minted = mint(world.ledger(), of("train", epoch, 60)).await.unwrap();
    let proof = proof(&minted.base, &of("train", epoch, 60));
    (minted, proof)
}

fn is_superseded(outcome: &Result<Redeemed, Refused>) -> bool {
    matches!(outcome, Err(Refused::Superseded))
}

#[tokio::test]
async fn the_first_key_of_an_epoch_voids_what_is_unspent_of_earlier_ones() {
    let world = world().await;
    let (spent, unspent, also) = (key(&world, 3).await, key(&world, 3).await, key(&world, 3).await);
    redeem(world.ledger(), &spent.0, spent.1, 1).await.unwrap();
    redeem(world.ledger(), &also.0, also.1, 1).await.unwrap();
    let next = key(&world, 7).await;
    for attempt in 1..3 {
        let outcome = redeem(world.ledger(), &unspent.0, unspent.1, attempt).await;
        assert!(is_superseded(&outcome), "{outcome:?}");
    }
    // The answer was lost on the way.
    redeem(world.ledger(), &spent.0, spent.1, 1).await.unwrap();
    redeem(world.ledger(), &next.0, next.1, 1).await.unwrap();

    let refused = mint(world.ledger(), of("train", 6, 60)).await.unwrap_err();
    assert!(
        matches!(refused, LedgerError::Superseded { newest } if newest.get() == 7),
        "{refused}"
    );
    let events = world.events().await;
    let voided = |event: &&Event| {
        let Event::PskVoided { binding, newest, .. } = event else { return false };
        let epoch = binding.series.as_ref().map(|series| series.epoch.get());
        assert_eq!((epoch, newest.map(|newest| newest.get())), (Some(3), Some(7)));
        true
    };
    assert_eq!(events.iter().filter(voided).count(), 1, "once for each key");
}

#[tokio::test]
async fn a_wrong_binder_is_not_told_that_the_epoch_is_over() {
    let world = world().await;
    let (minted, _proof) = key(&world, 1).await;
    let _next = key(&world, 2).await;
    let wrong = PskProof::Binder { transcript: [7; 32], binder: [0; 32] };
    let refused = redeem(world.ledger(), &minted, wrong, 1).await.unwrap_err();
    assert!(matches!(refused, Refused::WrongBinder), "{refused}");
}

#[tokio::test]
async fn other_series_and_keys_of_none_are_let_alone() {
    let world = world().await;
    let (minted, proof) = key(&world, 1).await;
    mint(world.ledger(), of("other", 9, 60)).await.unwrap();
    mint(world.ledger(), binding(60)).await.unwrap();
    for change in [
        |b: &mut PskBinding| b.client = "spiffe://example.org/x".parse().unwrap(),
        |b: &mut PskBinding| b.server = "spiffe://example.org/x".parse().unwrap(),
        |b: &mut PskBinding| b.purpose = "x".parse().unwrap(),
    ] {
        let mut other = of("train", 9, 60);
        change(&mut other);
        mint(world.ledger(), other).await.unwrap();
    }
    redeem(world.ledger(), &minted, proof, 1).await.unwrap();
}

/// Whoever redeems after a key of the next epoch was handed out is refused, whatever was decided before;
/// and the log has no key of the old epoch that is spent after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_key_is_spent_after_the_next_epoch_began() {
    const KEYS: u8 = 200;

    let world = Arc::new(world().await);
    let mut keys = Vec::new();
    for _ in 0..KEYS {
        keys.push(key(&world, 1).await);
    }
    let (late, late_proof) = key(&world, 1).await;
    let mut tasks = JoinSet::new();
    for (minted, proof) in keys {
        let world = Arc::clone(&world);
        tasks.spawn(async move {
            tokio::task::yield_now().await;
            redeem(world.ledger(), &minted, proof, 1).await.is_ok()
        });
    }
    // Many begin it at once.
    for _ in 0..16 {
        let world = Arc::clone(&world);
        tasks.spawn(async move {
            while let Err(LedgerError::Overtaken) = mint(world.ledger(), of("train", 2, 60)).await {
            }
            false
        });
    }
    while let Err(LedgerError::Overtaken) = mint(world.ledger(), of("train", 2, 60)).await {}
    assert!(is_superseded(&redeem(world.ledger(), &late, late_proof, 1).await));
    let succeeded = tasks.join_all().await.into_iter().filter(|redeemed| *redeemed).count();

    let events = world.events().await;
    let begins = |event: &Event| {
        let Event::PskIssued { binding, .. } = event else { return false };
        binding.series.as_ref().is_some_and(|series| series.epoch.get() == 2)
    };
    let at = events.iter().position(begins).unwrap();
    let (before, after) = events.split_at(at);
    let spent = |events: &[Event]| {
        events.iter().filter(|event| matches!(event, Event::PskRedeemed { .. })).count()
    };
    assert_eq!((spent(before), spent(after)), (succeeded, 0));
    assert_eq!(events.iter().filter(|event| begins(event)).count(), 17);
}

#[tokio::test]
async fn a_series_is_remembered_for_long_after_its_last_key() {
    let world = world().await;
    let week = KEPT.as_secs();
    key(&world, 5).await;
    world.clock.advance(week - 60);
    // A key of the same epoch, and the week begins again.
    mint(world.ledger(), of("train", 5, week)).await.unwrap();
    world.clock.advance(week);
    world.sweep().await;
    let now = 2 * week - 60;
    let refused = mint(world.ledger(), of("train", 4, now + 60)).await.unwrap_err();
    assert!(matches!(refused, LedgerError::Superseded { .. }), "{refused}");

    world.clock.advance(week + 1);
    world.sweep().await;
    assert_eq!(world.store.count(Space::Series).await.unwrap(), 0);
    assert_eq!(world.ledger().0.series.len(), 0);
    mint(world.ledger(), of("train", 1, now + week + 60)).await.unwrap();
}

#[tokio::test]
async fn a_key_whose_series_is_forgotten_is_void() {
    let world = world().await;
    let (minted, proof) = key(&world, 1).await;
    let below = Write::DeleteBelow { space: Space::Series, key: vec![0xff; 49] };
    world.store.write(vec![below]).await.unwrap();
    assert!(is_superseded(&redeem(world.ledger(), &minted, proof, 1).await));
}

#[tokio::test]
async fn a_client_has_only_so_many_series() {
    let world = world().await;
    let mint_of = |name: String| mint(world.ledger(), of(&name, 1, 60));
    let names = (0..MAX_SERIES_PER_CLIENT).map(|n| mint_of(format!("s{n}")));
    for minted in futures_util::future::join_all(names).await {
        minted.unwrap();
    }
    let refused = mint_of("more".to_owned()).await.unwrap_err();
    assert!(matches!(refused, LedgerError::TooManySeries(_)), "{refused}");
    // What there is goes on, and so do others.
    mint(world.ledger(), of("s7", 2, 60)).await.unwrap();
    let client = "spiffe://example.org/other".parse().unwrap();
    mint(world.ledger(), PskBinding { client, ..of("more", 1, 60) }).await.unwrap();
    assert_eq!(world.ledger().0.series.len(), MAX_SERIES_PER_CLIENT + 1);
}

#[tokio::test]
async fn what_cannot_be_written_begins_no_epoch() {
    let world = world().await;
    let (minted, proof) = key(&world, 1).await;
    world.store.fail(Fault::Full);
    mint(world.ledger(), of("train", 2, 60)).await.unwrap_err();
    mint(world.ledger(), of("new", 1, 60)).await.unwrap_err();
    world.store.fail(Fault::None);
    assert_eq!(world.ledger().0.series.len(), 1, "the place is free again");
    redeem(world.ledger(), &minted, proof, 1).await.unwrap();
}
