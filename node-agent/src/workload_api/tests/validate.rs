use claviger_core::bundle::Bundle;
use claviger_proto::convert::claims;
use serde_json::{Value, json};

use super::*;
use crate::world::TokenKey;

const MINE: &str = "me";

fn federated(id: &str) -> Entry {
    Entry { federates_with: ["other.org".parse().unwrap()].into(), ..ours(id) }
}

/// A token of another trust domain, and its bundle.
fn foreign() -> (String, Bundle) {
    let key = TokenKey::new("k");
    let exp = SystemClock.now().as_secs() + 60;
    let claims = json!({"sub": "spiffe://other.org/x", "aud": MINE, "exp": exp});
    let token = key.token("JWT", &claims);
    let other = Bundle::empty("other.org".parse().unwrap());
    (token, Bundle { jwt_authorities: vec![key.authority()], ..other })
}

async fn refused(client: &Client, audience: &str, svid: &str) -> String {
    let status = client.validate(audience, svid).await.err().unwrap();
    assert_eq!(status.code(), Code::InvalidArgument);
    status.message().to_owned()
}

#[tokio::test]
async fn a_valid_token_is_told_with_all_its_claims() {
    let (world, _agent, client) = World::with(vec![ours("a")]).await;
    let token = world.server.jwt("spiffe://example.org/x", MINE);
    let valid = client.validate(MINE, &token).await.unwrap();
    assert_eq!(valid.spiffe_id, "spiffe://example.org/x");
    let payload = token.split('.').nth(1).unwrap();
    let payload = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, payload);
    let payload: Value = serde_json::from_slice(&payload.unwrap()).unwrap();
    let expected = claims::to_struct(payload.as_object().unwrap().clone()).unwrap();
    assert_eq!(valid.claims, Some(expected));
}

#[tokio::test]
async fn every_rejection_is_the_callers_to_act_on() {
    let (world, _agent, client) = World::with(vec![ours("a")]).await;
    let token = world.server.jwt("spiffe://example.org/x", MINE);
    assert_eq!(refused(&client, "", &token).await, "audience must be specified");
    assert_eq!(refused(&client, MINE, "").await, "svid must be specified");
    assert_eq!(refused(&client, "you", &token).await, "the token is not for this audience");
    assert_eq!(refused(&client, MINE, "junk").await, "the token does not have three parts");
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { "B" } else { "A" };
    let tampered = format!("{signed}.{other}{}", signature.get(1..).unwrap());
    assert_eq!(refused(&client, MINE, &tampered).await, "the token's signature does not verify");
    let unsigned = token.replace(token.split('.').next().unwrap(), "eyJhbGciOiJub25lIn0");
    assert!(refused(&client, MINE, &unsigned).await.contains("algorithm"));
}

#[tokio::test]
async fn anybody_may_rely_on_their_own_trust_domain() {
    let (world, _agent, client) = World::with(vec![theirs("other")]).await;
    let token = world.server.jwt("spiffe://example.org/x", MINE);
    assert_eq!(client.validate(MINE, &token).await.unwrap().spiffe_id, "spiffe://example.org/x");
}

#[tokio::test]
async fn other_trust_domains_are_for_those_who_federate() {
    let (world, _agent, client) = World::with(vec![ours("a")]).await;
    let (token, bundle) = foreign();
    let unknown = "no bundle for trust domain `other.org`";
    world.server.federate(&bundle);
    world.server.applied(world.server.put(theirs("other"))).await;
    assert_eq!(refused(&client, MINE, &token).await, unknown);

    world.server.applied(world.server.put(federated("b"))).await;
    assert_eq!(client.validate(MINE, &token).await.unwrap().spiffe_id, "spiffe://other.org/x");
    // Our own keys do not speak for others.
    let forged = world.server.jwt("spiffe://other.org/x", MINE);
    assert_eq!(
        refused(&client, MINE, &forged).await,
        "the token's kid names no key of its trust domain"
    );
}
