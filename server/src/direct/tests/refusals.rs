//! Who gets nothing, and what they are told.

use http::Method;
use serde_json::{Value, json};

use super::super::*;
use super::world::{Answer, Evidence, World};
use super::{STORE, csr};
use crate::registry::fixture;
use claviger_core::entry::Entry;

fn psk() -> Value {
    json!({ "peer": STORE, "purpose": "upload" })
}

#[tokio::test]
async fn a_stranger_learns_nothing_from_a_refusal() {
    let world = World::start().await;
    let admin = fixture::entry("admin", "/spire/server", "/admin", "oidc:repository:acme/admin");
    world.create(Entry { admin: true, ..admin.clone() }).await;
    let server = fixture::entry("down", "/spire/server", "/down", "oidc:repository:acme/down");
    world.create(Entry { downstream: true, ..server }).await;
    let fine = Evidence::of("1");
    let used = Evidence { jti: Some("used"), ..fine };
    world.post("/v1/psk", &used, psk()).await;

    let cases = [
        ("a bad signature", Evidence { verdict: "forged", ..fine }, psk()),
        ("a replay", used, psk()),
        ("a fork", Evidence { repository: "evil/app", ..fine }, psk()),
        ("an identity that administrates", Evidence { repository: "acme/admin", ..fine }, psk()),
        ("a server below", Evidence { repository: "acme/down", ..fine }, psk()),
        ("evidence that is believed once", Evidence { verdict: "once", ..fine }, psk()),
        ("evidence that needs a conversation", Evidence { verdict: "talk", ..fine }, psk()),
        (
            "somebody else's identity",
            fine,
            json!({ "peer": STORE, "purpose": "x", "spiffe_id": STORE }),
        ),
        ("nobody to talk to", fine, json!({ "peer": "spiffe://example.org/none", "purpose": "x" })),
        ("another trust domain", fine, json!({ "peer": "spiffe://other.org/x", "purpose": "x" })),
    ];
    let mut said = None;
    for (case, evidence, body) in cases {
        let begun = Instant::now();
        let answer = world.post("/v1/psk", &evidence, body).await;
        assert_eq!(answer.problem(), (403, "refused"), "{case}");
        assert!(PAUSE <= begun.elapsed(), "{case}");
        assert_eq!(said.get_or_insert_with(|| answer.body.clone()), &answer.body, "{case}");
    }
    let garbage = world.send("/v1/psk", &[("authorization", "Bearer x")], &psk().to_string()).await;
    assert_eq!(Some(garbage.body), said);
    assert!(!said.unwrap().to_string().contains("SECRET"));
}

#[tokio::test]
async fn whoever_is_believed_and_denied_is_told_no_more() {
    let world = World::denying().await;
    for (path, body) in [
        ("/v1/psk", psk()),
        ("/v1/svid/jwt", json!({ "audience": ["x"] })),
        ("/v1/svid/x509", json!({ "csr": csr().1 })),
    ] {
        let answer = world.post(path, &Evidence::of("1"), body).await;
        assert_eq!(answer.problem(), (403, "refused"), "{path}");
    }
}

#[tokio::test]
async fn a_caller_is_told_which_field_to_fix() {
    let world = World::start().await;
    let psk = |change: Value| {
        let mut body = psk();
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        ("/v1/psk", body)
    };
    let big = "A".repeat(90 << 10);
    let cases = [
        (psk(json!({ "peer": "example.org" })), "peer: "),
        (psk(json!({ "purpose": "two words" })), "purpose: "),
        (psk(json!({ "ttl_seconds": 301 })), "ttl_seconds: "),
        (psk(json!({ "ttl_seconds": "60" })), "ttl_seconds: "),
        (psk(json!({ "spiffe_id": "x" })), "spiffe_id: "),
        (psk(json!({ "ttl": 60 })), "ttl: unknown field"),
        (psk(json!({ "evidence": { "kind": "oidc", "payload": "" } })), "evidence: "),
        (("/v1/psk", json!({ "purpose": "x" })), "body: missing field `peer`"),
        (("/v1/psk", json!([])), "body: "),
        (("/v1/svid/jwt", json!({})), "body: missing field `audience`"),
        (("/v1/svid/jwt", json!({ "audience": [] })), "audience: "),
        (("/v1/svid/jwt", json!({ "audience": [7] })), "audience[0]: "),
        (("/v1/svid/x509", json!({ "csr": "junk!" })), "csr: is neither PEM nor DER"),
        (("/v1/svid/x509", json!({ "csr": "AAAA" })), "csr: the certificate request"),
        (("/v1/svid/x509", json!({ "csr": big })), "csr: is larger"),
        (("/v1/svid/x509", json!({ "csr": "-----BEGIN X-----" })), "csr: is not PEM"),
    ];
    for ((path, body), field) in cases {
        let answer = world.post(path, &Evidence::of("1"), body.clone()).await;
        assert_eq!(answer.problem(), (400, "malformed-request"), "{body}");
        assert!(answer.detail().starts_with(field), "{field}: {}", answer.detail());
    }
    let inline = |kind: &str, payload: &str| json!({ "audience": ["x"], "evidence": { "kind": kind, "payload": payload } });
    let answer = world.post_alone("/v1/svid/jwt", inline("oidc", "***")).await;
    assert!(answer.detail().starts_with("evidence.payload: "), "{}", answer.detail());
    let large = world.post_alone("/v1/svid/jwt", inline("oidc", &"AAAA".repeat(22 << 10))).await;
    assert!(large.detail().starts_with("evidence.payload: has more"), "{}", large.detail());
    for kind in ["join_token", "composite", "nonsense"] {
        let answer = world.post_alone("/v1/svid/jwt", inline(kind, "AAAA")).await;
        assert_eq!(answer.problem(), (400, "unsupported-kind"), "{kind}");
    }
    let itself = json!({ "peer": super::CI, "purpose": "x" });
    let answer = world.post("/v1/psk", &Evidence::of("1"), itself).await;
    assert!(answer.detail().starts_with("peer: is the identity"), "{}", answer.detail());
}

