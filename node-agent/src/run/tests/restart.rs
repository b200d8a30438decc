//! An agent that starts while its server is away, with what it has kept.

use std::path::Path;

use tempfile::{TempDir, tempdir};

use super::*;
use crate::credentials::cache::Known;
use crate::world::Client;

/// What an agent would find that begins with what is in `data` now; files that are there no more, or not
/// yet, are left out.
async fn known(data: &Path) -> Option<Known> {
    let dir = copy(data);
    Cache::new(DataDir::open(dir.path()).unwrap()).load().await.unwrap()
}

fn copy(data: &Path) -> TempDir {
    let dir = tempdir().unwrap();
    for file in ["identity.pem", "credentials.sealed"] {
        match std::fs::copy(data.join(file), dir.path().join(file)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
            Ok(_) | Err(_) => {}
        }
    }
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .unwrap();
    dir
}

async fn until_known(world: &World, all: impl Fn(&Known) -> bool) {
    within(async {
        while !known(&world.data_dir()).await.is_some_and(|known| all(&known)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

async fn jwt(client: &Client, audience: &str) -> Result<String, tonic::Status> {
    Ok(client.jwts(&[audience], "spiffe://example.org/a").await?[0].svid.clone())
}

#[tokio::test]
async fn an_agent_that_restarts_in_an_outage_serves_what_it_knows_and_then_what_is_so() {
    let (mut world, agent, client) = World::with(vec![ours("a"), later("b")]).await;
    let before = client.x509().await.unwrap().next().await.unwrap();
    let kept = world.data_dir().join("credentials.sealed");
    until_known(&world, |known| known.update.svids.len() == 2).await;
    agent.stop().await;
    world.stop_server().await;

    let config = Config { join_token: None, ..world.config() };
    let agent = world.try_start(config).await.unwrap();
    let degraded = |state: &State| matches!(state, State::Degraded(_));
    let why = health_is(&agent.running.health, "server", degraded).await;
    assert!(why.contains("serving cached SVIDs"), "{why}");
    within(agent.running.health.ready()).await;
    let client = workload(&world.socket()).await;
    let mut stream = client.x509().await.unwrap();
    let during = stream.next().await.unwrap();
    assert!(before.svids == during.svids, "the same material, byte for byte");

    // What has happened meanwhile counts as soon as the server says so.
    world.server.delete("b");
    world.restart_server().await;
    assert_eq!(ids(&stream.next().await.unwrap()), ["spiffe://example.org/a"]);
    agent.stop().await;

    // A disk without the agent's key is of no use, and no obstacle.
    world.stop_server().await;
    let text = std::fs::read(&kept).unwrap();
    assert!(!text.windows(6).any(|window| window == b"spiffe"));
    std::fs::write(&kept, b"clvsvid2 and something else").unwrap();
    let config = Config { join_token: None, ..world.config() };
    let agent = world.try_start(config).await.unwrap();
    let failed = |state: &State| matches!(state, State::Failed(_));
    health_is(&agent.running.health, "server", failed).await;
    assert_eq!(workload(&world.socket()).await.ids().await, Err(Code::Unavailable));
}

#[tokio::test]
async fn tokens_and_their_bundles_outlive_a_restart_in_an_outage_and_one_time_tokens_do_not() {
    let once = Entry { jwt_jti: true, ..later("b") };
    let (mut world, agent, client) = World::with(vec![ours("a"), once]).await;
    let token = jwt(&client, "one").await.unwrap();
    client.jwts(&["one"], "spiffe://example.org/b").await.unwrap();
    let wit = client.wits("spiffe://example.org/a").await.unwrap().next().await.unwrap();
    let jwt_bundles = client.jwt_bundles().await.unwrap().next().await.unwrap();
    let wit_bundles = client.wit_bundles().await.unwrap().next().await.unwrap();
    let all = |known: &Known| (known.tokens.len(), known.update.wits.len()) == (1, 1);
    until_known(&world, all).await;
    // What came last is written when an agent is stopped.
    let last = jwt(&client, "two").await.unwrap();
    agent.stop().await;
    world.stop_server().await;

    let config = Config { join_token: None, ..world.config() };
    let agent = world.start(config).await;
    let client = workload(&world.socket()).await;
    assert!(jwt(&client, "one").await.unwrap() == token);
    assert!(jwt(&client, "two").await.unwrap() == last);
    assert_eq!(jwt(&client, "three").await.unwrap_err().code(), Code::Unavailable);
    let refused = client.jwts(&["one"], "spiffe://example.org/b").await.err().unwrap();
    assert_eq!(refused.code(), Code::Unavailable);
    let during = client.wits("spiffe://example.org/a").await.unwrap().next().await.unwrap();
    assert!(during == wit, "the same token and key");
    assert!(client.jwt_bundles().await.unwrap().next().await.unwrap() == jwt_bundles);
    assert!(client.wit_bundles().await.unwrap().next().await.unwrap() == wit_bundles);
    let valid = client.validate("one", &token).await.unwrap();
    assert_eq!(valid.spiffe_id, "spiffe://example.org/a");

    // A token that has ended is nobody's; and the next one comes from the server as soon as it is back.
    world.clock.advance(Duration::from_secs(301));
    assert_eq!(jwt(&client, "one").await.unwrap_err().code(), Code::Unavailable);
    world.server.set_jwt_ttl(Duration::from_secs(3_600));
    world.restart_server().await;
    within(async { while jwt(&client, "one").await.is_err() {} }).await;
    assert!(jwt(&client, "one").await.unwrap() != token);
    agent.stop().await;
}

#[tokio::test]
async fn whoever_is_put_in_quarantine_leaves_no_token_behind() {
    let (world, agent, client) = World::with(vec![ours("a"), later("b")]).await;
    jwt(&client, "one").await.unwrap();
    client.jwts(&["one"], "spiffe://example.org/b").await.unwrap();
    client.wits("").await.unwrap().next().await.unwrap();
    until_known(&world, |known| known.tokens.len() == 2).await;
    world.server.stand("spiffe://example.org/a", 0, true);
    let of_b = |known: &Known| {
        let wits = known.update.wits.iter().all(|(id, _)| id.to_string() == "b");
        let [token] = &known.tokens[..] else { return false };
        wits && token.entry.id.to_string() == "b" && known.update.upserts.len() == 1
    };
    until_known(&world, of_b).await;
    agent.stop().await;
}

/// Were the file written anew only after the agent has its next key, it would not open for up to a second.
#[tokio::test]
async fn an_agent_that_is_killed_right_after_it_has_renewed_itself_still_knows_what_it_knew() {
    let world = World::new().await;
    world.server.set_ttls(Duration::from_secs(4), Duration::from_secs(3_600));
    world.server.put(ours("a"));
    let _agent = world.start_agent().await;
    until_known(&world, |known| known.update.svids.len() == 1).await;
    let identity = world.data_dir().join("identity.pem");
    let (mut last, mut renewed, mut number) = (std::fs::read(&identity).unwrap(), 0, 0);
    within(async {
        while renewed < 3 {
            // Something is always being written, or about to be.
            number += 1;
            world.server.put(crate::world::theirs(&format!("other-{number}")));
            let dir = copy(&world.data_dir());
            let now = std::fs::read(dir.path().join("identity.pem")).unwrap();
            let known = Cache::new(DataDir::open(dir.path()).unwrap()).load().await.unwrap();
            // It is that of one moment only if the key did not change while it was copied.
            if std::fs::read(&identity).unwrap() == now {
                assert!(known.is_some_and(|known| !known.update.svids.is_empty()));
                renewed += usize::from(now != last);
                last = now;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}
