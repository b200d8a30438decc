use claviger_core::bundle::TokenAuthority;
use claviger_core::jose::PublicKey;
use claviger_core::jose::key::Jwk;
use claviger_core::svid::wit::WitSvid;
use claviger_proto::workload::WitsvidResponse;
use serde_json::Value;

use super::*;

fn ids(response: &WitsvidResponse) -> Vec<&str> {
    response.svids.iter().map(|svid| svid.spiffe_id.as_str()).collect()
}

/// The key that a JWK names.
fn key(jwk: &str) -> PublicKey {
    let jwk: Jwk = serde_json::from_str(jwk).unwrap();
    PublicKey::from_jwk(&jwk).unwrap()
}

/// The first of the trust domain's keys for WIT-SVIDs.
async fn authority(client: &Client) -> TokenAuthority {
    let bundles = client.wit_bundles().await.unwrap().next().await.unwrap().bundles;
    let keys: Value = serde_json::from_str(&bundles["spiffe://example.org"]).unwrap();
    let (jwk, key_id) = (&keys["keys"][0], keys["keys"][0]["kid"].as_str().unwrap().to_owned());
    TokenAuthority { key_id, public_key: key(&jwk.to_string()), expires_at: None, tainted: false }
}

#[tokio::test]
async fn a_wit_svid_is_bound_to_the_key_beside_it() {
    let entry = Entry { hint: "web".to_owned(), ..ours("a") };
    let (_world, _agent, client) = World::with(vec![entry]).await;
    let response = client.wits("").await.unwrap().next().await.unwrap();
    assert_eq!(ids(&response), ["spiffe://example.org/a"]);
    let [svid] = &response.svids[..] else { panic!("one") };
    assert_eq!(svid.hint, "web");
    let authorities = [authority(&client).await];
    let valid =
        WitSvid::validate(&svid.wit_svid, SystemClock.now(), |_| Some(&authorities)).unwrap();
    assert_eq!(valid.subject.to_string(), svid.spiffe_id);
    assert_eq!(valid.key, key(&svid.wit_svid_key));
}

#[tokio::test]
async fn nothing_is_signed_before_somebody_asks_and_then_once() {
    let (world, _agent, client) = World::with(vec![ours("a"), theirs("b")]).await;
    client.x509().await.unwrap().next().await.unwrap();
    assert_eq!(world.server.counts().wits, 0);
    let first = client.wits("").await.unwrap().next().await.unwrap();
    let second = client.wits("").await.unwrap().next().await.unwrap();
    assert!(first == second);
    assert_eq!(world.server.counts().wits, 1);
}

#[tokio::test]
async fn all_identities_come_in_order_or_the_one_that_is_named() {
    let aged = |id, secs| Entry {
        created_at: UnixTime::from_secs(secs),
        hint: "same".to_owned(),
        ..ours(id)
    };
    let (_world, _agent, client) = World::with(vec![aged("young", 9), aged("old", 3)]).await;
    let mut stream = client.wits("").await.unwrap();
    let both = ["spiffe://example.org/old", "spiffe://example.org/young"];
    let mut all = stream.next().await.unwrap();
    if all.svids.len() == 1 {
        all = stream.next().await.unwrap();
    }
    assert_eq!(ids(&all), both);
    assert_eq!((&*all.svids[0].hint, &*all.svids[1].hint), ("same", ""));
    let named = client.wits(both[1]).await.unwrap().next().await.unwrap();
    assert_eq!((ids(&named), &*named.svids[0].hint), (vec![both[1]], "same"));

    assert_eq!(said(&client.wits("spiffe://example.org/x").await.err().unwrap()), NOBODY);
    let status = client.wits("foo").await.err().unwrap();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("invalid requested SPIFFE ID: "), "{status}");
}

#[tokio::test]
async fn a_stream_hears_of_changes_and_of_nothing_else() {
    let (world, _agent, client) = World::with(vec![ours("a")]).await;
    let mut stream = client.wits("").await.unwrap();
    let first = stream.next().await.unwrap();
    // Were this told to the stream, the next message would have the same token still.
    world.server.add_authority();
    world.server.applied(world.server.put(theirs("other"))).await;
    world.server.taint_token_keys();
    let second = stream.next().await.unwrap();
    assert!(second.svids[0].wit_svid != first.svids[0].wit_svid);
    assert!(second.svids[0].wit_svid_key != first.svids[0].wit_svid_key);

    world.server.delete("a");
    assert_eq!(said(&stream.end().await), NOBODY);
    assert_eq!(said(&client.wits("").await.err().unwrap()), NOBODY);
}

#[tokio::test]
async fn what_is_looked_at_is_renewed() {
    let world = World::new().await;
    world.server.set_ttls(Duration::from_secs(3_600), Duration::from_secs(4));
    world.server.put(ours("a"));
    let _agent = world.start_agent().await;
    let client = crate::world::workload(&world.socket()).await;
    let mut stream = client.wits("").await.unwrap();
    let mut last = stream.next().await.unwrap();
    for _ in 0..2 {
        let next = stream.next().await.unwrap();
        assert!(ids(&next) == ids(&last) && next.svids[0].wit_svid != last.svids[0].wit_svid);
        last = next;
    }
}
