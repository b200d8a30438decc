//! The key door: each key once to each of its ends, and to nobody else.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use claviger_core::audit::Event;
use claviger_proto::claviger::agent::v1::RedeemPskRequest;
use claviger_proto::claviger::agent::v1::agent_psk_client::AgentPskClient;
use claviger_runtime::tls::Identity;
use serde_json::{Value, json};
use tonic::Code;

use super::gateways::{Reply, send};
use super::sync::subscribe;
use super::world::{World, config as plain, entry, refused, world_with};
use crate::config::{Config, KeysConfig, Names};

/// Alice may draw keys with Bob, and Bob collect them, for all purposes but one; Carol nothing.
const POLICIES: &str = r#"
permit (principal, action == Action::"issue_x509", resource) when { principal in resource };
permit (
    principal == Identity::"spiffe://example.org/alice",
    action in [Action::"issue_psk", Action::"redeem_psk", Action::"redeem_psk_by_identity"],
    resource == Identity::"spiffe://example.org/bob"
) unless { context.purpose == "forbidden" };
permit (
    principal == Identity::"spiffe://example.org/monitor",
    action == Action::"signal",
    resource in TrustDomain::"example.org"
);
"#;

const BOB: &str = "spiffe%3A%2F%2Fexample.org%2Fbob";
const NOT_FOUND: &str = "one or more keys specified are not found on KME";

fn config(dir: &Path) -> Config {
    let mut config = plain(dir);
    let policies = dir.join("policies");
    std::fs::create_dir_all(&policies).unwrap();
    std::fs::write(policies.join("p.cedar"), POLICIES).unwrap();
    config.policy_dir = Some(policies);
    config.control = Some(([127, 0, 0, 1], 0).into());
    let named = |names: [(&str, &str); 3]| {
        let mut all = Names::default();
        for (name, path) in names {
            let id = format!("spiffe://example.org/{path}").parse().unwrap();
            all.add(name, id, &World::domain()).unwrap();
        }
        all
    };
    config.keys = Some(KeysConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        aliases: named([("sae-a", "alice"), ("sae-b", "bob"), ("sae-c", "carol")]),
        systems: named([("Alice", "alice"), ("Bob", "bob"), ("Carol", "carol")]),
    });
    config
}

/// A server with a key door, and the SVIDs of three.
struct Three {
    world: World,
    alice: Identity,
    bob: Identity,
    carol: Identity,
}

async fn three() -> Three {
    let world = world_with(|changed| {
        let dir = changed.data_dir.parent().unwrap().to_owned();
        *changed = config(&dir);
    })
    .await;
    let parent = "spiffe://example.org/node".parse().unwrap();
    let names = ["alice", "bob", "carol", "monitor"];
    let entries =
        names.map(|name| entry(name, &parent, &format!("/{name}"), &format!("unix:user:{name}")));
    world.create(entries.to_vec()).await;
    let (alice, bob) = (world.svid("/alice").await, world.svid("/bob").await);
    let carol = world.svid("/carol").await;
    Three { world, alice, bob, carol }
}

impl World {
    async fn at_keys(&self, identity: &Identity, method: &str, path: &str, body: &str) -> Reply {
        let door = self.running.keys.unwrap();
        let mut stream = self.open_at(door, identity).await.unwrap();
        send(&mut stream, method, path, body).await.unwrap()
    }

    async fn get(&self, identity: &Identity, path: &str) -> Reply {
        self.at_keys(identity, "GET", path, "").await
    }

    async fn draw(&self, identity: &Identity, body: &Value) -> Reply {
        let path = "/api/v1/keys/sae-b/enc_keys";
        self.at_keys(identity, "POST", path, &body.to_string()).await
    }

    async fn collect(&self, identity: &Identity, ids: &[&str]) -> Reply {
        let ids: Vec<_> = ids.iter().map(|id| json!({ "key_ID": id })).collect();
        let body = json!({ "key_IDs": ids }).to_string();
        self.at_keys(identity, "POST", "/api/v1/keys/sae-a/dec_keys", &body).await
    }
}

/// The keys in a container: names and bytes.
#[track_caller]
fn keys(reply: &Reply) -> Vec<(String, Vec<u8>)> {
    assert_eq!(reply.status, 200, "{}", reply.body);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let entries = reply.body["keys"].as_array().unwrap().iter();
    let decode = |key: &Value| STANDARD.decode(text(key)).unwrap();
    entries.map(|entry| (text(&entry["key_ID"]), decode(&entry["key"]))).collect()
}

/// A refusal of ETSI's: 401 has no body, others say why.
#[track_caller]
fn is_refused(reply: &Reply, status: u16, why: &str) {
    assert_eq!(reply.status, status, "{}", reply.body);
    let message = reply.body["message"].as_str().unwrap_or_default();
    assert!(message.contains(why) && (status != 401 || reply.body.is_null()), "{}", reply.body);
}

