//! Attesting, renewing, throwing out.

use claviger_core::audit::Event;
use claviger_proto::spire::server::agent::v1::{
    AgentX509svidParams, AttestAgentRequest, BanAgentRequest, CountAgentsRequest,
    CreateJoinTokenRequest, DeleteAgentRequest, GetAgentRequest, ListAgentsRequest,
    PostStatusRequest, RenewAgentRequest, attest_agent_request, list_agents_request,
};
use claviger_proto::spire::server::entry::v1::GetAuthorizedEntriesRequest;
use claviger_proto::spire::types::{
    self, PermissionDeniedDetails, permission_denied_details::Reason,
};
use prost::Message as _;
use rcgen::KeyPair;
use tonic::{Code, Status};

use super::world::{Agent, Node, World, agents, csr, entries, entry, refused, world};

const NOT_ADMITTED: &str = "the evidence does not admit this node";

/// What SPIRE's agents read.
fn reason(status: &Status) -> Reason {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Details {
        #[prost(message, repeated, tag = "3")]
        details: Vec<prost_types::Any>,
    }
    let details = Details::decode(status.details()).unwrap().details;
    assert_eq!(details[0].type_url, "type.googleapis.com/spire.api.types.PermissionDeniedDetails");
    PermissionDeniedDetails::decode(&*details[0].value).unwrap().reason()
}

async fn call(agent: &Agent) -> Result<(), Status> {
    agents(&agent.channel).post_status(PostStatusRequest::default()).await.map(drop)
}

async fn renew(world: &World, agent: &Agent) -> Result<Agent, Status> {
    let key = KeyPair::generate().unwrap();
    let params = Some(AgentX509svidParams { csr: csr(&key) });
    let renewed = agents(&agent.channel).renew_agent(RenewAgentRequest { params }).await?;
    Ok(world.agent(&renewed.into_inner().svid.unwrap(), &key))
}

#[tokio::test]
async fn a_token_admits_one_key_however_often_it_asks() {
    let world = world().await;
    let node = world.token().await;
    let first = world.attest(&node).await.unwrap();
    assert_eq!(first.id.path(), format!("/spire/agent/join_token/{}", node.token));
    let again = world.attest(&node).await.unwrap();
    assert_eq!(first.id, again.id);
    call(&again).await.unwrap();
    assert_eq!(reason(&call(&first).await.unwrap_err()), Reason::AgentNotActive);

    let thief = Node::with(&node.token);
    refused(world.attest(&thief).await, Code::PermissionDenied, NOT_ADMITTED);
    refused(world.attest(&thief).await, Code::PermissionDenied, NOT_ADMITTED);
    call(&again).await.unwrap();

    let events = world.events().await;
    let alarms = events.iter().filter(|event| matches!(event, Event::JoinTokenReplayed { .. }));
    assert_eq!(alarms.count(), 1, "one record per token");
    let at = |wanted: fn(&Event, &Agent) -> bool| {
        events.iter().position(|event| wanted(event, &again)).unwrap()
    };
    let signed = at(
        |event, agent| matches!(event, Event::X509SvidIssued { subject, .. } if *subject == agent.id),
    );
    let admitted = at(|event, _| matches!(event, Event::AgentAttested { .. }));
    assert!(signed < admitted, "recorded before it is signed");
}

#[tokio::test]
async fn strangers_learn_nothing() {
    let world = world().await;
    let key = KeyPair::generate().unwrap();
    let attest =
        |kind: &'static str, evidence: &'static [u8]| world.attest_as(kind, evidence, csr(&key));
    refused(attest("join_token", b"unknown").await, Code::PermissionDenied, NOT_ADMITTED);
    refused(attest("join_token", b"../../x").await, Code::PermissionDenied, NOT_ADMITTED);
    refused(attest("tpm_devid", b"x").await, Code::PermissionDenied, NOT_ADMITTED);
    refused(attest("", b"").await, Code::PermissionDenied, NOT_ADMITTED);
}

