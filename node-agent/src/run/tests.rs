//! An agent's life: its start, outages, restarts, its end.

use std::time::Duration;

use claviger_core::entry::Entry;
use claviger_core::time::UnixTime;
use claviger_runtime::health::State;
use claviger_runtime::place::ServerAddr;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

mod evidence;
mod parent;
mod restart;
mod several;

use super::*;
use crate::config::TokenSource;
use crate::identity::EnrolError;
use crate::world::{World, health_is, ids, ours, within, workload};

fn later(id: &str) -> Entry {
    Entry { created_at: UnixTime::from_secs(9), ..ours(id) }
}

#[tokio::test]
async fn a_restarted_agent_is_who_it_was_and_needs_no_token() {
    let (world, agent, client) = World::with(vec![ours("a")]).await;
    let id = agent.running.id.clone();
    assert_eq!(id.to_string(), "spiffe://example.org/spire/agent/join_token/good-token");
    client.ids().await.unwrap();
    agent.stop().await;

    let mut config = world.config();
    config.join_token = None;
    let agent = world.try_start(config).await.unwrap();
    within(agent.running.health.ready()).await;
    assert_eq!(agent.running.id, id);
    assert_eq!(world.server.counts().attested, 1);
    let client = workload(&world.socket()).await;
    assert_eq!(client.ids().await.unwrap(), ["spiffe://example.org/a"]);
}

#[tokio::test]
async fn an_agent_without_identity_and_token_says_what_to_do() {
    let world = World::new().await;
    let mut config = world.config();
    config.join_token = None;
    let error = world.try_start(config).await.err().unwrap();
    assert!(error.to_string().contains("claviger token generate"), "{error}");

    let mut config = world.config();
    config.join_token = Some(TokenSource::Inline("guessed".parse().unwrap()));
    let error = world.try_start(config).await.err().unwrap();
    let refused =
        matches!(error, StartError::Identity(EstablishError::Enrol(EnrolError::Refused { .. })));
    assert!(refused && error.to_string().contains("claviger token generate"), "{error}");
}

#[tokio::test]
async fn a_second_agent_in_the_same_place_is_refused() {
    let (world, _agent, _client) = World::with(vec![]).await;
    let error = world.try_start(world.config()).await.err().unwrap();
    assert!(matches!(error, StartError::DataDir(DataDirError::InUse { .. })), "{error}");
}

#[tokio::test]
async fn an_agent_waits_for_its_server_and_says_so_to_callers() {
    let mut world = World::new().await;
    world.server.put(ours("a"));
    world.stop_server().await;
    let starting = world.try_start(world.config());
    let meanwhile = async {
        let socket = world.socket();
        while !socket.exists() {
            tokio::task::yield_now().await;
        }
        let client = workload(&socket).await;
        let mut health = HealthClient::new(client.channel.clone());
        let report = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
        (client.ids().await.unwrap_err(), report.status)
    };
    tokio::pin!(starting);
    let (code, status) = tokio::select! {
        started = &mut starting => panic!("without a server: {}", started.is_ok()),
        answered = within(meanwhile) => answered,
    };
    assert_eq!((code, status), (Code::Unavailable, 2), "2 is NOT_SERVING");
}

#[tokio::test]
async fn an_outage_is_survived_with_what_is_cached() {
    let (mut world, agent, client) = World::with(vec![ours("a")]).await;
    let mut stream = client.x509().await.unwrap();
    stream.next().await.unwrap();
    let health = &agent.running.health;

    world.stop_server().await;
    let degraded = |state: &State| matches!(state, State::Degraded(_));
    let why = health_is(health, "server", degraded).await;
    assert!(why.contains("serving cached SVIDs"), "{why}");
    assert!(health.report().is_ready());
    assert_eq!(client.ids().await.unwrap(), ["spiffe://example.org/a"]);

    world.server.put(later("b"));
    world.restart_server().await;
    assert_eq!(ids(&stream.next().await.unwrap()).len(), 2);
    health_is(health, "server", |state| *state == State::Ready).await;
    assert_eq!(world.server.counts().snapshots, 1, "only what changed was sent");
    assert_eq!(world.server.counts().svids, 2);
}

#[tokio::test]
async fn the_agent_renews_itself_and_stays_connected() {
    let world = World::new().await;
    world.server.set_ttls(Duration::from_secs(4), Duration::from_secs(3_600));
    world.server.put(ours("a"));
    let _agent = world.start_agent().await;
    let mut stream = workload(&world.socket()).await.x509().await.unwrap();
    stream.next().await.unwrap();
    let renewed = async {
        while world.server.counts().renewed < 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within(renewed).await;
    world.server.put(later("b"));
    assert_eq!(ids(&stream.next().await.unwrap()).len(), 2);
    assert_eq!(world.server.counts().attested, 1);
}

#[tokio::test]
async fn a_banned_agent_serves_nobody_and_says_so() {
    let (world, agent, client) = World::with(vec![ours("a")]).await;
    let mut stream = client.x509().await.unwrap();
    stream.next().await.unwrap();
    world.server.ban();
    assert_eq!(stream.end().await.code(), Code::PermissionDenied);
    let failed = |state: &State| matches!(state, State::Failed(_));
    let why = health_is(&agent.running.health, "identity", failed).await;
    assert!(why.contains("is banned") && why.contains("new join token"), "{why}");
    assert_eq!(client.ids().await, Err(Code::PermissionDenied));

    // It does not try the refused identity again.
    agent.stop().await;
    let mut config = world.config();
    config.join_token = None;
    let error = world.try_start(config).await.err().unwrap();
    assert!(matches!(error, StartError::Identity(EstablishError::Enrol(EnrolError::NoEvidence))));
}

#[tokio::test]
async fn the_newest_checkpoint_is_remembered() {
    let (world, agent, _client) = World::with(vec![ours("a")]).await;
    agent.stop().await;
    let path = world.socket().with_file_name("agent").join("witnessed.json");
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(r"example.org/audit\n2\n"), "{text}");
}

#[tokio::test]
async fn health_and_reflection_are_on_the_socket() {
    let (_world, _agent, client) = World::with(vec![ours("a")]).await;
    let mut health = HealthClient::new(client.channel.clone());
    let report = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(report.status, 1, "SERVING");

    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(client.channel);
    let answers = reflection.server_reflection_info(tokio_stream::once(request)).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("another answer") };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    assert!(names.contains(&"SpiffeWorkloadAPI".to_owned()), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("claviger")), "{names:?}");
}

#[tokio::test]
async fn a_thousand_entries_come_in_a_few_batches() {
    let world = World::new().await;
    for number in 0..1_000 {
        world.server.put(crate::world::theirs(&format!("other-{number}")));
    }
    world.server.put(ours("a"));
    let _agent = world.start_agent().await;
    let client = workload(&world.socket()).await;
    assert_eq!(client.ids().await.unwrap(), ["spiffe://example.org/a"]);
    world.server.applied(1_001).await;
    assert_eq!(world.server.counts().svids, 1_001);
}
