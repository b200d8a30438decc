//! With a real agent and a fake server.

use std::time::Duration;

use claviger_core::decision::{Action, Context, Party, Question, Resource, Verdict};
use claviger_core::time::{Clock, SystemClock};
use claviger_policy::local::Undecided;
use claviger_proto::claviger::policy::v1::authorize_response::Verdict as WireVerdict;
use claviger_proto::claviger::policy::v1::{AuthorizeRequest, WatchResponse};
use claviger_runtime::health::{Health, State};
use tonic::Code;

use super::*;
use crate::files::DataDir;
use crate::world::{
    Client, Delivery, GOOD_FOR, Says, StartedAgent, TokenKey, World, announcement, health_is, ours,
    policies,
};

pub(crate) const US: &str = "spiffe://example.org/us";
pub(crate) const THEM: &str = "spiffe://example.org/them";
const PERMIT: &str = r#"permit (principal, action == Action::"connect", resource);"#;

/// What the agent says of a connection from us to them.
async fn verdict(client: &Client) -> Result<WireVerdict, Code> {
    let request = AuthorizeRequest {
        action: "connect".to_owned(),
        resource: THEM.to_owned(),
        purpose: "test".to_owned(),
        ..AuthorizeRequest::default()
    };
    let answer = client.authorize(request).await;
    answer.map(|answer| answer.verdict()).map_err(|status| status.code())
}

/// Waits until the agent has the announcement `version`, as those hear it who decide by themselves.
async fn in_force(client: &Client, version: u64) -> WatchResponse {
    let mut stream = client.watch_policies().await.unwrap();
    loop {
        let response = stream.next().await.unwrap();
        let Some(signed) = &response.policies else { continue };
        let payload = signed.token.split('.').nth(1).unwrap();
        let payload =
            base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, payload);
        let claims: serde_json::Value = serde_json::from_slice(&payload.unwrap()).unwrap();
        if claims["version"] == version {
            return response;
        }
    }
}

/// Waits until the agent says that something is wrong with policies, and that this is it.
async fn degraded(health: &Health, why: &str) {
    let is = |state: &State| matches!(state, State::Degraded(said) if said.contains(why));
    health_is(health, "policies", is).await;
}

async fn permitting() -> (World, StartedAgent, Client) {
    let (world, agent, client) = World::with(vec![ours("us")]).await;
    world.server.announce(PERMIT, 10);
    in_force(&client, 10).await;
    (world, agent, client)
}

#[tokio::test]
async fn what_the_server_announces_decides_at_once() {
    let (world, _agent, client) = World::with(vec![ours("us")]).await;
    assert_eq!(verdict(&client).await, Err(Code::Unavailable), "there is nothing to decide by");
    world.server.announce(PERMIT, 10);
    in_force(&client, 10).await;
    assert_eq!(verdict(&client).await, Ok(WireVerdict::Permit));
    world.server.announce("", 11);
    in_force(&client, 11).await;
    assert_eq!(verdict(&client).await, Ok(WireVerdict::Deny));
    assert_eq!(world.server.counts().fetched, 2);
    // The same, signed anew, need not be fetched.
    world.server.announce("", 12);
    in_force(&client, 12).await;
    assert_eq!(world.server.counts().fetched, 2);
}

#[tokio::test]
async fn what_is_not_believed_changes_nothing() {
    let (world, agent, client) = permitting().await;
    let (server, health) = (&world.server, &agent.running.health);
    let foreign = Says { domain: "other.org", ..Says::number(11) };
    let expired = Says { age: GOOD_FOR, ..Says::number(11) };
    let sound = |token: String| token;
    server.announce_as("", &foreign, sound);
    degraded(health, "spiffe://other.org").await;
    server.announce_as("", &expired, sound);
    degraded(health, "have expired").await;
    server.announce_as("", &Says::number(9), sound);
    degraded(health, "announcement 9 is older than 10").await;
    server.announce_as("", &Says::number(10), sound);
    degraded(health, "under the number 10").await;
    server.announce_as("", &Says::number(11), |token| {
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let mut rest = signature.chars();
        let other = if rest.next() == Some('A') { 'B' } else { 'A' };
        format!("{signed}.{other}{}", rest.as_str())
    });
    degraded(health, "signature does not verify").await;
    let stranger = TokenKey::new("jwt-9");
    server.announce_as("", &Says::number(11), |_| {
        announcement(&policies(""), &Says::number(11), &stranger)
    });
    degraded(health, "names no key").await;
    server.announce_as("", &Says::number(11), |_| "a.b.c".to_owned());
    degraded(health, "base64url").await;
    server.announce("permit (principal, action, resource) when { context.no };", 11);
    degraded(health, "do not compile here").await;
    server.deliver(Delivery::Tampered);
    server.announce("// 1", 12);
    degraded(health, "not those that the server signed").await;
    server.deliver(Delivery::Endless);
    server.announce("// 2", 13);
    degraded(health, "more than 4194304 bytes").await;
    assert_eq!(verdict(&client).await, Ok(WireVerdict::Permit), "the last good ones decide");
    server.deliver(Delivery::Sound);
    server.announce("", 14);
    in_force(&client, 14).await;
    assert_eq!(verdict(&client).await, Ok(WireVerdict::Deny));
    health_is(health, "policies", |state| *state == State::Ready).await;
}

