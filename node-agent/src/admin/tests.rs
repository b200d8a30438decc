//! Through a real socket, with a real agent and a fake server.

use std::os::unix::fs::PermissionsExt;

use claviger_core::entry::Entry;
use claviger_core::selector::Selector;
use claviger_core::time::{Clock, SystemClock};
use claviger_proto::claviger::node::v1 as wire;
use claviger_proto::claviger::node::v1::explain_request::Subject;
use claviger_proto::claviger::node::v1::node_admin_client::NodeAdminClient;
use claviger_proto::convert::selectors;
use claviger_proto::spire::types;
use tonic::Code;

use super::*;
use crate::details;
use crate::world::{World, entry, ours, theirs, within, workload};

async fn explain(world: &World, subject: Option<Subject>) -> Result<ExplainResponse, Status> {
    let client = workload(&world.admin_socket()).await;
    let mut admin = NodeAdminClient::new(client.channel);
    Ok(within(admin.explain(ExplainRequest { subject })).await?.into_inner())
}

fn us() -> Option<Subject> {
    Some(Subject::Pid(std::process::id().try_into().unwrap()))
}

fn facts(texts: &[&str]) -> Option<Subject> {
    let facts = texts.iter().map(|text| text.parse().unwrap()).collect();
    Some(Subject::Facts(wire::Facts { selectors: selectors::list(&facts) }))
}

fn near(response: &ExplainResponse) -> Vec<(&str, &str, usize)> {
    let misses = response.near_misses.iter();
    misses.map(|miss| (miss.entry_id.as_str(), miss.reason.as_str(), miss.missing.len())).collect()
}

#[tokio::test]
async fn a_process_is_told_what_it_gets_and_what_it_lacks() {
    let stored = Entry { store_svid: true, ..ours("stored") };
    let hinted = Entry { hint: "web".to_owned(), ..ours("a") };
    let (world, agent, client) = World::with(vec![hinted, theirs("b"), stored]).await;
    client.ids().await.unwrap();
    let answer = explain(&world, us()).await.unwrap();
    assert_eq!(answer.agent_id, agent.running.id.to_string());
    let [gets] = answer.identities.as_slice() else { panic!("{answer:?}") };
    assert_eq!((gets.entry_id.as_str(), gets.hint.as_str()), ("a", "web"));
    assert_eq!(gets.spiffe_id, "spiffe://example.org/a");
    assert!(SystemClock.now().as_secs() < gets.svid_not_after && gets.reason.is_empty());

    assert_eq!(near(&answer), [("stored", "for_secret_store", 0), ("b", "selectors_missing", 1)]);
    let missing = &answer.near_misses[1].missing[0];
    let asked = Selector::try_from(missing.selector.clone().unwrap()).unwrap();
    assert_eq!(asked.to_string(), "unix:path:/nonexistent");
    let path = std::env::current_exe().unwrap();
    let path = types::Selector { r#type: "unix".into(), value: format!("path:{}", path.display()) };
    assert!(missing.instead == [path.clone()] && answer.facts.contains(&path), "{missing:?}");
}

#[tokio::test]
async fn a_process_that_does_not_exist_can_be_asked_about_by_its_facts() {
    let (world, _agent, _client) = World::with(vec![
        entry("one", &["k8s:ns:a", "k8s:sa:b"]),
        entry("two", &["k8s:ns:a", "k8s:sa:c"]),
    ])
    .await;
    world.server.applied(2).await;
    let answer = explain(&world, facts(&["k8s:ns:a", "k8s:sa:b"])).await.unwrap();
    assert_eq!(answer.identities[0].spiffe_id, "spiffe://example.org/one");
    assert_eq!(near(&answer), [("two", "selectors_missing", 1)]);
    let answer = explain(&world, facts(&[])).await.unwrap();
    assert_eq!(near(&answer).len(), 2);
}

#[tokio::test]
async fn only_the_nearest_are_named() {
    let many = (0..30).map(|n| theirs(&format!("e{n:02}"))).collect();
    let (world, _agent, _client) = World::with(many).await;
    world.server.applied(30).await;
    let answer = explain(&world, us()).await.unwrap();
    assert_eq!((answer.near_misses.len(), answer.others), (20, 10));
    assert_eq!(answer.near_misses[0].entry_id, "e00");
}

#[tokio::test]
async fn a_question_that_makes_no_sense_is_refused() {
    let (world, _agent, _client) = World::with(vec![ours("a")]).await;
    let malformed = types::Selector { r#type: "Unix".into(), value: "x".into() };
    let selectors = vec![malformed];
    for (subject, code) in [
        (None, Code::InvalidArgument),
        (Some(Subject::Pid(0)), Code::InvalidArgument),
        (Some(Subject::Pid(-1)), Code::InvalidArgument),
        (Some(Subject::Pid(i32::MAX)), Code::NotFound),
        (Some(Subject::Facts(wire::Facts { selectors })), Code::InvalidArgument),
    ] {
        assert_eq!(explain(&world, subject).await.unwrap_err().code(), code);
    }
}

/// These tests run as the agent's own user.
#[tokio::test]
async fn an_operator_without_identity_is_told_the_reason_in_the_details() {
    let (world, _agent, client) = World::with(vec![theirs("b")]).await;
    world.server.applied(1).await;
    let status = client.x509().await.err().unwrap();
    assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "no identity issued"));
    let info = details::info(&status).unwrap();
    assert_eq!((info.domain.as_str(), info.reason.as_str()), ("claviger", "selectors_missing"));
    assert_eq!(info.metadata["entry"], "b");
    assert_eq!(info.metadata["missing"], "unix:path:/nonexistent");
}

#[test]
fn an_operator_is_root_or_the_agents_user() {
    let own = rustix::process::geteuid().as_raw();
    assert!(is_operator(0) && is_operator(own));
    assert!(!is_operator(own.wrapping_add(4_242)));
}

#[tokio::test]
async fn the_socket_has_the_mode_that_was_asked_for() {
    let mode = |world: &World| {
        let metadata = std::fs::metadata(world.admin_socket()).unwrap();
        metadata.permissions().mode() & 0o7777
    };
    let (world, agent, _client) = World::with(vec![]).await;
    assert_eq!(mode(&world), 0o600);
    agent.stop().await;
    assert!(!world.admin_socket().exists());

    let mut config = world.config();
    config.admin.as_mut().unwrap().mode = 0o770;
    let _agent = world.try_start(config).await.unwrap();
    assert_eq!(mode(&world), 0o770);
}
