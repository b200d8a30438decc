//! JWT- and WIT-SVIDs, for agents and for the operator.

use claviger_core::bundle::Bundle;
use claviger_core::svid::jwt::JwtSvid;
use claviger_core::svid::wit::WitSvid;
use claviger_core::time::Clock as _;
use claviger_proto::spire::server::bundle::v1::GetBundleRequest;
use claviger_proto::spire::server::svid::v1::{
    BatchNewWitsvidRequest, MintJwtsvidRequest, MintWitsvidRequest, NewJwtsvidRequest,
    NewWitsvidParams, batch_new_witsvid_response,
};
use claviger_proto::spire::types;
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::Value;
use tonic::{Code, Status};

use super::sync::subscribe;
use super::world::{Agent, World, bundles, entry, refused, svids, world, world_with};

async fn fetch(agent: &Agent, id: &str, audience: &[&str]) -> Result<types::Jwtsvid, Status> {
    let audience = audience.iter().map(ToString::to_string).collect();
    let request = NewJwtsvidRequest { entry_id: id.into(), audience };
    Ok(svids(&agent.channel).new_jwtsvid(request).await?.into_inner().svid.unwrap())
}

async fn mint(
    world: &World,
    path: &str,
    audience: &[&str],
    ttl: i32,
) -> Result<types::Jwtsvid, Status> {
    let id = Some(types::Spiffeid { trust_domain: "example.org".into(), path: path.into() });
    let audience = audience.iter().map(ToString::to_string).collect();
    let request = MintJwtsvidRequest { id, audience, ttl };
    Ok(svids(&world.operator()).mint_jwtsvid(request).await?.into_inner().svid.unwrap())
}

async fn bundle(world: &World) -> Bundle {
    let mut client = bundles(&world.remote(None));
    let wire = client.get_bundle(GetBundleRequest::default()).await.unwrap().into_inner();
    wire.try_into().unwrap()
}

/// What a token claims, if the published bundle vouches for it.
async fn valid(world: &World, token: &str, audience: &str) -> Value {
    let bundle = bundle(world).await;
    let now = world.clock.now();
    let svid = JwtSvid::validate(token, audience, now, |name| {
        (*name == bundle.trust_domain).then_some(bundle.jwt_authorities.as_slice())
    });
    svid.unwrap().claims.into()
}

fn public_key() -> Vec<u8> {
    KeyPair::generate().unwrap().subject_public_key_info()
}

#[tokio::test]
async fn an_agent_gets_jwt_svids_for_its_entries() {
    let world = world().await;
    let agent = world.admitted().await;
    let jti = types::entry::AdditionalAttributes {
        jwt_svid_include_jti: true,
        ..types::entry::AdditionalAttributes::default()
    };
    world
        .create(vec![
            types::Entry {
                jwt_svid_ttl: 60,
                hint: "main".into(),
                additional_attributes: Some(jti),
                ..entry("web", &agent.id, "/web", "unix:uid:1")
            },
            entry("db", &agent.id, "/db", "unix:uid:2"),
        ])
        .await;
    let svid = fetch(&agent, "web", &["one", "two"]).await.unwrap();
    assert_eq!((svid.issued_at, svid.expires_at), (1_800_000_000, 1_800_000_060));
    assert_eq!((svid.id.unwrap().path.as_str(), svid.hint.as_str()), ("/web", "main"));
    let claims = valid(&world, &svid.token, "two").await;
    assert_eq!(claims["sub"], "spiffe://example.org/web");
    assert_eq!(claims["aud"], serde_json::json!(["one", "two"]));
    assert!(claims["jti"].is_string() && claims.get("iss").is_none());

    let svid = fetch(&agent, "db", &["one"]).await.unwrap();
    assert_eq!(svid.expires_at, 1_800_000_300);
    assert!(valid(&world, &svid.token, "one").await.get("jti").is_none());

    let log = serde_json::to_value(world.events().await).unwrap();
    let issued = log.as_array().unwrap().iter().filter(|e| e["event"] == "jwt_svid_issued");
    let issued: Vec<_> = issued.map(|e| (e["entry"].as_str().unwrap(), &e["audience"])).collect();
    let (both, one) = (serde_json::json!(["one", "two"]), serde_json::json!(["one"]));
    assert_eq!(issued, [("web", &both), ("db", &one)]);
}