#[tokio::test]
async fn a_request_has_one_form() {
    let world = World::start().await;
    let body = psk().to_string();
    let token = format!("Bearer {}", Evidence::of("1").text());
    let send = async |headers: &[(&str, &str)]| world.send("/v1/psk", headers, &body).await;
    let none = send(&[]).await;
    assert_eq!(none.problem(), (401, "missing-evidence"));
    assert_eq!(none.header("www-authenticate"), "Bearer");
    for bad in ["Bearer", "Bearer ", "Basic dTpw", "Bearer a b", "Bearer ä"] {
        let answer = send(&[("authorization", bad)]).await;
        assert_eq!(answer.problem(), (400, "malformed-request"), "{bad}");
        assert!(answer.detail().starts_with("Authorization: "), "{}", answer.detail());
    }
    let twice = send(&[("authorization", &token), ("authorization", &token)]).await;
    assert_eq!(twice.problem(), (400, "malformed-request"));
    assert_eq!(send(&[("authorization", &token.replace("Bearer", "bearer"))]).await.status, 200);

    let ask = async |request: http::request::Builder, body: &str| -> Answer {
        let body = Full::new(Bytes::from(body.to_owned()));
        world.ask(request.header("authorization", &token).body(body).unwrap()).await
    };
    let post =
        |path: &str| Request::post(path).header("content-type", "application/json; charset=utf-8");
    assert_eq!(ask(post("/v1/psk"), &body).await.status, 200);
    assert_eq!(ask(post("/v1/nothing"), &body).await.problem(), (404, "not-found"));
    let get = ask(Request::get("/v1/psk"), "").await;
    assert_eq!((get.problem(), get.header("allow")), ((405, "method-not-allowed"), "POST"));
    let put = Request::builder().method(Method::PUT).uri("/v1/psk");
    assert_eq!(ask(put, &body).await.status, 405);
    let text = Request::post("/v1/psk").header("content-type", "text/plain");
    assert_eq!(ask(text, &body).await.problem(), (415, "unsupported-media-type"));
    assert_eq!(ask(Request::post("/v1/psk"), &body).await.status, 415);
    let large = ask(post("/v1/psk"), &" ".repeat((128 << 10) + 1)).await;
    assert_eq!(large.problem(), (413, "too-large"));
    let more = ask(post("/v1/psk"), &format!("{body}{body}")).await;
    assert_eq!(more.problem(), (400, "malformed-request"));
    let described = ask(Request::get("/openapi.json"), "").await;
    assert_eq!((described.status.as_u16(), &described.body["openapi"]), (200, &json!("3.1.0")));
}

#[tokio::test]
async fn what_the_verifier_depends_on_may_be_away() {
    let world = World::start().await;
    let away = Evidence { verdict: "away", ..Evidence::of("1") };
    let answer = world.post("/v1/psk", &away, psk()).await;
    assert_eq!(answer.problem(), (503, "unavailable"));
    assert_eq!(answer.header("retry-after"), "2");
}

#[tokio::test]
async fn one_address_does_not_keep_out_the_others() {
    let world = World::start().await;
    let held: Vec<_> = (0..WORKING_PER_IP).map(|_| world.busy()).collect();
    let answer = world.post("/v1/psk", &Evidence::of("1"), psk()).await;
    assert_eq!(answer.problem(), (429, "too-many-requests"));
    drop(held);
    assert_eq!(world.post("/v1/psk", &Evidence::of("1"), psk()).await.status, 200);
}
