//! What a quarantine does to one-time keys.

use claviger_core::grant::Requester;
use claviger_core::id::SpiffeId;
use claviger_core::standing::Risk;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::*;
use crate::standings::Change as How;

async fn change(life: &Life, id: &SpiffeId, how: How) {
    let reason = "test".parse().unwrap();
    life.storage.standings.change(id, how, reason, Requester::Server).await.unwrap();
}

async fn minted(world: &World) -> (Minted, PskProof) {
    let minted = world.ledger().mint(issue(binding(60)), Met::nothing()).await.unwrap();
    let proof = proof(&minted.base, &binding(60));
    (minted, proof)
}

fn is_voided(outcome: &Result<Redeemed, Refused>) -> bool {
    matches!(outcome, Err(Refused::Voided))
}

#[tokio::test]
async fn keys_from_before_and_during_a_quarantine_of_either_end_stay_void() {
    for end in [binding(60).client, binding(60).server] {
        let world = world().await;
        let (before, spent) = (minted(&world).await, minted(&world).await);
        redeem(world.ledger(), &spent.0, spent.1, 1).await.unwrap();
        change(&world.life, &end, How::Quarantine).await;
        let during = minted(&world).await;
        for (key, proof) in [&before, &spent] {
            assert!(is_voided(&redeem(world.ledger(), key, *proof, 1).await), "in quarantine");
        }
        change(&world.life, &end, How::Lift).await;
        let after = minted(&world).await;
        for (key, proof) in [&before, &spent, &during] {
            for attempt in [1, 2] {
                let outcome = redeem(world.ledger(), key, *proof, attempt).await;
                let spent_by_another = attempt == 2 && matches!(outcome, Err(Refused::Replayed));
                assert!(is_voided(&outcome) || spent_by_another, "{outcome:?}");
            }
        }
        redeem(world.ledger(), &after.0, after.1, 1).await.unwrap();
        let voided = world.events().await.into_iter();
        let voided = voided.filter(|event| matches!(event, Event::PskVoided { .. }));
        assert_eq!(voided.count(), 3, "once for each key");
    }
}

#[tokio::test]
async fn a_wrong_binder_is_not_told_that_the_key_is_void() {
    let world = world().await;
    let (key, _proof) = minted(&world).await;
    change(&world.life, &binding(60).client, How::Quarantine).await;
    let wrong = PskProof::Binder { transcript: [7; 32], binder: [0; 32] };
    let refused = redeem(world.ledger(), &key, wrong, 1).await.unwrap_err();
    assert!(matches!(refused, Refused::WrongBinder), "{refused}");
}

#[tokio::test]
async fn others_and_other_changes_void_nothing() {
    let world = world().await;
    let (key, proof) = minted(&world).await;
    let other = "spiffe://example.org/other".parse().unwrap();
    change(&world.life, &other, How::Quarantine).await;
    change(&world.life, &binding(60).client, How::Risk(Risk::MAX)).await;
    redeem(world.ledger(), &key, proof, 1).await.unwrap();
}

/// Whoever redeems after the quarantine was answered is refused, whatever was decided before; and the log
/// has no key that is spent after the quarantine.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_key_is_spent_after_a_quarantine() {
    const KEYS: usize = 200;

    let world = Arc::new(world().await);
    let mut keys = Vec::new();
    for _ in 0..KEYS {
        let (key, proof) = minted(&world).await;
        // Decided before the quarantine: the policy has its say when this is made.
        let found = world.ledger().find(key.identity).await.unwrap();
        keys.push((found, redemption(binding(60), proof)));
    }
    let (late_key, late_proof) = minted(&world).await;
    let late = world.ledger().find(late_key.identity).await.unwrap();
    let late_grant = redemption(binding(60), late_proof);

    let barrier = Arc::new(Barrier::new(KEYS + 1));
    let mut redeemers = JoinSet::new();
    for (n, (found, grant)) in keys.into_iter().enumerate() {
        let (world, barrier) = (Arc::clone(&world), Arc::clone(&barrier));
        redeemers.spawn(async move {
            barrier.wait().await;
            if n % 2 == 0 {
                tokio::task::yield_now().await;
            }
            world.ledger().redeem(found, grant, AttemptId::from_bytes([1; 16])).await.is_ok()
        });
    }
    barrier.wait().await;
    change(&world.life, &binding(60).server, How::Quarantine).await;
    let outcome = world.ledger().redeem(late, late_grant, AttemptId::from_bytes([1; 16])).await;
    assert!(is_voided(&outcome), "it was decided about before, and is spent after");
    let succeeded = redeemers.join_all().await.into_iter().filter(|redeemed| *redeemed).count();

    let events = world.events().await;
    let at = events.iter().position(|event| matches!(event, Event::Quarantined { .. })).unwrap();
    let (before, after) = events.split_at(at);
    let spent = |events: &[Event]| {
        events.iter().filter(|event| matches!(event, Event::PskRedeemed { .. })).count()
    };
    assert_eq!((spent(before), spent(after)), (succeeded, 0));
}
