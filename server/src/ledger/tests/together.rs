//! Several keys that are minted, and spent, together.

use super::*;

async fn three(world: &World) -> Vec<Minted> {
    let wanted = (0..3).map(|_| (issue(binding(60)), Met::nothing())).collect();
    world.ledger().mint_all(wanted).await.unwrap()
}

async fn redeem_all(
    ledger: &Ledger,
    minted: &[&Minted],
    attempt: u8,
) -> Result<Vec<Redeemed>, Refused> {
    let mut found = Vec::new();
    for minted in minted {
        let found_one = ledger.find(minted.identity).await?;
        found.push((found_one, redemption(binding(60), PskProof::IdentityOnly)));
    }
    ledger.redeem_all(found, AttemptId::from_bytes([attempt; 16])).await
}

#[tokio::test]
async fn they_are_minted_in_one_write_and_spent_in_one() {
    let world = world().await;
    let minted = three(&world).await;
    assert_eq!(world.ledger().0.psks.used(), 3);
    let all: Vec<_> = minted.iter().collect();
    let redeemed = redeem_all(world.ledger(), &all, 1).await.unwrap();
    for (minted, redeemed) in minted.iter().zip(&redeemed) {
        assert!(minted.base.0.ct_eq(&redeemed.base.0), "in their order");
    }
    let refused = redeem_all(world.ledger(), &all, 2).await.unwrap_err();
    assert!(matches!(refused, Refused::Replayed), "{refused}");
    let replayed = |event: &&Event| matches!(event, Event::PskReplayed { .. });
    assert_eq!(world.events().await.iter().filter(replayed).count(), 3);
}

#[tokio::test]
async fn one_that_is_spent_keeps_the_others_from_being_spent() {
    let world = world().await;
    let minted = three(&world).await;
    redeem_all(world.ledger(), &[&minted[1]], 1).await.unwrap();
    let all: Vec<_> = minted.iter().collect();
    let refused = redeem_all(world.ledger(), &all, 2).await.unwrap_err();
    assert!(matches!(refused, Refused::Replayed), "{refused}");
    redeem_all(world.ledger(), &[&minted[0], &minted[2]], 3).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_written_is_none_of_them() {
    let world = world().await;
    let minted = three(&world).await;
    world.store.fail(Fault::Full);
    let all: Vec<_> = minted.iter().collect();
    redeem_all(world.ledger(), &all, 1).await.unwrap_err();
    let wanted = (0..3).map(|_| (issue(binding(60)), Met::nothing())).collect();
    world.ledger().mint_all(wanted).await.unwrap_err();
    world.store.fail(Fault::None);
    assert_eq!(world.ledger().0.psks.used(), 3);
    redeem_all(world.ledger(), &all, 2).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_want_overlapping_ones_each_key_goes_to_one() {
    let world = Arc::new(world().await);
    let minted = Arc::new(three(&world).await);
    let mut tasks = tokio::task::JoinSet::new();
    for attempt in 0..60_u8 {
        let (world, minted) = (Arc::clone(&world), Arc::clone(&minted));
        tasks.spawn(async move {
            let first = usize::from(attempt) % 3;
            let two = [&minted[first], &minted[(first + 1) % 3]];
            redeem_all(world.ledger(), &two, attempt).await.is_ok()
        });
    }
    // Of three keys, two go to one, and the third is left.
    assert_eq!(tasks.join_all().await.into_iter().filter(|won| *won).count(), 1);
    let spent = |event: &&Event| matches!(event, Event::PskRedeemed { .. });
    assert_eq!(world.events().await.iter().filter(spent).count(), 2);
}
