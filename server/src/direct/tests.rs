//! Direct attestation, with a verifier that believes what it is told.

mod enclave;
mod refusals;
mod standing;
mod tee;
mod world;

use claviger_core::audit::Event;
use claviger_core::evidence::{Bond, Tier};
use claviger_core::grant::Requester;
use claviger_core::id::TrustDomain;
use claviger_core::psk::derive::PskBase;
use claviger_core::psk::{PskBinding, PskHash};
use claviger_core::secret::Secret;
use claviger_core::svid::jwt::JwtSvid;
use claviger_core::time::UnixTime;
use http::StatusCode;
use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};
use serde_json::json;
use x509_parser::pem::Pem;

use super::reply::JSON;
use crate::ca::csr::Csr;
use crate::storage::fixture::NOW;
use world::{Evidence, World};

const CI: &str = "spiffe://example.org/ci";
const STORE: &str = "spiffe://example.org/store";

fn csr() -> (KeyPair, String) {
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    (key, csr)
}

#[tokio::test]
async fn a_job_gets_a_certificate_for_its_key() {
    let world = World::start().await;
    let (key, csr) = csr();
    let answer = world.post("/v1/svid/x509", &Evidence::of("1"), json!({ "csr": csr })).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(answer.header("content-type"), JSON.to_str().unwrap());
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.body["spiffe_id"], CI);
    assert_eq!(answer.body["expires_at"], NOW + 3_600);
    let chain = answer.body["x509_svid"].as_str().unwrap();
    let leaf = Pem::iter_from_buffer(chain.as_bytes()).next().unwrap().unwrap();
    let leaf = leaf.parse_x509().unwrap();
    assert_eq!(leaf.public_key().raw, key.subject_public_key_info());
    let bundle = answer.body["bundle"].as_str().unwrap();
    let authority = Pem::iter_from_buffer(bundle.as_bytes()).next().unwrap().unwrap();
    leaf.verify_signature(Some(authority.parse_x509().unwrap().public_key())).unwrap();
}

#[tokio::test]
async fn a_certificate_request_may_be_der_and_evidence_may_be_in_the_body() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    let world = World::start().await;
    let (_key, csr) = csr();
    let der = pem::parse(&csr).unwrap().into_contents();
    Csr::parse(&der).unwrap();
    let payload = STANDARD.encode(Evidence::of("1").text());
    let evidence = json!({ "kind": "oidc", "payload": payload });
    let body = json!({ "csr": STANDARD.encode(der), "evidence": evidence, "spiffe_id": CI });
    let answer = world.post_alone("/v1/svid/x509", body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
}