#[tokio::test]
async fn what_is_no_attestation_is_refused_before_the_token_is_spent() {
    let world = world().await;
    let node = world.token().await;
    let evidence = node.token.as_bytes();
    let bad = |csr: Vec<u8>| world.attest_as("join_token", evidence, csr);
    refused(bad(b"junk".to_vec()).await, Code::InvalidArgument, "csr: ");
    let mut forged = csr(&node.key);
    *forged.last_mut().unwrap() ^= 1;
    refused(bad(forged).await, Code::InvalidArgument, "not signed by the key");
    let empty = AttestAgentRequest { step: None };
    refused(world.attest_step(empty).await, Code::InvalidArgument, "params is missing");
    let early = attest_agent_request::Step::ChallengeResponse(Vec::new());
    let early = AttestAgentRequest { step: Some(early) };
    refused(world.attest_step(early).await, Code::InvalidArgument, "params is missing");
    let large = world.attest_as("join_token", &[b'x'; 70_000], csr(&node.key)).await;
    refused(large, Code::InvalidArgument, "at most 65536");
    let huge = world.attest_as("join_token", &[b'x'; 200_000], csr(&node.key)).await;
    refused(huge, Code::OutOfRange, "");
    world.attest(&node).await.unwrap();
}

#[tokio::test]
async fn an_expired_token_is_none() {
    let world = world().await;
    let node = world.token().await;
    world.clock.advance(601);
    refused(world.attest(&node).await, Code::PermissionDenied, NOT_ADMITTED);
}

#[tokio::test]
async fn a_renewed_svid_takes_over_when_it_is_used() {
    let world = world().await;
    let first = world.admitted().await;
    let second = renew(&world, &first).await.unwrap();
    assert_eq!(first.id, second.id);
    call(&first).await.unwrap();
    call(&second).await.unwrap();
    assert_eq!(reason(&call(&first).await.unwrap_err()), Reason::AgentNotActive);
    refused(renew(&world, &first).await.map(drop), Code::PermissionDenied, "replaced");
}

#[tokio::test]
async fn an_agent_is_one_no_longer_than_its_svid_lasts() {
    let world = world().await;
    let agent = world.admitted().await;
    world.clock.advance(3_600);
    call(&agent).await.unwrap();
    // The connection is still the same.
    world.clock.advance(1);
    assert_eq!(reason(&call(&agent).await.unwrap_err()), Reason::AgentExpired);
}

#[tokio::test]
async fn the_banned_stay_out_and_the_evicted_come_back() {
    let world = world().await;
    let node = world.token().await;
    let agent = world.attest(&node).await.unwrap();
    let mut operator = agents(&world.operator());
    let id = Some(types::Spiffeid::from(&agent.id));

    operator.ban_agent(BanAgentRequest { id: id.clone() }).await.unwrap();
    assert_eq!(reason(&call(&agent).await.unwrap_err()), Reason::AgentBanned);
    refused(world.attest(&node).await, Code::PermissionDenied, NOT_ADMITTED);
    let shown = operator.get_agent(GetAgentRequest { id: id.clone(), output_mask: None }).await;
    assert!(shown.unwrap().into_inner().banned);

    operator.delete_agent(DeleteAgentRequest { id: id.clone() }).await.unwrap();
    assert_eq!(reason(&call(&agent).await.unwrap_err()), Reason::AgentNotAttested);
    refused(
        operator.delete_agent(DeleteAgentRequest { id: id.clone() }).await,
        Code::NotFound,
        "not attested",
    );
    call(&world.attest(&node).await.unwrap()).await.unwrap();

    let events = world.events().await;
    assert!(events.iter().any(|event| matches!(event, Event::AgentBanned { .. })));
    assert!(events.iter().any(|event| matches!(event, Event::AgentEvicted { .. })));
}

#[tokio::test]
async fn a_token_can_name_its_agent_and_stays_out_of_the_audit_log() {
    let world = world().await;
    let alias = World::domain().join("/edge/berlin").unwrap();
    let request = CreateJoinTokenRequest {
        ttl: 600,
        token: "a-token-that-someone-chose".into(),
        agent_id: Some((&alias).into()),
    };
    let mut operator = agents(&world.operator());
    operator.create_join_token(request.clone()).await.unwrap();
    let twice = operator.create_join_token(request.clone()).await;
    refused(twice, Code::AlreadyExists, "exists already");
    let other = CreateJoinTokenRequest { agent_id: None, ..request };
    refused(operator.create_join_token(other).await, Code::AlreadyExists, "token: ");
    let log = serde_json::to_string(&world.events().await).unwrap();
    assert!(!log.contains("a-token-that-someone-chose"), "{log}");

    let agent = world.attest(&Node::with("a-token-that-someone-chose")).await.unwrap();
    world.create(vec![entry("cron", &alias, "/cron", "unix:uid:1")]).await;
    let authorized = entries(&agent.channel)
        .get_authorized_entries(GetAuthorizedEntriesRequest::default())
        .await
        .unwrap()
        .into_inner()
        .entries;
    let mut ids: Vec<_> = authorized.iter().map(|e| e.spiffe_id.clone().unwrap().path).collect();
    ids.sort();
    assert_eq!(ids, ["/cron", "/edge/berlin"]);
}