#[tokio::test]
async fn a_bad_audience_is_refused_at_once() {
    let world = world().await;
    let agent = world.admitted().await;
    world.create(vec![entry("web", &agent.id, "/web", "unix:uid:1")]).await;
    let before = world.events().await.len();
    let long = "a".repeat(1_025);
    for (audience, why) in [
        (&[][..], "audience must be specified"),
        (&[""], "empty name"),
        (&["db", ""], "empty name"),
        (&["db", "db"], "twice"),
        (&[&long], "more than 1024 bytes"),
        (&["a"; 33], "more than 32"),
    ] {
        refused(fetch(&agent, "web", audience).await, Code::InvalidArgument, why);
        refused(mint(&world, "/web", audience, 0).await, Code::InvalidArgument, why);
    }
    assert_eq!(world.events().await.len(), before, "nothing was recorded");
}

#[tokio::test]
async fn a_stranger_learns_nothing_about_entries() {
    let world = world().await;
    let (agent, other) = (world.admitted().await, world.admitted().await);
    world.create(vec![entry("web", &agent.id, "/web", "unix:uid:1")]).await;
    let answer = async |id| fetch(&other, id, &["db"]).await.err().unwrap();
    let (foreign, unknown) = (answer("web").await, answer("none").await);
    assert_eq!(foreign.code(), Code::NotFound);
    assert_eq!((foreign.code(), foreign.message()), (unknown.code(), unknown.message()));
    refused(fetch(&other, "", &["db"]).await, Code::InvalidArgument, "entry_id");

    let codes = wit(&other, &[("web", public_key()), ("none", public_key())]).await;
    let status = |at: usize| codes[at].status.clone().unwrap();
    assert_eq!(Code::from(status(0).code), Code::NotFound);
    assert_eq!(status(0), status(1));

    let request = NewJwtsvidRequest { entry_id: "web".into(), audience: vec!["db".into()] };
    let nobody = svids(&world.remote(None)).new_jwtsvid(request).await;
    refused(nobody, Code::PermissionDenied, "not for strangers");
    let remote = svids(&agent.channel).mint_jwtsvid(MintJwtsvidRequest::default()).await;
    refused(remote, Code::PermissionDenied, "admin socket only");
    let remote = svids(&agent.channel).mint_witsvid(MintWitsvidRequest::default()).await;
    refused(remote, Code::PermissionDenied, "admin socket only");
}

async fn wit(agent: &Agent, params: &[(&str, Vec<u8>)]) -> Vec<batch_new_witsvid_response::Result> {
    let params = params.iter().map(|(entry_id, public_key)| NewWitsvidParams {
        entry_id: (*entry_id).into(),
        public_key: public_key.clone(),
    });
    let request = BatchNewWitsvidRequest { params: params.collect() };
    svids(&agent.channel).batch_new_witsvid(request).await.unwrap().into_inner().results
}

#[tokio::test]
async fn an_agent_gets_wit_svids_for_its_entries() {
    let world = world_with(|config| config.wit_issuer = Some("claviger".into())).await;
    let agent = world.admitted().await;
    let web = types::Entry { hint: "main".into(), ..entry("web", &agent.id, "/web", "unix:uid:1") };
    world.create(vec![web, entry("db", &agent.id, "/db", "unix:uid:2")]).await;
    let key = public_key();
    let asked = [("web", key.clone()), ("none", public_key()), ("db", b"x".to_vec())];
    let results = wit(&agent, &[asked.as_slice(), &[("db", public_key())]].concat()).await;
    let codes: Vec<_> =
        results.iter().map(|result| Code::from(result.status.as_ref().unwrap().code)).collect();
    assert_eq!(codes, [Code::Ok, Code::NotFound, Code::InvalidArgument, Code::Ok]);
    let refusal = &results[2].status.as_ref().unwrap().message;
    assert!(refusal.starts_with("public_key: "), "{refusal}");
    let svid = results[0].svid.clone().unwrap();
    assert_eq!((svid.issued_at, svid.expires_at), (1_800_000_000, 1_800_003_600));
    assert_eq!((svid.id.unwrap().path.as_str(), svid.hint.as_str()), ("/web", "main"));
    let bundle = bundle(&world).await;
    let valid = |token: &str| {
        WitSvid::validate(token, world.clock.now(), |_| Some(&bundle.wit_authorities)).unwrap()
    };
    assert_eq!(valid(&svid.token).key.spki(), key);
    let last = results[3].svid.clone().unwrap();
    assert_eq!(valid(&last.token).subject.path(), "/db");

    let too_many = BatchNewWitsvidRequest { params: vec![NewWitsvidParams::default(); 501] };
    let answer = svids(&agent.channel).batch_new_witsvid(too_many).await;
    refused(answer, Code::InvalidArgument, "at most 500");
}

