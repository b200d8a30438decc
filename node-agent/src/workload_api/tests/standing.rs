//! Callers whose identity is in quarantine, or risked.

use claviger_proto::claviger::psk::v1::{IssueRequest, RedeemRequest};
use claviger_runtime::health::State;

use super::*;
use crate::world::{health_is, with_header, within};

const A: &str = "spiffe://example.org/a";
const B: &str = "spiffe://example.org/b";
const ONCE: &str = "spiffe://example.org/spire/agent/join_token/good-token";

async fn issue(client: &Client, peer: &str) -> Result<String, Code> {
    let peer = peer.to_owned();
    let request = IssueRequest { peer, purpose: "test".to_owned(), ..IssueRequest::default() };
    let answer = client.psk.clone().issue(with_header(request)).await;
    answer.map(|issued| issued.into_inner().identity).map_err(|status| status.code())
}

async fn redeem(client: &Client, identity: &str) -> Result<String, Code> {
    let request = RedeemRequest {
        attempt_id: vec![1; 16],
        identity: identity.to_owned(),
        transcript_hash: vec![2; 32],
        binder: vec![3; 32],
        spiffe_id: String::new(),
    };
    let answer = client.psk.clone().redeem(with_header(request)).await;
    answer.map(|redeemed| redeemed.into_inner().client_id).map_err(|status| status.code())
}

#[tokio::test]
async fn who_is_in_quarantine_has_nothing_until_it_is_lifted() {
    let (world, _agent, client) = World::with(vec![ours("a")]).await;
    let mut stream = client.x509().await.unwrap();
    let before = stream.next().await.unwrap();
    let token = client.jwts(&["x"], "").await.unwrap().remove(0).svid;
    let unspent = issue(&client, A).await.unwrap();
    let svids = world.server.counts().svids;

    world.server.took_in(world.server.stand(A, 0, true)).await;
    assert_eq!(said(&stream.end().await), NOBODY);
    assert_eq!(client.ids().await, Err(Code::PermissionDenied));
    assert_eq!(said(&client.jwts(&["x"], "").await.err().unwrap()), NOBODY);
    assert_eq!(client.wits("").await.err().unwrap().code(), Code::PermissionDenied);
    assert_eq!(issue(&client, B).await, Err(Code::PermissionDenied));
    assert_eq!(redeem(&client, &unspent).await, Err(Code::PermissionDenied));
    // What changes for others does not have it renewed.
    world.server.applied(world.server.put(theirs("other"))).await;
    assert_eq!(world.server.counts().svids, svids + 1);

    world.server.took_in(world.server.stand(A, 0, false)).await;
    let again = client.x509().await.unwrap().next().await.unwrap();
    assert_eq!(ids(&again), [A]);
    assert_ne!(again.svids[0].x509_svid_key, before.svids[0].x509_svid_key);
    assert_ne!(client.jwts(&["x"], "").await.unwrap().remove(0).svid, token);
}

#[tokio::test]
async fn a_stream_goes_on_with_what_is_not_in_quarantine() {
    let (world, _agent, client) = World::with(vec![ours("a"), ours("b")]).await;
    let mut stream = client.x509().await.unwrap();
    assert_eq!(ids(&stream.next().await.unwrap()), [A, B]);
    world.server.stand(A, 0, true);
    assert_eq!(ids(&stream.next().await.unwrap()), [B]);
    world.server.stand(A, 0, false);
    assert_eq!(ids(&stream.next().await.unwrap()), [A, B]);
}

#[tokio::test]
async fn nothing_passes_between_a_caller_and_a_peer_in_quarantine() {
    let (world, _agent, client) = World::with(vec![ours("a")]).await;
    issue(&client, B).await.unwrap();
    world.server.took_in(world.server.stand(B, 0, true)).await;
    assert_eq!(issue(&client, B).await, Err(Code::PermissionDenied));
    issue(&client, A).await.unwrap();

    // A key that a peer was given before, for us.
    let forged = world.server.forge_psk(B, A);
    assert_eq!(redeem(&client, &forged).await, Err(Code::PermissionDenied));
    let honest = world.server.forge_psk("spiffe://example.org/c", A);
    assert_eq!(redeem(&client, &honest).await.unwrap(), "spiffe://example.org/c");
}

#[tokio::test]
async fn who_is_risked_gets_everything_anew() {
    let (world, _agent, client) = World::with(vec![ours("a"), ours("b")]).await;
    let mut stream = client.x509().await.unwrap();
    let before = stream.next().await.unwrap();
    client.jwts(&["x"], "").await.unwrap();
    assert_eq!(world.server.counts().jwts, 2);

    let version = world.server.stand(A, 60, false);
    let after = within(async {
        loop {
            let next = stream.next().await.unwrap();
            if ids(&next) == [A, B] {
                return next;
            }
        }
    });
    let after = after.await;
    assert!(version <= world.server.taken_in(), "a credential came before the acknowledgement");
    let key = |message: &X509svidResponse, at: usize| message.svids[at].x509_svid_key.clone();
    assert_ne!(key(&after, 0), key(&before, 0));
    assert_eq!(key(&after, 1), key(&before, 1));
    client.jwts(&["x"], "").await.unwrap();
    assert_eq!(world.server.counts().jwts, 3);
}

#[tokio::test]
async fn what_is_said_again_changes_nothing() {
    let (mut world, _agent, client) = World::with(vec![ours("a")]).await;
    world.server.took_in(world.server.stand(A, 10, false)).await;
    let before = client.x509().await.unwrap().next().await.unwrap();
    // The server says so to whoever subscribes.
    world.stop_server().await;
    world.restart_server().await;
    world.server.applied(world.server.put(theirs("other"))).await;
    world.server.took_in(1).await;
    assert!(client.x509().await.unwrap().next().await.unwrap() == before);
}

#[tokio::test]
async fn an_agent_that_is_risked_shows_its_evidence_again() {
    let world = World::new().await;
    let agent = world.start(world.config_of_machine()).await;
    assert_eq!(world.server.counts().attested, 1);
    world.server.stand(agent.running.id.to_string().as_str(), 40, false);
    within(async {
        while world.server.counts().attested < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_cannot_show_its_evidence_again_says_so() {
    let (world, agent, client) = World::with(vec![ours("a")]).await;
    let health = &agent.running.health;
    world.server.stand(ONCE, 40, false);
    let said = health_is(health, "identity", |state| matches!(state, State::Degraded(_))).await;
    assert!(said.contains("40 %"), "{said}");
    assert_eq!(client.ids().await.unwrap(), [A]);

    world.server.took_in(world.server.stand(ONCE, 40, true)).await;
    let said = health_is(health, "identity", |state| matches!(state, State::Failed(_))).await;
    assert!(said.contains("claviger quarantine lift spiffe://"), "{said}");
    assert_eq!(client.ids().await, Err(Code::PermissionDenied));

    world.server.took_in(world.server.stand(ONCE, 0, false)).await;
    health_is(health, "identity", |state| *state == State::Ready).await;
    assert_eq!(client.ids().await.unwrap(), [A]);
}