#[tokio::test]
async fn a_bad_token_is_refused_with_a_reason() {
    let world = world().await;
    let mut operator = agents(&world.operator());
    let mut make = async |ttl, token: &str, alias: Option<&str>| {
        let agent_id = alias.map(|path| (&World::domain().join(path).unwrap()).into());
        let request = CreateJoinTokenRequest { ttl, token: token.into(), agent_id };
        operator.create_join_token(request).await
    };
    refused(make(0, "", None).await, Code::InvalidArgument, "ttl: 0");
    refused(make(-1, "", None).await, Code::InvalidArgument, "ttl: -1");
    refused(make(i32::MAX, "", None).await, Code::InvalidArgument, "at most 604800");
    refused(make(60, "a/b", None).await, Code::InvalidArgument, "token: ");
    refused(make(60, "", Some("/spire/server")).await, Code::InvalidArgument, "reserved");
}

#[tokio::test]
async fn agents_are_listed_page_by_page_and_by_what_they_are() {
    let world = world().await;
    for _ in 0..3 {
        world.admitted().await;
    }
    let mut operator = agents(&world.operator());
    let mut page = async |token: String| {
        let request =
            ListAgentsRequest { page_size: 2, page_token: token, ..ListAgentsRequest::default() };
        operator.list_agents(request).await.unwrap().into_inner()
    };
    let first = page(String::new()).await;
    let second = page(first.next_page_token.clone()).await;
    assert_eq!((first.agents.len(), second.agents.len()), (2, 1));
    assert_eq!(second.next_page_token, "");
    assert!(first.agents.iter().all(|agent| !second.agents.contains(agent)));
    let agent = &first.agents[0];
    assert_eq!(agent.attestation_type, "join_token");
    assert_eq!(agent.x509svid_expires_at, 1_800_003_600);
    agent.x509svid_serial_number.parse::<u128>().unwrap();
    assert!(!agent.banned && !agent.can_reattest);

    operator.ban_agent(BanAgentRequest { id: agent.id.clone() }).await.unwrap();
    let mut list = async |filter: list_agents_request::Filter| {
        let output_mask = Some(types::AgentMask::default());
        let request =
            ListAgentsRequest { filter: Some(filter), output_mask, ..ListAgentsRequest::default() };
        operator.list_agents(request).await.map(|list| list.into_inner().agents)
    };
    let by = list_agents_request::Filter::default;
    let banned = list(list_agents_request::Filter { by_banned: Some(true), ..by() }).await.unwrap();
    let only_its_name = types::Agent { id: agent.id.clone(), ..types::Agent::default() };
    assert_eq!(banned, [only_its_name]);
    let none = list_agents_request::Filter { by_attestation_type: "tpm_devid".into(), ..by() };
    assert_eq!(list(none).await.unwrap(), []);
    let late = "2027-01-15 08:00:00 +0000 +00"; // NOW
    let early = list_agents_request::Filter { by_expires_before: late.into(), ..by() };
    assert_eq!(list(early).await.unwrap(), []);
    let later = "2027-01-15 10:00:01 +0100 +01";
    let all = list_agents_request::Filter { by_expires_before: later.into(), ..by() };
    assert_eq!(list(all).await.unwrap().len(), 3);
    let bad = list_agents_request::Filter { by_expires_before: "soon".into(), ..by() };
    refused(list(bad).await, Code::InvalidArgument, "by_expires_before: `soon`");
    let count = operator.count_agents(CountAgentsRequest::default()).await.unwrap();
    assert_eq!(count.into_inner().count, 3);
}