#[tokio::test]
async fn a_key_goes_once_to_each_of_its_ends() {
    let Three { world, alice, bob, carol } = three().await;
    let drawn = keys(&world.get(&alice, &format!("/api/v1/keys/{BOB}/enc_keys")).await);
    let [(id, key)] = drawn.as_slice() else { panic!("{drawn:?}") };
    assert_eq!((id.len(), key.len()), (36, 32));

    // Neither who drew it nor a third gets it again, and neither spends it.
    is_refused(&world.collect(&carol, &[id]).await, 401, "");
    is_refused(&world.collect(&alice, &[id]).await, 401, "");
    let path = format!("/api/v1/keys/sae-a/dec_keys?key_ID={id}");
    let other_master = path.replace("sae-a", "sae-c");
    is_refused(&world.get(&bob, &other_master).await, 400, NOT_FOUND);
    assert_eq!(keys(&world.get(&bob, &path).await), drawn);
    is_refused(&world.get(&bob, &path).await, 400, NOT_FOUND);
    is_refused(&world.collect(&bob, &[id]).await, 400, NOT_FOUND);

    let log = serde_json::to_value(world.events().await).unwrap();
    let of = |event: &str| {
        let records = log.as_array().unwrap().iter();
        let found: Vec<_> = records.filter(|record| record["event"] == event).cloned().collect();
        let [one] = found.as_slice() else { panic!("{event}: {found:?}") };
        (one["bits"].clone(), one["purpose"].clone(), one["requester"].clone())
    };
    let peer = |name: &str| json!({ "peer": format!("spiffe://example.org/{name}") });
    assert_eq!(of("psk_issued"), (json!(256), json!("qkd"), peer("alice")));
    assert_eq!(of("psk_redeemed"), (json!(256), json!("qkd"), peer("bob")));
    assert_eq!(of("psk_replayed").2, peer("bob"));
    let key = STANDARD.encode(key);
    assert!(!log.to_string().contains(&key), "the log has the key");
}

#[tokio::test]
async fn several_are_drawn_and_collected_together_or_not_at_all() {
    let Three { world, alice, bob, .. } = three().await;
    let drawn = keys(&world.draw(&alice, &json!({ "number": 5, "size": 128 })).await);
    assert!(drawn.len() == 5 && drawn.iter().all(|(_, key)| key.len() == 16));
    let ids: Vec<&str> = drawn.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(keys(&world.collect(&bob, &ids[..2]).await), drawn[..2]);
    is_refused(&world.collect(&bob, &ids).await, 400, NOT_FOUND);
    let unknown = "00000000-0000-0000-0000-000000000000";
    is_refused(&world.collect(&bob, &[ids[2], unknown]).await, 400, NOT_FOUND);
    assert_eq!(keys(&world.collect(&bob, &ids[2..]).await), drawn[2..], "none of it was spent");
}

#[tokio::test]
async fn the_status_says_what_may_be_asked_for() {
    let Three { world, alice, .. } = three().await;
    let status = world.get(&alice, &format!("/api/v1/keys/{BOB}/status")).await;
    assert_eq!(status.status, 200);
    let kme = "spiffe://example.org/spire/server";
    let room = status.body["stored_key_count"].as_u64().unwrap();
    let want = json!({
        "source_KME_ID": kme, "target_KME_ID": kme, "master_SAE_ID": "sae-a", "slave_SAE_ID": "sae-b",
        "key_size": 256, "stored_key_count": room, "max_key_count": 1_000_000, "max_key_per_request": 64,
        "max_key_size": 1024, "min_key_size": 64, "max_SAE_ID_count": 0,
        "status_extension": { "claviger_ttl_seconds": 300, "claviger_purpose": "qkd" },
    });
    assert_eq!(status.body, want);
    assert_eq!(room, 1_000_000);
}