#[tokio::test]
async fn the_operator_mints_tokens_for_workloads_of_the_trust_domain() {
    let issuer = "https://oidc.example.org";
    let world = world_with(|config| config.jwt_issuer = Some(issuer.into())).await;
    let svid = mint(&world, "/web", &["db"], 120).await.unwrap();
    assert_eq!(svid.expires_at, 1_800_000_120);
    let claims = valid(&world, &svid.token, "db").await;
    assert_eq!(
        (&claims["sub"], &claims["iss"]),
        (&"spiffe://example.org/web".into(), &issuer.into())
    );
    let bad = |path| mint(&world, path, &["db"], 0);
    refused(bad("/spire/server").await, Code::InvalidArgument, "not a workload's identity");
    refused(bad("").await, Code::InvalidArgument, "not a workload's");
    refused(bad("/a//b").await, Code::InvalidArgument, "id.path");
    refused(mint(&world, "/web", &["db"], -1).await, Code::InvalidArgument, "ttl: ");
    let foreign = types::Spiffeid { trust_domain: "other.org".into(), path: "/web".into() };
    for (id, why) in [(None, "id: "), (Some(foreign.clone()), "trust domain")] {
        let request = MintJwtsvidRequest { id, audience: vec!["db".into()], ttl: 0 };
        let answer = svids(&world.operator()).mint_jwtsvid(request).await;
        refused(answer, Code::InvalidArgument, why);
    }

    let ours = types::Spiffeid { trust_domain: "example.org".into(), path: "/web".into() };
    let request = |id, public_key| MintWitsvidRequest { id: Some(id), public_key, ttl: 60 };
    let mut client = svids(&world.operator());
    let minted = client.mint_witsvid(request(ours.clone(), public_key())).await.unwrap();
    let svid = minted.into_inner().svid.unwrap();
    assert_eq!(svid.expires_at, 1_800_000_060);
    let answer = client.mint_witsvid(request(foreign, public_key())).await;
    refused(answer, Code::InvalidArgument, "trust domain");
    let answer = client.mint_witsvid(request(ours, Vec::new())).await;
    refused(answer, Code::InvalidArgument, "public_key: ");
}

#[tokio::test]
async fn the_policy_decides_about_tokens_by_themselves() {
    let policies = tempfile::tempdir().unwrap();
    let rules = r#"
        permit (principal, action == Action::"issue_jwt", resource)
        when { context.requester == "agent" && context.audience.contains("db") };
        permit (principal, action == Action::"issue_x509", resource);
    "#;
    std::fs::write(policies.path().join("rules.cedar"), rules).unwrap();
    let world = world_with(|config| config.policy_dir = Some(policies.path().into())).await;
    let agent = world.admitted().await;
    world.create(vec![entry("web", &agent.id, "/web", "unix:uid:1")]).await;
    let svid = fetch(&agent, "web", &["db"]).await.unwrap();
    valid(&world, &svid.token, "db").await;
    let denied = "not permitted by policy";
    refused(fetch(&agent, "web", &["other"]).await, Code::PermissionDenied, denied);
    refused(mint(&world, "/web", &["db"], 0).await, Code::PermissionDenied, denied);
    let results = wit(&agent, &[("web", public_key())]).await;
    assert_eq!(results[0].status.as_ref().unwrap().message, denied);
}

#[tokio::test]
async fn everybody_finds_the_keys_of_tokens_in_the_bundle() {
    let world = world().await;
    let whole = bundle(&world).await;
    let kinds =
        (whole.x509_authorities.len(), whole.jwt_authorities.len(), whole.wit_authorities.len());
    assert_eq!(kinds, (1, 1, 1));
    assert!(whole.jwt_authorities[0].expires_at.is_some());
    let mask = types::BundleMask { wit_authorities: true, ..types::BundleMask::default() };
    let request = GetBundleRequest { output_mask: Some(mask) };
    let part = bundles(&world.remote(None)).get_bundle(request).await.unwrap().into_inner();
    assert_eq!(part.wit_authorities.len(), 1);
    assert_eq!((part.jwt_authorities.len(), part.x509_authorities.len()), (0, 0));
    assert_eq!((part.sequence_number, part.refresh_hint), (0, 0));
}

#[tokio::test]
async fn agents_are_sent_the_keys_of_tokens_with_their_first_message() {
    let world = world().await;
    let agent = world.admitted().await;
    let mut stream = subscribe(&agent, None).await;
    let sent = stream.next().await.unwrap().bundle.unwrap();
    assert_eq!(Bundle::try_from(sent).unwrap(), bundle(&world).await);
}
