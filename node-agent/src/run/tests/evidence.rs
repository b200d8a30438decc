//! Agents whose evidence can be shown again.

use super::*;
use crate::world::StartedAgent;

const ID: &str = "spiffe://example.org/spire/agent/again/1";

async fn attested(world: &World, times: usize) {
    let attested = async {
        while world.server.counts().attested < times {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(attested).await;
    assert_eq!(world.server.counts().renewed, 0);
}

/// The agent answers, and gets what is new.
async fn serves(world: &World, agent: &StartedAgent, new: &str) {
    world.server.put(later(new));
    health_is(&agent.running.health, "identity", |state| *state == State::Ready).await;
    within(async {
        let client = workload(&world.socket()).await;
        let new = format!("spiffe://example.org/{new}");
        while !client.ids().await.is_ok_and(|ids| ids.contains(&new)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_can_be_shown_again_is_shown_instead_of_renewing() {
    let world = World::new().await;
    world.server.set_ttls(Duration::from_secs(4), Duration::from_secs(3_600));
    let agent = world.start(world.config_of_machine()).await;
    assert_eq!(agent.running.id.to_string(), ID);
    attested(&world, 2).await;
    serves(&world, &agent, "a").await;

    // And so it is after a restart.
    agent.stop().await;
    let before = world.server.counts().attested;
    let agent = world.start(world.config_of_machine()).await;
    attested(&world, before + 1).await;
    assert_eq!(agent.running.id.to_string(), ID);
}

#[tokio::test]
async fn an_evicted_agent_attests_by_itself_and_goes_on() {
    let world = World::new().await;
    let agent = world.start(world.config_of_machine()).await;
    world.server.evict();
    attested(&world, 2).await;
    serves(&world, &agent, "a").await;
}

#[tokio::test]
async fn an_agent_that_forgot_what_it_can_learns_it_from_the_server() {
    let world = World::new().await;
    world.server.set_ttls(Duration::from_secs(4), Duration::from_secs(3_600));
    world.start(world.config_of_machine()).await.stop().await;
    std::fs::remove_file(world.socket().with_file_name("agent").join("reattestable")).unwrap();
    let agent = world.start(world.config_of_machine()).await;
    attested(&world, 2).await;
    serves(&world, &agent, "a").await;
}

#[tokio::test]
async fn an_agent_that_slept_past_every_expiry_attests_by_itself() {
    let mut world = World::new().await;
    world.server.set_ttls(Duration::from_secs(4), Duration::from_secs(3_600));
    let agent = world.start(world.config_of_machine()).await;
    world.stop_server().await;
    world.begin_anew();
    world.clock.advance(Duration::from_secs(600));
    world.server.set_ttls(Duration::from_secs(3_600), Duration::from_secs(3_600));
    world.restart_server().await;
    attested(&world, 2).await;
    serves(&world, &agent, "a").await;
}

#[tokio::test]
async fn a_banned_agent_does_not_attest_by_itself() {
    let world = World::new().await;
    let agent = world.start(world.config_of_machine()).await;
    world.server.ban();
    let failed = |state: &State| matches!(state, State::Failed(_));
    let why = health_is(&agent.running.health, "identity", failed).await;
    assert!(why.contains("is banned") && !why.contains("join token"), "{why}");
    assert_eq!(world.server.counts().attested, 1);
}

#[tokio::test]
async fn several_kinds_are_shown_together() {
    let world = World::new().await;
    let mut config = world.config_of_machine();
    config.join_token = world.config().join_token;
    let error = world.try_start(config).await.err().unwrap();
    assert!(error.to_string().contains("(`composite`)"), "{error}");
    assert!(error.to_string().contains("`[attestors]`"), "{error}");
}
