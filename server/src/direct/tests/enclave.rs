//! Programs in enclaves without an agent: a challenge, evidence that carries it, and secrets that only
//! the enclave can open, whoever reads and writes the connection.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use claviger_core::evidence::Binding;
use claviger_core::id::SpiffeId;
use claviger_core::seal::Context;
use claviger_runtime::seal::{Curve, Recipient, Sealed};
use futures_util::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::super::PAUSE;
use super::tee::{self, evidence};
use super::world::{Answer, World};
use super::{STORE, csr};
use crate::registry::fixture;

const APP: &str = "spiffe://example.org/app";

async fn world() -> World {
    let world = World::start().await;
    world.register("app", "/app", "tee:image:app").await;
    world.register("rogue", "/rogue", "tee:image:rogue").await;
    world
}

async fn challenge(world: &World) -> (String, Vec<u8>) {
    let answer = world.post_alone("/v1/challenge", json!({})).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let text = answer.body["challenge"].as_str().unwrap().to_owned();
    let nonce = STANDARD.decode(&text).unwrap();
    assert_eq!(nonce.len(), 32);
    (text, nonce)
}

fn shown(evidence: &[u8], challenge: &str) -> Value {
    json!({ "kind": tee::KIND, "payload": STANDARD.encode(evidence), "challenge": challenge })
}

fn psk(evidence: &Value, seal_to: &[u8]) -> Value {
    let key = STANDARD.encode(seal_to);
    json!({ "peer": STORE, "purpose": "upload", "evidence": evidence, "seal_to": key })
}

/// What `recipient` makes of an answer to `evidence`, as it knows the rest.
fn open(
    answer: &Answer,
    recipient: &Recipient,
    evidence: &[u8],
    nonce: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let id: SpiffeId = answer.body["spiffe_id"].as_str().unwrap().parse().unwrap();
    let binding = Binding::new(tee::KIND, recipient.spki(), &fixture::domain()).digest(nonce);
    let grant = answer.body["grant_id"].as_str().unwrap();
    let context = Context { id: &id, binding: &binding, evidence, grant };
    let sealed: Sealed = serde_json::from_value(answer.body["sealed"].clone()).unwrap();
    recipient.open(sealed, &context).ok()
}