#[tokio::test]
async fn what_is_asked_wrongly_is_refused_in_the_standards_words() {
    let Three { world, alice, bob, .. } = three().await;
    for (body, why) in [
        (json!({ "size": 130 }), "size shall be a multiple of 8"),
        (json!({ "number": 65 }), "number shall be"),
        (json!({ "additional_slave_SAE_IDs": ["sae-c"] }), "max_SAE_ID_count"),
        (
            json!({ "extension_mandatory": [{ "route": "direct" }] }),
            "not all extension_mandatory parameters are supported",
        ),
        (
            json!({ "extension_mandatory": [{ "claviger_ttl_seconds": 0 }] }),
            "not all extension_mandatory request options could be met",
        ),
    ] {
        is_refused(&world.draw(&alice, &body).await, 400, why);
    }
    let optional = json!({ "extension_optional": [{ "route": "direct" }] });
    let drawn = world.draw(&alice, &optional).await;
    assert_eq!(keys(&drawn).len(), 1);
    let unheeded = "not all extension_optional request options handled";
    assert_eq!(drawn.body["key_container_extension"]["message"], unheeded);
    let long = "x".repeat(17 << 10);
    let path = "/api/v1/keys/sae-b/enc_keys";
    is_refused(&world.at_keys(&alice, "POST", path, &long).await, 400, "more than 16384 bytes");
    is_refused(
        &world.at_keys(&alice, "POST", path, "{\"size\":8,\"size\":8}").await,
        400,
        "duplicate",
    );
    is_refused(&world.at_keys(&alice, "DELETE", path, "").await, 405, "");
    is_refused(&world.get(&alice, "/api/v1/keys/sae-b").await, 404, "");
    is_refused(&world.collect(&bob, &["x"]).await, 400, "no UUID");
    // A key to oneself.
    is_refused(&world.draw(&bob, &json!({})).await, 400, "a key is for two");
}

#[tokio::test]
async fn who_may_not_learns_nothing_more() {
    let Three { world, alice, bob, carol } = three().await;
    is_refused(&world.draw(&carol, &json!({})).await, 401, "");
    let forbidden = json!({ "extension_mandatory": [{ "claviger_purpose": "forbidden" }] });
    is_refused(&world.draw(&alice, &forbidden).await, 401, "");
    for nobody in
        ["nobody", "spiffe%3A%2F%2Fexample.org%2Fnobody", "spiffe%3A%2F%2Fexample.com%2Fbob"]
    {
        let path = format!("/api/v1/keys/{nobody}/enc_keys");
        is_refused(&world.get(&alice, &path).await, 401, "");
    }
    // An SVID without an entry is nobody's.
    let stranger = world.svid("/stranger").await;
    is_refused(&world.draw(&stranger, &json!({})).await, 401, "");
    is_refused(&world.get(&stranger, "/api/v1/keys/sae-b/status").await, 401, "");

    let drawn = keys(&world.draw(&alice, &json!({})).await);
    world.quarantine("spiffe://example.org/alice").await;
    is_refused(&world.draw(&alice, &json!({})).await, 401, "");
    is_refused(&world.collect(&bob, &[&drawn[0].0]).await, 401, "");
}

#[tokio::test]
async fn a_key_that_is_not_collected_in_time_is_gone() {
    let Three { world, alice, bob, .. } = three().await;
    let short = json!({ "extension_mandatory": [{ "claviger_ttl_seconds": 30 }] });
    let short = keys(&world.draw(&alice, &short).await);
    let long = keys(&world.draw(&alice, &json!({})).await);
    world.clock.advance(31);
    is_refused(&world.collect(&bob, &[&short[0].0]).await, 400, NOT_FOUND);
    world.clock.advance(269);
    assert_eq!(keys(&world.collect(&bob, &[&long[0].0]).await), long);
}

/// A restart between the two sides delivers the key still, once; a new epoch of the ledger never.
#[tokio::test]
async fn between_the_two_sides_the_server_may_stop_but_not_forget() {
    let Three { world, alice, bob, .. } = three().await;
    let drawn = keys(&world.draw(&alice, &json!({ "number": 2 })).await);
    let (clock, dir) = (std::sync::Arc::clone(&world.clock), world.stop().await);
    let world = World::again(dir, clock, config).await;
    assert_eq!(keys(&world.collect(&bob, &[&drawn[0].0]).await), drawn[..1]);
    let (clock, dir) = (std::sync::Arc::clone(&world.clock), world.stop().await);
    let world = World::again(dir, clock, config).await;
    is_refused(&world.collect(&bob, &[&drawn[0].0]).await, 400, NOT_FOUND);

    // What was restored from a backup has lost its witness.
    let (clock, dir) = (std::sync::Arc::clone(&world.clock), world.stop().await);
    std::fs::remove_file(dir.path().join("data/witness")).unwrap();
    let world = World::again(dir, clock, config).await;
    is_refused(&world.collect(&bob, &[&drawn[1].0]).await, 400, NOT_FOUND);
    let again = keys(&world.draw(&alice, &json!({})).await);
    assert_eq!(keys(&world.collect(&bob, &[&again[0].0]).await), again);
}

#[tokio::test]
async fn where_there_are_agents_one_first_shows_what_it_remembers() {
    let Three { world, alice, bob, .. } = three().await;
    let drawn = keys(&world.draw(&alice, &json!({})).await);
    let agent = world.admitted().await;
    is_refused(&world.collect(&bob, &[&drawn[0].0]).await, 503, "try again");
    let _following = subscribe(&agent, None).await;
    assert_eq!(keys(&world.collect(&bob, &[&drawn[0].0]).await), drawn);
}