#[tokio::test]
async fn what_breaks_off_is_fetched_again() {
    let (world, _agent, client) = permitting().await;
    world.server.deliver(Delivery::Interrupted(2));
    world.server.announce("", 11);
    in_force(&client, 11).await;
    assert_eq!(verdict(&client).await, Ok(WireVerdict::Deny));
    assert_eq!(world.server.counts().fetched, 4);
}

#[tokio::test]
async fn after_their_time_nothing_is_permitted_whatever_the_clock_says() {
    let (mut world, _agent, client) = permitting().await;
    world.stop_server().await;
    assert_eq!(verdict(&client).await, Ok(WireVerdict::Permit), "the server need not be there");
    world.clock.advance(GOOD_FOR);
    assert_eq!(verdict(&client).await, Err(Code::Unavailable));
    world.clock.set_back(GOOD_FOR);
    assert_eq!(verdict(&client).await, Err(Code::Unavailable));
    world.restart_server().await;
    world.server.announce(PERMIT, 11);
    in_force(&client, 11).await;
    assert_eq!(verdict(&client).await, Ok(WireVerdict::Permit));
}

#[tokio::test]
async fn a_new_key_takes_over_and_one_that_is_gone_takes_its_policies_along() {
    let (world, agent, client) = permitting().await;
    world.server.add_jwt_key();
    world.server.announce(PERMIT, 11);
    in_force(&client, 11).await;
    world.server.drop_old_jwt_keys();
    world.server.announce(PERMIT, 12);
    in_force(&client, 12).await;
    assert_eq!(verdict(&client).await, Ok(WireVerdict::Permit));
    world.server.add_jwt_key();
    world.server.drop_old_jwt_keys();
    degraded(&agent.running.health, "believed").await;
    assert_eq!(verdict(&client).await, Err(Code::Unavailable));
}

#[tokio::test]
async fn how_an_identity_stands_counts_at_once() {
    let (world, _agent, client) = permitting().await;
    let version = world.server.stand(THEM, 0, true);
    world.server.took_in(version).await;
    assert_eq!(verdict(&client).await, Ok(WireVerdict::Deny));
    let version = world.server.stand(THEM, 0, false);
    world.server.took_in(version).await;
    assert_eq!(verdict(&client).await, Ok(WireVerdict::Permit));
}

/// What was kept, as an agent finds it that starts without its server.
async fn restarted(world: &World) -> (Keeper, Policies) {
    let dir = DataDir::open(&world.data_dir()).unwrap();
    let (_sender, link) = watch::channel(None);
    let ahead = Arc::clone(&world.clock);
    let clock: Arc<dyn Clock> = ahead;
    let domain = "example.org".parse().unwrap();
    let health = Health::default().part("policies");
    let places = Places { dir, link };
    let opened = Keeper::open(places, domain, Standings::default(), clock, health).await;
    let (keeper, policies, _inbox) = opened.unwrap();
    (keeper, policies)
}

fn question() -> Question {
    Question {
        principal: Party::new(US.parse().unwrap()),
        action: Action::Connect,
        resource: Resource::Identity(Party::new(THEM.parse().unwrap())),
        context: Context { purpose: Some("test".parse().unwrap()), ..Context::default() },
    }
}

#[tokio::test]
async fn an_agent_that_starts_without_its_server_decides_until_they_expire() {
    let (mut world, agent, client) = permitting().await;
    drop(client);
    world.stop_server().await;
    agent.stop().await;
    let (_keeper, policies) = restarted(&world).await;
    let now = SystemClock.now();
    let decided = policies.local.decide(question(), now).unwrap();
    assert_eq!(decided.decision.verdict, Verdict::Permit);
    assert_eq!(policies.local.version(), 10);
    assert!(policies.in_force.borrow().is_some());
    let late = policies.local.decide(question(), now.after(GOOD_FOR)).unwrap_err();
    assert!(matches!(late, Undecided::Untimely(_)), "{late}");
}

#[tokio::test]
async fn a_restart_forgets_neither_the_number_nor_that_they_have_expired() {
    let (world, agent, client) = permitting().await;
    drop(client);
    agent.stop().await;
    world.clock.advance(GOOD_FOR);
    let (keeper, policies) = restarted(&world).await;
    let tasks = claviger_runtime::tasks::Tasks::default();
    tasks.spawn("policies", |stop| keeper.run(stop));
    let mut in_force = policies.in_force.clone();
    crate::world::within(in_force.wait_for(Option::is_none)).await.unwrap();
    tasks.stop();
    tasks.drained(Duration::from_secs(10)).await;
    drop((policies, in_force));
    world.clock.set_back(GOOD_FOR);
    let (_keeper, policies) = restarted(&world).await;
    let refused = policies.local.decide(question(), SystemClock.now());
    assert_eq!(refused, Err(Undecided::NoPolicies));
    assert_eq!(policies.local.version(), 10);
}

#[tokio::test]
async fn what_was_kept_is_checked_anew() {
    let (world, agent, client) = permitting().await;
    drop(client);
    agent.stop().await;
    let path = world.data_dir().join("policies.json");
    let kept = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, kept.replace("connect", "reached")).unwrap();
    let (keeper, policies) = restarted(&world).await;
    let refused = policies.local.decide(question(), SystemClock.now());
    assert_eq!(refused, Err(Undecided::NoPolicies));
    drop((keeper, policies));
    std::fs::write(&path, "{").unwrap();
    let error = world.try_start(world.config()).await.err().unwrap().to_string();
    assert!(error.contains("policies.json") && error.contains("remove it"), "{error}");
}
