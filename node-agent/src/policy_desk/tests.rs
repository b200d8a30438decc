//! Through a real socket, with a real agent and a fake server.

use claviger_proto::claviger::policy::v1::Transport;
use claviger_proto::claviger::policy::v1::authorize_response::Verdict;
use tonic::Code;

use super::*;
use crate::attestation::NO_IDENTITY;
use crate::world::{Client, StartedAgent, World, ours, theirs};

const US: &str = "spiffe://example.org/us";
const THEM: &str = "spiffe://example.org/them";
const POLICIES: &str = r#"
    permit (principal == Identity::"spiffe://example.org/us", action == Action::"connect", resource)
    when { context.purpose == "read" };
    @id("in")
    @reason("whoever uses the new groups")
    permit (principal, action == Action::"connect", resource == Identity::"spiffe://example.org/us")
    when { context has transport && context.transport.post_quantum };
    @id("known")
    permit (principal, action == Action::"connect", resource)
    when {
        context.purpose == "known" &&
        principal.selectors.containsAny(["unix:path:/nonexistent"])
    };
"#;

async fn desk() -> (World, StartedAgent, Client) {
    let (world, agent, client) = World::with(vec![ours("us"), theirs("them")]).await;
    let mut stream = client.watch_policies().await.unwrap();
    assert_eq!(stream.next().await.unwrap().policies, None);
    world.server.announce(POLICIES, 1);
    while stream.next().await.unwrap().policies.is_none() {}
    (world, agent, client)
}

fn connect(principal: &str, resource: &str, purpose: &str) -> AuthorizeRequest {
    AuthorizeRequest {
        action: "connect".to_owned(),
        principal: principal.to_owned(),
        resource: resource.to_owned(),
        purpose: purpose.to_owned(),
        ..AuthorizeRequest::default()
    }
}

fn call(tool: &str, parameters: &str) -> AuthorizeRequest {
    AuthorizeRequest {
        action: format!("call:{tool}"),
        resource: String::new(),
        parameters: parameters.to_owned(),
        ..AuthorizeRequest::default()
    }
}

async fn refused(client: &Client, request: AuthorizeRequest) -> Code {
    client.authorize(request).await.unwrap_err().code()
}

#[tokio::test]
async fn both_ends_may_ask_and_nobody_else() {
    let (_world, _agent, client) = desk().await;
    let out = client.authorize(connect("", THEM, "read")).await.unwrap();
    assert_eq!(out.verdict(), Verdict::Permit);
    assert_eq!((out.policies.len(), out.policy.len()), (1, 64));
    let denied = client.authorize(connect(US, THEM, "write")).await.unwrap();
    assert_eq!((denied.verdict(), denied.policies.len()), (Verdict::Deny, 0));
    let known = client.authorize(connect(THEM, US, "known")).await.unwrap();
    assert_eq!(known.verdict(), Verdict::Permit, "the other is registered for this agent, too");
    let group = "X25519MLKEM768".to_owned();
    let transport = Some(Transport { tls: "1.3".to_owned(), group, post_quantum: true });
    let stranger = "spiffe://example.org/elsewhere";
    let into = AuthorizeRequest { transport, ..connect(stranger, US, "x") };
    assert_eq!(client.authorize(into).await.unwrap().verdict(), Verdict::Permit);
    let without = client.authorize(connect(stranger, US, "x")).await.unwrap();
    assert_eq!(without.verdict(), Verdict::Deny);
    assert_eq!(refused(&client, connect(THEM, stranger, "read")).await, Code::PermissionDenied);
    let theirs = AuthorizeRequest { principal: THEM.to_owned(), ..call("trade", "{}") };
    assert_eq!(refused(&client, theirs).await, Code::PermissionDenied);
}

#[tokio::test]
async fn what_is_missing_or_unknown_is_denied() {
    let (_world, _agent, client) = desk().await;
    let without_purpose = client.authorize(connect(US, THEM, "")).await.unwrap();
    assert_eq!(without_purpose.verdict(), Verdict::Deny);
    let unknown_tool = client.authorize(call("trade", r#"{"amount":1}"#)).await.unwrap();
    assert_eq!(unknown_tool.verdict(), Verdict::Deny);
}

#[tokio::test]
async fn what_makes_no_sense_is_said_to_make_none() {
    let (_world, _agent, client) = desk().await;
    let long = "x".repeat(65);
    let transport = Some(Transport { tls: long, group: "x".to_owned(), post_quantum: true });
    let of =
        |action: &str| AuthorizeRequest { action: action.to_owned(), ..connect("", THEM, "x") };
    for request in [
        of(""),
        of("issue_x509"),
        of("call:two words"),
        of("call:other"),
        connect("", "", "read"),
        connect("them", THEM, "read"),
        connect("", THEM, "two words"),
        AuthorizeRequest { parameters: "{}".to_owned(), ..connect("", THEM, "x") },
        AuthorizeRequest { transport, ..connect("", THEM, "x") },
        call("trade", "[]"),
        call("trade", "null"),
        call("trade", r#"{"a":1.5}"#),
        call("trade", r#"{"a":1,"a":2}"#),
        call("trade", r#"{"a":1} {}"#),
    ] {
        let said = format!("{request:?}");
        assert_eq!(refused(&client, request).await, Code::InvalidArgument, "{said}");
    }
    let bare = client.policy.clone().authorize(connect("", THEM, "read")).await.unwrap_err();
    assert_eq!(bare.code(), Code::InvalidArgument, "the header is missing");
}

#[tokio::test]
async fn who_has_no_identity_learns_nothing() {
    let (world, _agent, client) = World::with(vec![theirs("them")]).await;
    world.server.announce(POLICIES, 1);
    let refused = client.authorize(connect(THEM, US, "read")).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::PermissionDenied, NO_IDENTITY));
    let refused = client.watch_policies().await.err().unwrap();
    assert_eq!((refused.code(), refused.message()), (Code::PermissionDenied, NO_IDENTITY));
}

#[tokio::test]
async fn those_who_decide_by_themselves_hear_of_every_change_until_they_are_nobody() {
    let (world, _agent, client) = World::with(vec![ours("us")]).await;
    let mut stream = client.watch_policies().await.unwrap();
    let first = stream.next().await.unwrap();
    assert!(first.policies.is_none() && first.standings.unwrap().snapshot);
    world.server.announce(POLICIES, 1);
    let told = stream.next().await.unwrap();
    let policies = told.policies.unwrap();
    assert_eq!(policies.policies, crate::world::policies(POLICIES).to_bytes());
    assert_eq!(told.standings, None);
    world.server.stand(THEM, 40, false);
    let told = stream.next().await.unwrap();
    let standings = told.standings.unwrap();
    assert!(told.policies.is_none() && !standings.snapshot);
    assert_eq!((standings.upserts[0].spiffe_id.as_str(), standings.upserts[0].risk), (THEM, 40));
    // Whoever comes later is told all of it at once.
    let late = client.watch_policies().await.unwrap().next().await.unwrap();
    assert_eq!(late.policies.unwrap().token, policies.token);
    assert_eq!(late.standings.unwrap().upserts.len(), 1);
    world.server.delete("us");
    let ended = stream.next().await.unwrap_err();
    assert_eq!(ended.code(), Code::PermissionDenied);
}