/// Nor is a key for a connection one for machines.
#[tokio::test]
async fn a_key_for_machines_is_none_for_a_connection() {
    let Three { world, alice, bob, .. } = three().await;
    let agent = world.admitted().await;
    let served = [("alice2", "/alice"), ("bob2", "/bob")]
        .map(|(id, path)| entry(id, &agent.id, path, &format!("unix:user:{id}")));
    world.create(served.to_vec()).await;
    let _following = subscribe(&agent, None).await;
    let drawn = keys(&world.draw(&alice, &json!({})).await);
    let bytes: [u8; 16] = hex::decode(drawn[0].0.replace('-', "")).unwrap().try_into().unwrap();
    let identity = claviger_core::psk::identity::WireIdentity::from_bytes(bytes);
    let request = RedeemPskRequest {
        attempt_id: vec![1; 16],
        identity: identity.to_string(),
        acceptor_ids: vec!["spiffe://example.org/bob".to_owned()],
        ..RedeemPskRequest::default()
    };
    let mut client = AgentPskClient::new(agent.channel.clone());
    refused(client.redeem_psk(request).await, Code::PermissionDenied, "refused");

    let asked = claviger_proto::claviger::agent::v1::IssuePskRequest {
        client_id: "spiffe://example.org/alice".to_owned(),
        server_id: "spiffe://example.org/bob".to_owned(),
        purpose: "query".to_owned(),
        ..Default::default()
    };
    let issued = client.issue_psk(asked).await.unwrap().into_inner().identity;
    let identity: claviger_core::psk::identity::WireIdentity = issued.parse().unwrap();
    let id = crate::keys::KeyId::from(identity).uuid();
    is_refused(&world.collect(&bob, &[&id]).await, 400, NOT_FOUND);
    assert_eq!(keys(&world.collect(&bob, &[&drawn[0].0]).await), drawn, "it was not spent");
}

#[tokio::test]
async fn routers_draw_by_skip() {
    let Three { world, alice, bob, carol } = three().await;
    let capabilities = world.get(&alice, "/capabilities").await;
    let want = json!({
        "entropy": true, "key": true, "algorithm": "claviger", "localSystemID": "Alice",
        "remoteSystemID": ["Bob", "Carol"],
    });
    assert_eq!((capabilities.status, capabilities.body), (200, want));

    let drawn = world.get(&alice, "/key?remoteSystemID=Bob&size=512").await;
    assert_eq!(drawn.status, 200, "{}", drawn.body);
    let text = |reply: &Reply, name: &str| reply.body[name].as_str().unwrap().to_owned();
    let (id, key) = (text(&drawn, "keyId"), text(&drawn, "key"));
    assert_eq!((id.len(), key.len()), (32, 128));

    for (identity, path) in [
        (&carol, format!("/key/{id}?remoteSystemID=Alice")),
        (&alice, format!("/key/{id}?remoteSystemID=Alice")),
        (&bob, format!("/key/{id}?remoteSystemID=Carol")),
        (&bob, format!("/key/{id}")),
        (&carol, "/key?remoteSystemID=Bob".to_owned()),
        (&alice, "/key?remoteSystemID=Mallory".to_owned()),
        (&alice, "/key?remoteSystemID=Bob&size=4096".to_owned()),
    ] {
        assert_eq!(world.get(identity, &path).await.status, 400, "{path}");
    }
    let path = format!("/key/{id}?remoteSystemID=Alice");
    let collected = world.get(&bob, &path).await;
    assert_eq!((collected.status, &collected.body), (200, &drawn.body));
    assert_eq!(world.get(&bob, &path).await.status, 400);
    assert_eq!(world.at_keys(&alice, "POST", "/key?remoteSystemID=Bob", "").await.status, 405);
    assert_eq!(world.get(&alice, "/keys").await.status, 404);

    let one = world.get(&alice, "/entropy").await;
    let two = world.get(&alice, "/entropy?minentropy=128").await;
    assert_eq!((text(&one, "randomStr").len(), &one.body["minentropy"]), (64, &json!(256)));
    assert_eq!((text(&two, "randomStr").len(), &two.body["minentropy"]), (32, &json!(128)));
    let events = world.events().await;
    let skip = |event: &Event| matches!(event, Event::PskIssued { binding, .. } if binding.purpose.as_str() == "skip");
    assert!(events.iter().any(skip));
}

#[tokio::test]
async fn of_many_who_collect_one_key_one_gets_it() {
    let Three { world, alice, bob, .. } = three().await;
    let drawn = keys(&world.draw(&alice, &json!({})).await);
    let ids = [drawn[0].0.as_str()];
    let attempts = (0..10).map(|_| world.collect(&bob, &ids));
    let outcomes = futures_util::future::join_all(attempts).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.status == 200).count(), 1);
    assert!(outcomes.iter().all(|outcome| [200, 400].contains(&outcome.status)));
}