#[tokio::test]
async fn an_enclave_gets_a_key_that_nobody_else_can_read() {
    let world = world().await;
    for curve in [Curve::X25519, Curve::P256, Curve::P384] {
        let recipient = Recipient::generate(curve).unwrap();
        let (text, nonce) = challenge(&world).await;
        let document = evidence("app", recipient.spki(), &nonce, None);
        let body = psk(&shown(&document, &text), recipient.spki());
        let answer = world.post_alone("/v1/psk", body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        for secret in ["psk", "base", "identity"] {
            assert!(answer.body.get(secret).is_none(), "{}", answer.body);
        }
        let opened = open(&answer, &recipient, &document, &nonce).unwrap();
        let opened: Value = serde_json::from_slice(&opened).unwrap();
        assert_eq!((&opened["client_id"], &opened["server_id"]), (&json!(APP), &json!(STORE)));
        assert_eq!(opened["psk"].as_str().unwrap().len(), 64);
        assert_eq!(opened["identity"], answer.body["grant_id"]);

        let other = Recipient::generate(curve).unwrap();
        assert!(open(&answer, &other, &document, &nonce).is_none(), "another key");
        assert!(open(&answer, &recipient, b"other", &nonce).is_none(), "other evidence");
        assert!(open(&answer, &recipient, &document, &[0; 32]).is_none(), "another nonce");
    }
}

#[tokio::test]
async fn an_enclave_gets_a_token_that_nobody_else_can_read() {
    let world = world().await;
    let recipient = Recipient::generate(Curve::X25519).unwrap();
    let (text, nonce) = challenge(&world).await;
    let document = evidence("app", recipient.spki(), &nonce, None);
    let seal_to = STANDARD.encode(recipient.spki());
    let evidence = shown(&document, &text);
    let body = json!({ "audience": ["registry"], "evidence": evidence, "seal_to": seal_to });
    let answer = world.post_alone("/v1/svid/jwt", body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert!(answer.body.get("jwt_svid").is_none());
    let opened = open(&answer, &recipient, &document, &nonce).unwrap();
    let opened: Value = serde_json::from_slice(&opened).unwrap();
    assert_eq!(opened["spiffe_id"], APP);
    assert!(opened["jwt_svid"].as_str().unwrap().starts_with("ey"));
}

#[tokio::test]
async fn an_enclave_gets_a_certificate_for_the_key_that_its_evidence_names() {
    let world = world().await;
    let (key, csr) = csr();
    let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
    let wanted: SpiffeId = APP.parse().unwrap();
    let (text, nonce) = challenge(&world).await;
    let document = evidence("app", &spki, &nonce, Some(&wanted));
    let body = json!({ "csr": csr, "evidence": shown(&document, &text), "spiffe_id": APP });
    let answer = world.post_alone("/v1/svid/x509", body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(answer.body["spiffe_id"], APP);
}

#[tokio::test]
async fn a_challenge_works_once_whether_it_passes_or_fails() {
    let world = world().await;
    let recipient = Recipient::generate(Curve::X25519).unwrap();
    let (text, nonce) = challenge(&world).await;
    let good =
        psk(&shown(&evidence("app", recipient.spki(), &nonce, None), &text), recipient.spki());
    let bad = psk(&shown(b"nonsense", &text), recipient.spki());
    assert_eq!(world.post_alone("/v1/psk", bad).await.problem(), (403, "refused"));
    assert_eq!(world.post_alone("/v1/psk", good).await.problem(), (400, "challenge"));

    let (text, nonce) = challenge(&world).await;
    let good =
        psk(&shown(&evidence("app", recipient.spki(), &nonce, None), &text), recipient.spki());
    assert_eq!(world.post_alone("/v1/psk", good.clone()).await.status, 200);
    assert_eq!(world.post_alone("/v1/psk", good).await.problem(), (400, "challenge"));
}

#[tokio::test]
async fn of_many_who_use_a_challenge_at_once_one_passes() {
    let world = world().await;
    for _ in 0..8 {
        let recipient = Recipient::generate(Curve::X25519).unwrap();
        let (text, nonce) = challenge(&world).await;
        let document = shown(&evidence("app", recipient.spki(), &nonce, None), &text);
        let body = psk(&document, recipient.spki());
        let answers = join_all((0..4).map(|_| world.post_alone("/v1/psk", body.clone()))).await;
        let passed = answers.iter().filter(|answer| answer.status == StatusCode::OK).count();
        assert_eq!(passed, 1);
        for answer in answers.iter().filter(|answer| answer.status != StatusCode::OK) {
            assert_eq!(answer.problem(), (400, "challenge"));
        }
    }
}

#[tokio::test]
async fn a_challenge_ends() {
    let world = world().await;
    let recipient = Recipient::generate(Curve::X25519).unwrap();
    let ask = async |after: u64| {
        let (text, nonce) = challenge(&world).await;
        let document = evidence("app", recipient.spki(), &nonce, None);
        world.advance(after);
        world.post_alone("/v1/psk", psk(&shown(&document, &text), recipient.spki())).await
    };
    assert_eq!(ask(59).await.status, StatusCode::OK);
    assert_eq!(ask(60).await.problem(), (400, "challenge"));
}

#[tokio::test]
async fn a_challenge_is_ours_or_none() {
    let world = world().await;
    let elsewhere = self::world().await;
    let recipient = Recipient::generate(Curve::X25519).unwrap();
    let ask = async |nonce: &[u8]| {
        let document = evidence("app", recipient.spki(), nonce, None);
        let document = shown(&document, &STANDARD.encode(nonce));
        world.post_alone("/v1/psk", psk(&document, recipient.spki())).await
    };
    let (_text, foreign) = challenge(&elsewhere).await;
    assert_eq!(ask(&foreign).await.problem(), (400, "challenge"), "another server's");
    assert_eq!(ask(&[0; 32]).await.problem(), (400, "challenge"));
    let (_text, ours) = challenge(&world).await;
    for at in [0, 7, 8, 15, 16, 31] {
        let mut changed = ours.clone();
        changed[at] ^= 1;
        assert_eq!(ask(&changed).await.problem(), (400, "challenge"), "{at}");
    }
    for bad in [&ours[..31], &[ours.as_slice(), &[0]].concat(), b""] {
        assert_eq!(ask(bad).await.problem(), (400, "malformed-request"));
    }
    assert_eq!(ask(&ours).await.status, StatusCode::OK, "what was not used still works");

    // A ledger that may have forgotten something has forgotten every challenge.
    let (_text, before) = challenge(&world).await;
    world.fence().await;
    assert_eq!(ask(&before).await.problem(), (400, "challenge"));
    let (_text, after) = challenge(&world).await;
    assert_eq!(ask(&after).await.status, StatusCode::OK);
}

/// What a parent makes of evidence, its challenge and another challenge.
type Mischief<'a> = &'a dyn Fn(&[u8], &str, &str) -> Value;

/// The parent of two enclaves has all that they send in its hands.
#[tokio::test]
async fn a_parent_that_swaps_what_two_enclaves_send_earns_nothing() {
    let world = world().await;
    let ours = Recipient::generate(Curve::P256).unwrap();
    let theirs = Recipient::generate(Curve::P256).unwrap();
    let wanted: SpiffeId = APP.parse().unwrap();
    let named = |mut body: Value| {
        body["spiffe_id"] = json!(APP);
        body
    };
    // Each time: what the enclave made for its own challenge, and what the parent makes of it.
    let mischief: [(&str, Mischief<'_>); 4] = [
        ("the key to seal to", &|document, text, _| psk(&shown(document, text), theirs.spki())),
        ("the challenge", &|document, _, other| psk(&shown(document, other), ours.spki())),
        ("the wanted identity", &|document, text, _| {
            named(psk(&shown(document, text), ours.spki()))
        }),
        ("the key left out", &|document, text, _| {
            let mut body = psk(&shown(document, text), ours.spki());
            body.as_object_mut().unwrap().remove("seal_to");
            body
        }),
    ];
    for (what, makes) in mischief {
        let ((text, nonce), (other, _nonce)) = (challenge(&world).await, challenge(&world).await);
        let document = evidence("app", ours.spki(), &nonce, None);
        let answer = world.post_alone("/v1/psk", makes(&document, &text, &other)).await;
        assert_eq!(answer.problem(), (403, "refused"), "{what}");
    }
    let (text, nonce) = challenge(&world).await;
    let document = evidence("app", ours.spki(), &nonce, Some(&wanted));
    let left_out = psk(&shown(&document, &text), ours.spki());
    assert_eq!(world.post_alone("/v1/psk", left_out).await.problem(), (403, "refused"));
    // Another enclave's evidence is for the other enclave.
    let (text, nonce) = challenge(&world).await;
    let document = evidence("rogue", theirs.spki(), &nonce, None);
    let swapped = psk(&shown(&document, &text), ours.spki());
    assert_eq!(world.post_alone("/v1/psk", swapped).await.problem(), (403, "refused"));
}

#[tokio::test]
async fn evidence_without_a_key_earns_no_sealed_secret() {
    let world = world().await;
    let recipient = Recipient::generate(Curve::X25519).unwrap();
    let (text, nonce) = challenge(&world).await;
    let document = evidence("unbound", recipient.spki(), &nonce, None);
    let begun = tokio::time::Instant::now();
    let body = psk(&shown(&document, &text), recipient.spki());
    assert_eq!(world.post_alone("/v1/psk", body).await.problem(), (403, "refused"));
    assert!(PAUSE <= begun.elapsed());
}

#[tokio::test]
async fn there_is_one_message() {
    let world = world().await;
    let recipient = Recipient::generate(Curve::X25519).unwrap();
    let (text, nonce) = challenge(&world).await;
    let document = evidence("talkative", recipient.spki(), &nonce, None);
    let body = psk(&shown(&document, &text), recipient.spki());
    assert_eq!(world.post_alone("/v1/psk", body).await.problem(), (403, "refused"));
    // Evidence that asks for a nonce does not get one in the same call.
    let mut without = shown(b"{}", "");
    without.as_object_mut().unwrap().remove("challenge");
    let answer = world.post_alone("/v1/psk", psk(&without, recipient.spki())).await;
    assert_eq!(answer.problem(), (403, "refused"));
}

#[tokio::test]
async fn a_key_to_seal_to_is_one() {
    let world = world().await;
    let good = Recipient::generate(Curve::X25519).unwrap();
    let mut low_order = good.spki().to_vec();
    low_order.splice(12.., [0; 32]);
    for (key, why) in [
        (json!("***"), "seal_to: is not base64"),
        (json!("AAAA"), "seal_to: is not the SubjectPublicKeyInfo"),
        (json!("A".repeat(1_025)), "seal_to: is larger"),
    ] {
        let mut body = psk(&shown(b"", ""), b"");
        body["seal_to"] = key;
        let answer = world.post_alone("/v1/psk", body).await;
        assert_eq!(answer.problem(), (400, "malformed-request"));
        assert!(answer.detail().starts_with(why), "{}", answer.detail());
    }
    let (text, nonce) = challenge(&world).await;
    let document = evidence("app", &low_order, &nonce, None);
    let answer = world.post_alone("/v1/psk", psk(&shown(&document, &text), &low_order)).await;
    assert_eq!(answer.problem(), (400, "malformed-request"), "{}", answer.body);
}

#[tokio::test]
async fn challenges_are_handed_out_at_a_pace() {
    let world = world().await;
    let mut refused = None;
    for _ in 0..150 {
        let answer = world.post_alone("/v1/challenge", json!({})).await;
        if answer.status != StatusCode::OK {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("all within a second");
    assert_eq!(refused.problem(), (429, "too-many-requests"));
    assert_eq!(refused.header("retry-after"), "1");
    let unknown = world.post_alone("/v1/challenge", json!({ "kind": "tee" })).await;
    assert_eq!(unknown.problem(), (400, "malformed-request"));
}
