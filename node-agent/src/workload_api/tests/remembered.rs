use claviger_proto::workload::Jwtsvid;
use futures_util::future::join_all;
use tokio::time::Instant;

use super::*;
use crate::world::Jwts;

async fn token(client: &Client, audience: &str) -> Result<String, Status> {
    let svids: Vec<Jwtsvid> = client.jwts(&[audience], "").await?;
    Ok(svids[0].svid.clone())
}

#[tokio::test]
async fn a_token_is_made_once_for_all_who_ask_for_the_same() {
    let (world, _agent, client) = World::with(vec![ours("a")]).await;
    let all = join_all((0..50).map(|_| token(&client, "one"))).await;
    let first = all[0].as_ref().unwrap();
    assert!(all.iter().all(|one| one.as_ref().unwrap() == first));
    assert_eq!(world.server.counts().jwts, 1);
    assert!(token(&client, "one").await.unwrap() == *first);
    assert!(token(&client, "two").await.unwrap() != *first);
    assert_eq!(world.server.counts().jwts, 2);
}

#[tokio::test]
async fn a_token_with_a_name_of_its_own_is_nobody_elses() {
    let (world, _agent, client) = World::with(vec![Entry { jwt_jti: true, ..ours("a") }]).await;
    let all = join_all((0..5).map(|_| token(&client, "one"))).await;
    let mut all: Vec<_> = all.into_iter().map(Result::unwrap).collect();
    all.sort();
    all.dedup();
    assert_eq!((all.len(), world.server.counts().jwts), (5, 5));
}

#[tokio::test]
async fn a_token_is_renewed_after_half_of_its_life() {
    let (world, _agent, client) = World::with(vec![ours("a")]).await;
    let first = token(&client, "one").await.unwrap();
    world.clock.advance(Duration::from_secs(140));
    assert!(token(&client, "one").await.unwrap() == first);
    world.clock.advance(Duration::from_secs(11));
    assert!(token(&client, "one").await.unwrap() != first);
    assert_eq!(world.server.counts().jwts, 2);
}

#[tokio::test]
async fn an_entry_that_changed_has_another_token() {
    let (world, _agent, client) = World::with(vec![ours("a")]).await;
    let first = token(&client, "one").await.unwrap();
    let changed = Entry { spiffe_id: "spiffe://example.org/b".parse().unwrap(), ..ours("a") };
    world.server.applied(world.server.put(Entry { revision: 1, ..changed })).await;
    let second = client.jwts(&["one"], "").await.unwrap();
    assert_eq!(second[0].spiffe_id, "spiffe://example.org/b");
    assert!(second[0].svid != first);

    world.server.applied(world.server.delete("a")).await;
    assert_eq!(said(&token(&client, "one").await.err().unwrap()), NOBODY);
}

#[tokio::test]
async fn a_token_of_a_tainted_key_is_not_given_out_again() {
    let (world, _agent, client) = World::with(vec![ours("a")]).await;
    let first = token(&client, "one").await.unwrap();
    let mut bundles = client.jwt_bundles().await.unwrap();
    bundles.next().await.unwrap();
    world.server.taint_token_keys();
    bundles.next().await.unwrap();
    let second = token(&client, "one").await.unwrap();
    assert!(second != first);
    assert!(token(&client, "one").await.unwrap() == second);
    assert_eq!(world.server.counts().jwts, 2);
}

#[tokio::test]
async fn what_was_remembered_does_while_the_server_is_away() {
    let (mut world, _agent, client) = World::with(vec![ours("a")]).await;
    let first = token(&client, "one").await.unwrap();
    world.stop_server().await;
    world.clock.advance(Duration::from_secs(151));
    for _ in 0..3 {
        assert!(token(&client, "one").await.unwrap() == first);
    }
    let away = (Code::Unavailable, "the server cannot be reached; try again");
    assert_eq!(said(&token(&client, "two").await.err().unwrap()), away);
    world.clock.advance(Duration::from_secs(151));
    assert_eq!(said(&token(&client, "one").await.err().unwrap()), away);

    world.restart_server().await;
    world.server.set_jwt_ttl(Duration::from_secs(3_600));
    let again = async { while token(&client, "one").await.is_err() {} };
    crate::world::within(again).await;
}

#[tokio::test]
async fn a_refusal_is_told_at_once_and_not_tried_again() {
    let (world, _agent, client) = World::with(vec![ours("a")]).await;
    for (at, (code, told)) in [
        (Code::PermissionDenied, NOBODY),
        (Code::NotFound, NOBODY),
        (Code::InvalidArgument, (Code::InvalidArgument, "no")),
        (Code::Unimplemented, (Code::Unimplemented, "no")),
        (Code::Unavailable, (Code::Unavailable, "the server cannot be reached; try again")),
        (Code::Internal, (Code::Unavailable, "the server cannot be reached; try again")),
    ]
    .into_iter()
    .enumerate()
    {
        world.server.answer_jwts(Jwts::Refusal(code));
        assert_eq!(said(&token(&client, "one").await.err().unwrap()), told);
        assert_eq!(world.server.counts().jwts, at + 1);
    }
}

#[tokio::test]
async fn what_the_server_should_not_have_sent_is_not_handed_out() {
    let (world, _agent, client) = World::with(vec![ours("a")]).await;
    let useless = (Code::Unavailable, "the server's answer is of no use");
    for jwts in [Jwts::OtherSubject, Jwts::OtherAudience, Jwts::OtherKey] {
        world.server.answer_jwts(jwts);
        assert_eq!(said(&token(&client, "one").await.err().unwrap()), useless);
    }
    world.server.set_jwt_ttl(Duration::ZERO);
    world.server.answer_jwts(Jwts::Sound);
    assert_eq!(said(&token(&client, "one").await.err().unwrap()), useless);
}

#[tokio::test]
async fn a_server_that_says_nothing_is_not_waited_for_long() {
    let (world, _agent, client) = World::with(vec![ours("a")]).await;
    world.server.answer_jwts(Jwts::Silence);
    let start = Instant::now();
    let away = (Code::Unavailable, "the server cannot be reached; try again");
    assert_eq!(said(&token(&client, "one").await.err().unwrap()), away);
    assert!(start.elapsed() < Duration::from_secs(6));
    assert_eq!(world.server.counts().jwts, 1);
}
