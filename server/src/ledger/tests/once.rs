//! What others have issued, used once.

use claviger_attestors::{ConsumeError, ConsumeOnce as _, Once};
use claviger_core::time::UnixTime;

use super::*;

fn once<'a>(id: &'a str, key: Option<&'a KeyDigest>) -> Once<'a> {
    Once {
        kind: "oidc",
        issuer: "https://ci.example.org",
        id,
        issued_at: UnixTime::from_secs(NOW),
        expires_at: UnixTime::from_secs(NOW + 300),
        key,
    }
}

fn key(seed: u8) -> KeyDigest {
    KeyDigest::of_spki(&[seed])
}

#[tokio::test]
async fn the_first_key_may_come_again_and_no_other() {
    let world = world().await;
    for _ in 0..2 {
        world.ledger().consume(once("j", Some(&key(1)))).await.unwrap();
    }
    for _ in 0..3 {
        let refused = world.ledger().consume(once("j", Some(&key(2)))).await.unwrap_err();
        assert!(matches!(refused, ConsumeError::Replayed), "{refused}");
    }
    let alarms: Vec<_> = world.events().await;
    let alarms =
        alarms.iter().filter(|event| matches!(event, Event::EvidenceReplayed { .. })).count();
    assert_eq!(alarms, 1, "an attacker must not fill the log");
}

#[tokio::test]
async fn without_a_key_every_call_is_another() {
    let world = world().await;
    world.ledger().consume(once("j", None)).await.unwrap();
    let refused = world.ledger().consume(once("j", None)).await.unwrap_err();
    assert!(matches!(refused, ConsumeError::Replayed), "{refused}");
    world.ledger().consume(once("k", None)).await.unwrap();
    let other = Once { issuer: "https://other.example.org", ..once("j", None) };
    world.ledger().consume(other).await.unwrap();
}

#[tokio::test]
async fn of_many_at_once_one_wins() {
    let world = world().await;
    let uses = (0..64).map(|_| world.ledger().consume(once("j", None)));
    let outcomes = futures_util::future::join_all(uses).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert_eq!(world.ledger().0.once.used(), 1);
}

#[tokio::test]
async fn what_was_issued_before_the_epoch_may_have_been_used() {
    let world = world().await;
    world.clock.advance(10);
    world.ledger().epochs().fence(1, &Doubt::NoWitness).await.unwrap();
    let refused = world.ledger().consume(once("j", None)).await.unwrap_err();
    assert!(matches!(refused, ConsumeError::TooOld), "{refused}");
    let young = Once { issued_at: UnixTime::from_secs(NOW + 10), ..once("j", None) };
    world.ledger().consume(young).await.unwrap();
}

#[tokio::test]
async fn it_is_forgotten_when_nobody_believes_it_any_more() {
    let world = world().await;
    world.ledger().consume(once("j", None)).await.unwrap();
    world.clock.advance(300);
    world.sweep().await;
    assert_eq!(world.ledger().0.once.used(), 1, "it ends with this second, not before");
    world.clock.advance(1);
    world.sweep().await;
    assert_eq!(world.store.count(Space::Once).await.unwrap(), 0);
    assert_eq!(world.ledger().0.once.used(), 0);
}

#[tokio::test]
async fn what_lasts_for_ever_is_not_remembered() {
    let world = world().await;
    let long = Once { expires_at: UnixTime::from_secs(NOW + 25 * 3_600 + 1), ..once("j", None) };
    let refused = world.ledger().consume(long).await.unwrap_err();
    assert!(matches!(refused, ConsumeError::TooLong), "{refused}");
}

#[tokio::test]
async fn a_full_ledger_forgets_nothing() {
    let world = world().await;
    for _ in 0..MAX_ONCE {
        world.ledger().0.once.take(1).unwrap().keep();
    }
    let refused = world.ledger().consume(once("j", None)).await.unwrap_err();
    assert!(matches!(refused, ConsumeError::Unavailable(_)), "{refused}");
}
