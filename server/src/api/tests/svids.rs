//! Signing, for agents and for the operator.

use claviger_proto::spire::server::svid::v1::{
    BatchNewX509svidRequest, MintX509svidRequest, NewX509svidParams, batch_new_x509svid_response,
};
use claviger_proto::spire::types;
use claviger_runtime::tls::{Leaf, verify_svid};
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls_pki_types::CertificateDer;
use tonic::Code;

use super::world::{Agent, World, csr, entry, refused, svids, world, world_with};

async fn sign(
    agent: &Agent,
    params: Vec<(&str, Vec<u8>)>,
) -> Vec<batch_new_x509svid_response::Result> {
    let params = params
        .into_iter()
        .map(|(entry_id, csr)| NewX509svidParams { entry_id: entry_id.into(), csr });
    let request = BatchNewX509svidRequest { params: params.collect() };
    svids(&agent.channel).batch_new_x509svid(request).await.unwrap().into_inner().results
}

fn fresh() -> Vec<u8> {
    csr(&KeyPair::generate().unwrap())
}

fn code(result: &batch_new_x509svid_response::Result) -> Code {
    result.status.as_ref().unwrap().code.into()
}

#[tokio::test]
async fn each_svid_of_a_batch_is_decided_recorded_and_signed_by_itself() {
    let world = world().await;
    let (agent, other) = (world.admitted().await, world.admitted().await);
    world
        .create(vec![
            types::Entry {
                x509_svid_ttl: 60,
                dns_names: vec!["web.example.org".into()],
                hint: "main".into(),
                ..entry("web", &agent.id, "/web", "unix:uid:1")
            },
            entry("db", &agent.id, "/db", "unix:uid:2"),
            entry("others", &other.id, "/others", "unix:uid:1"),
        ])
        .await;
    let params = vec![
        ("web", fresh()),
        ("others", fresh()),
        ("db", b"x".to_vec()),
        ("", fresh()),
        ("db", fresh()),
    ];
    let results = sign(&agent, params).await;
    let codes: Vec<_> = results.iter().map(code).collect();
    assert_eq!(
        codes,
        [Code::Ok, Code::NotFound, Code::InvalidArgument, Code::InvalidArgument, Code::Ok]
    );
    let svid = results[0].svid.clone().unwrap();
    let chain: Vec<_> =
        svid.cert_chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    let now = claviger_core::time::Clock::now(&*world.clock);
    let id = verify_svid(&chain, &world.trust(), now).unwrap();
    assert_eq!(id.to_string(), "spiffe://example.org/web");
    assert_eq!(Leaf::parse(&chain[0]).unwrap().not_after().as_secs(), 1_800_000_060);
    assert_eq!((svid.expires_at, svid.hint.as_str()), (1_800_000_060, "main"));
    assert_eq!(svid.id.unwrap().path, "/web");
    assert_eq!(results[4].svid.clone().unwrap().expires_at, 1_800_003_600);

    let log = serde_json::to_value(world.events().await).unwrap();
    let issued = log.as_array().unwrap().iter().filter(|event| event["entry"].is_string());
    let issued = issued.map(|event| event["entry"].as_str().unwrap());
    assert_eq!(issued.collect::<Vec<_>>(), ["web", "db"], "what was refused is not on record");
}

#[tokio::test]
async fn the_policy_has_the_last_word() {
    let policies = tempfile::tempdir().unwrap();
    let rules = r#"
        permit (principal, action == Action::"issue_x509", resource);
        forbid (principal == Identity::"spiffe://example.org/db", action, resource);
    "#;
    std::fs::write(policies.path().join("rules.cedar"), rules).unwrap();
    let world = world_with(|config| config.policy_dir = Some(policies.path().into())).await;
    let agent = world.admitted().await;
    world
        .create(vec![
            entry("web", &agent.id, "/web", "unix:uid:1"),
            entry("db", &agent.id, "/db", "unix:uid:2"),
        ])
        .await;
    let results = sign(&agent, vec![("db", fresh()), ("web", fresh())]).await;
    assert_eq!((code(&results[0]), code(&results[1])), (Code::PermissionDenied, Code::Ok));
    assert_eq!(results[0].status.clone().unwrap().message, "not permitted by policy");
    assert!(results[0].svid.is_none());
}

#[tokio::test]
async fn a_batch_has_a_limit() {
    let world = world().await;
    let agent = world.admitted().await;
    let params = vec![NewX509svidParams::default(); 501];
    let request = BatchNewX509svidRequest { params };
    let answer = svids(&agent.channel).batch_new_x509svid(request).await;
    refused(answer, Code::InvalidArgument, "at most 500");
}

fn named(uri: &str) -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["web.example.org".to_owned()]).unwrap();
    params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
    params.serialize_request(&key).unwrap().der().to_vec()
}

async fn mint(world: &World, csr: Vec<u8>, ttl: i32) -> Result<types::X509svid, tonic::Status> {
    let minted = svids(&world.operator()).mint_x509svid(MintX509svidRequest { csr, ttl }).await;
    minted.map(|minted| minted.into_inner().svid.unwrap())
}

#[tokio::test]
async fn the_operator_mints_for_workloads_of_the_trust_domain() {
    let world = world().await;
    let svid = mint(&world, named("spiffe://example.org/web"), 120).await.unwrap();
    assert_eq!(svid.expires_at, 1_800_000_120);
    let bad = |uri| mint(&world, named(uri), 0);
    let reserved = "spiffe://example.org/spire/server";
    refused(bad(reserved).await, Code::InvalidArgument, "not a workload's identity");
    refused(bad("spiffe://example.org").await, Code::InvalidArgument, "not a workload's");
    refused(bad("spiffe://other.org/web").await, Code::InvalidArgument, "trust domain");
    refused(bad("https://example.org/web").await, Code::InvalidArgument, "spiffe://");
    refused(mint(&world, fresh(), 0).await, Code::InvalidArgument, "0 URI names");
    let short = mint(&world, named("spiffe://example.org/web"), 1).await;
    refused(short, Code::InvalidArgument, "ttl: ");
}