#[tokio::test]
async fn a_job_gets_a_token_for_an_audience() {
    let world = World::start().await;
    let body = json!({ "audience": ["registry"] });
    let answer = world.post("/v1/svid/jwt", &Evidence::of("1"), body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(
        (&answer.body["spiffe_id"], &answer.body["expires_at"]),
        (&json!(CI), &json!(NOW + 300))
    );
    let bundle = world.bundle();
    let token = answer.body["jwt_svid"].as_str().unwrap();
    let domain: TrustDomain = "example.org".parse().unwrap();
    let ours = |trust_domain: &_| (*trust_domain == domain).then_some(&*bundle.jwt_authorities);
    let verified = JwtSvid::validate(token, "registry", UnixTime::from_secs(NOW), ours);
    assert_eq!(verified.unwrap().subject.to_string(), CI);
}

#[tokio::test]
async fn a_key_is_bound_to_the_run_that_the_evidence_names() {
    let world = World::start().await;
    let body = json!({ "peer": STORE, "purpose": "upload", "ttl_seconds": 30 });
    let answer = world.post("/v1/psk", &Evidence::of("1"), body.clone()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let said = |name: &str| answer.body[name].as_str().unwrap().to_owned();
    assert_eq!((said("client_id"), said("server_id")), (CI.to_owned(), STORE.to_owned()));
    assert_eq!((said("purpose"), said("run")), ("upload".to_owned(), "ci:1".to_owned()));
    assert_eq!(answer.body["expires_at"], NOW + 30);

    // Whoever derives the key from its own view gets the same.
    let base = hex::decode(said("base")).unwrap();
    let psk = |run: Option<&str>| {
        let binding = PskBinding {
            client: CI.parse().unwrap(),
            server: STORE.parse().unwrap(),
            purpose: "upload".parse().unwrap(),
            not_after: UnixTime::from_secs(NOW + 30),
            hash: PskHash::Sha256,
            run: run.map(|run| run.parse().unwrap()),
            series: None,
            bits: None,
        };
        hex::encode(PskBase(Secret::copy_from(&base).unwrap()).psk(&binding).0.expose())
    };
    assert_eq!(psk(Some("ci:1")), said("psk"));
    assert_ne!(psk(Some("ci:2")), said("psk"));
    assert_ne!(psk(None), said("psk"));

    let other = world.post("/v1/psk", &Evidence::of("2"), body).await;
    assert_eq!(other.body["run"], "ci:2");
    assert_ne!(other.body["psk"], answer.body["psk"]);
}

#[tokio::test]
async fn who_it_was_is_on_record_before_what_they_get() {
    let world = World::start().await;
    let before = world.events().await.len();
    let body = json!({ "peer": STORE, "purpose": "upload" });
    world.post("/v1/psk", &Evidence::of("1"), body).await;
    let events = world.events().await.split_off(before);
    let [Event::DirectlyAttested { id, selectors, appraisal }, issued] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert_eq!(id.to_string(), "spiffe://example.org/spire/agent/oidc/1");
    assert_eq!(selectors.len(), 1);
    assert_eq!((appraisal.kind.as_str(), appraisal.bond), ("oidc", Bond::Bearer));
    let Event::PskIssued { binding, requester, .. } = issued else { panic!("{issued:?}") };
    assert_eq!(binding.run.as_ref().unwrap().as_str(), "ci:1");
    let want = Requester::Evidence {
        id: id.clone(),
        kind: "oidc".to_owned(),
        bond: Bond::Bearer,
        tier: Tier::None,
    };
    assert_eq!(*requester, want);
}

#[tokio::test]
async fn of_several_identities_one_is_named() {
    let world = World::start().await;
    world.register("second", "/second", "oidc:repository:acme/app").await;
    let body = json!({ "audience": ["x"] });
    let which = world.post("/v1/svid/jwt", &Evidence::of("1"), body).await;
    assert_eq!(which.problem(), (400, "ambiguous-identity"));
    for id in [CI, "spiffe://example.org/second"] {
        let body = json!({ "audience": ["x"], "spiffe_id": id });
        let named = world.post("/v1/svid/jwt", &Evidence::of("1"), body).await;
        assert_eq!(named.body["spiffe_id"], id);
    }
}

#[tokio::test]
async fn a_repetition_is_for_the_same_key_and_for_certificates_only() {
    let world = World::start().await;
    let (_key, csr) = csr();
    let once = Evidence { jti: Some("j1"), ..Evidence::of("1") };
    for _ in 0..2 {
        let answer = world.post("/v1/svid/x509", &once, json!({ "csr": csr })).await;
        assert_eq!(answer.status, StatusCode::OK, "the answer was lost on the way");
    }
    let (_other, other) = self::csr();
    let stolen = world.post("/v1/svid/x509", &once, json!({ "csr": other })).await;
    assert_eq!(stolen.problem(), (403, "refused"));

    let once = Evidence { jti: Some("j2"), ..Evidence::of("1") };
    let body = json!({ "peer": STORE, "purpose": "upload" });
    let first = world.post("/v1/psk", &once, body.clone()).await;
    assert_eq!(first.status, StatusCode::OK);
    assert_eq!(world.post("/v1/psk", &once, body).await.problem(), (403, "refused"));
}
