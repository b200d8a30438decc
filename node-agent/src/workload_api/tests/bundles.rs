use claviger_core::bundle::Bundle;
use serde_json::Value;

use super::*;
use crate::world::TokenKey;

const OWN: &str = "spiffe://example.org";

fn jwks(text: &[u8]) -> Vec<Value> {
    let set: Value = serde_json::from_slice(text).unwrap();
    set["keys"].as_array().unwrap().clone()
}

/// Another trust domain.
fn other() -> Bundle {
    Bundle {
        jwt_authorities: vec![TokenKey::new("other-jwt").authority()],
        wit_authorities: vec![TokenKey::new("other-wit").authority()],
        ..Bundle::empty("other.org".parse().unwrap())
    }
}

fn federated(id: &str) -> Entry {
    Entry { federates_with: ["other.org".parse().unwrap()].into(), ..ours(id) }
}

#[tokio::test]
async fn bundles_are_named_after_their_trust_domain_and_pushed() {
    let (world, _agent, client) = World::with(vec![ours("a")]).await;
    let mut stream = client.bundles().await.unwrap();
    let first = stream.next().await.unwrap();
    assert_eq!(first.bundles.len(), 1);
    assert_eq!(first.bundles[OWN], world.server.bundle_der());

    world.server.add_authority();
    let second = stream.next().await.unwrap();
    assert_eq!(second.bundles[OWN], world.server.bundle_der());
    assert_eq!(certificates(&second.bundles[OWN]).len(), 2);
    world.server.delete("a");
    assert_eq!(said(&stream.end().await), NOBODY);
}

#[tokio::test]
async fn each_set_has_the_keys_of_one_use() {
    let (_world, _agent, client) = World::with(vec![ours("a")]).await;
    let jwt = client.jwt_bundles().await.unwrap().next().await.unwrap();
    let wit = client.wit_bundles().await.unwrap().next().await.unwrap();
    assert_eq!((jwt.bundles.len(), wit.bundles.len()), (1, 1));
    for (keys, id, purpose) in [
        (jwks(&jwt.bundles[OWN]), "jwt-1", "jwt-svid"),
        (jwks(wit.bundles[OWN].as_bytes()), "wit-1", "wit-svid"),
    ] {
        assert_eq!(keys.len(), 1);
        assert_eq!(keys[0]["kid"], id);
        assert_eq!((&keys[0]["use"], &keys[0]["kty"]), (&purpose.into(), &"EC".into()));
    }
}

#[tokio::test]
async fn new_keys_are_pushed_and_what_concerns_others_is_not() {
    let (world, _agent, client) = World::with(vec![ours("a")]).await;
    let mut jwt = client.jwt_bundles().await.unwrap();
    let mut wit = client.wit_bundles().await.unwrap();
    jwt.next().await.unwrap();
    wit.next().await.unwrap();

    // Were this told to the streams, the next message would have one key still.
    world.server.add_authority();
    world.server.applied(world.server.put(theirs("other"))).await;
    world.server.taint_token_keys();
    let kids = |keys: Vec<Value>| -> Vec<_> { keys.iter().map(|k| k["kid"].clone()).collect() };
    assert_eq!(kids(jwks(&jwt.next().await.unwrap().bundles[OWN])), ["jwt-1", "jwt-2"]);
    assert_eq!(kids(jwks(wit.next().await.unwrap().bundles[OWN].as_bytes())), ["wit-1", "wit-2"]);
    world.server.delete("a");
    assert_eq!(said(&jwt.end().await), NOBODY);
    assert_eq!(said(&wit.end().await), NOBODY);
}

#[tokio::test]
async fn other_trust_domains_are_for_those_who_federate() {
    let (world, _agent, client) = World::with(vec![ours("a")]).await;
    let mut jwt = client.jwt_bundles().await.unwrap();
    assert_eq!(jwt.next().await.unwrap().bundles.len(), 1);
    world.server.federate(&other());
    world.server.put(federated("b"));
    let bundles = jwt.next().await.unwrap().bundles;
    assert_eq!(jwks(&bundles["spiffe://other.org"])[0]["kid"], "other-jwt");
    let wit = client.wit_bundles().await.unwrap().next().await.unwrap().bundles;
    assert_eq!(jwks(wit["spiffe://other.org"].as_bytes())[0]["kid"], "other-wit");
}

#[tokio::test]
async fn who_has_no_identity_gets_no_bundle() {
    let (_world, _agent, client) = World::with(vec![theirs("other")]).await;
    assert_eq!(said(&client.bundles().await.err().unwrap()), NOBODY);
    assert_eq!(said(&client.jwt_bundles().await.err().unwrap()), NOBODY);
    assert_eq!(said(&client.wit_bundles().await.err().unwrap()), NOBODY);
}
