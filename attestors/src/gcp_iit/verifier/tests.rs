use claviger_core::evidence::{Binding, KeyDigest};
use claviger_core::time::UnixTime;
use serde_json::{Value, json};

use super::*;
use crate::NoConversation;
use crate::fetch::fixture::{Answer, Site};
use crate::jwks::fixture::SigningKey;

const NOW: u64 = 1_790_000_000;

struct World {
    key: SigningKey,
    verifier: Verifier,
    _site: Site,
}

impl World {
    async fn new(more: &str) -> Self {
        let (key, site) = (SigningKey::rsa("k"), Site::open().await);
        site.answer("/certs", Answer::Body(key.set()));
        let toml = format!(
            "projectid-allow-list = [\"acme-prod\"]\njwks-uri = \"{}\"\n{more}",
            site.url("/certs")
        );
        let config: Config = toml::from_str(&toml).unwrap();
        assert_eq!(config.problems(), []);
        Self { key, verifier: Verifier::open(config).unwrap(), _site: site }
    }

    async fn present(&self, token: &str, key: &[u8]) -> Result<AttestedNode, VerifyError> {
        let claim = NodeClaim {
            evidence: token.as_bytes(),
            key: &KeyDigest::of_spki(key),
            binding: &binding(key),
            trust_domain: &"example.org".parse().unwrap(),
            caller: None,
            now: UnixTime::from_secs(NOW),
        };
        self.verifier.verify(claim, &mut NoConversation).await
    }

    /// Why a token with these claims changed is refused.
    async fn refused(&self, changes: &Value) -> String {
        let token = self.key.token(&changed(changes));
        self.present(&token, b"key").await.unwrap_err().to_string()
    }
}

fn binding(key: &[u8]) -> Binding {
    Binding::new(KIND, key, &"example.org".parse().unwrap())
}

/// What Google says of a machine, and the changes to it, a machine's among them.
fn changed(changes: &Value) -> Value {
    let mut claims = json!({
        "iss": "https://accounts.google.com", "aud": AUDIENCE, "iat": NOW, "exp": NOW + 3_600,
        "azp": "1141", "sub": "1141", "email": "ci@acme-prod.iam.gserviceaccount.com",
        "email_verified": true,
        "google": {"compute_engine": {
            "project_id": "acme-prod", "project_number": 739_419_398_126_u64, "zone": "us-west1-b",
            "instance_id": "6771", "instance_name": "web-1",
            "instance_creation_timestamp": 1_545_264_981,
        }},
    });
    for (name, value) in changes.as_object().unwrap() {
        if claims["google"]["compute_engine"].get(name).is_some() {
            claims["google"]["compute_engine"][name] = value.clone();
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

#[tokio::test]
async fn a_machine_is_named_for_its_project_and_its_number() {
    let world = World::new("").await;
    let node = world.present(&world.key.token(&changed(&json!({}))), b"key").await.unwrap();
    assert_eq!(node.id().to_string(), "spiffe://example.org/spire/agent/gcp_iit/acme-prod/6771");
    assert!(!node.reattestable());
    assert_eq!(node.appraisal().bond, Bond::Bearer);
    let selectors: Vec<_> = node.selectors().iter().map(ToString::to_string).collect();
    let want = [
        "gcp_iit:instance-name:web-1",
        "gcp_iit:project-id:acme-prod",
        "gcp_iit:sa:ci@acme-prod.iam.gserviceaccount.com",
        "gcp_iit:zone:us-west1-b",
    ];
    assert_eq!(selectors, want);
}

#[tokio::test]
async fn an_address_that_google_has_not_verified_is_no_fact() {
    let world = World::new("").await;
    for changes in [json!({"email_verified": false}), json!({"email": null})] {
        let node = world.present(&world.key.token(&changed(&changes)), b"key").await.unwrap();
        assert!(node.selectors().iter().all(|selector| selector.name() != "sa"));
    }
}

#[tokio::test]
async fn a_token_can_be_bound_to_a_key() {
    let world = World::new("require-binding = true").await;
    let audience = audience::bound(AUDIENCE, &binding(b"key"));
    let token = world.key.token(&changed(&json!({"aud": audience})));
    let node = world.present(&token, b"key").await.unwrap();
    assert_eq!(node.appraisal().bond, Bond::Key);
    let error = world.present(&token, b"thief").await.unwrap_err();
    assert!(error.to_string().contains("another key"), "{error}");
    let why = world.refused(&json!({})).await;
    assert!(why.contains("bound to no key"), "{why}");
}

#[tokio::test]
async fn other_tokens_of_googles_are_refused() {
    let world = World::new("").await;
    for (changes, complaint) in [
        (json!({"project_id": "evil"}), "`evil` is not in"),
        (json!({"project_id": ""}), "is not in"),
        (json!({"iss": "https://accounts.google.com/"}), "not of Google's"),
        (json!({"iss": "accounts.google.com"}), "not of Google's"),
        (json!({"aud": "https://example.org"}), "another audience"),
        (json!({"aud": [AUDIENCE, "other"]}), "2 audiences"),
        (json!({"google": null}), "format=full"),
        (json!({"google": {"compute_engine": {"project_id": "acme-prod"}}}), "missing field"),
        (json!({"instance_id": "../6771"}), "path"),
        (json!({"instance_id": 6771}), "invalid type"),
        (json!({"instance_name": "a\nb"}), "control"),
        (json!({"exp": NOW - 30}), "expired"),
        (json!({"iat": NOW - 3_631, "exp": NOW - 31 + 60}), "lasts longer"),
        (json!({"iat": NOW + 31, "exp": NOW + 60}), "future"),
        (json!({"nbf": NOW + 31}), "not valid yet"),
    ] {
        let why = world.refused(&changes).await;
        assert!(why.contains(complaint), "{changes}: {why}");
    }
    let impostor = SigningKey::rsa("k").token(&changed(&json!({})));
    let error = world.present(&impostor, b"key").await.unwrap_err();
    assert!(error.to_string().contains("does not verify"), "{error}");
}

#[test]
fn a_configuration_names_projects() {
    let problems = |text: &str| {
        let config: Config = toml::from_str(text).unwrap();
        config.problems().into_iter().map(|problem| problem.key).collect::<Vec<_>>()
    };
    assert!(problems("projectid-allow-list = [\"a\"]").is_empty());
    assert_eq!(problems("projectid-allow-list = []"), ["projectid-allow-list"]);
    assert_eq!(problems("projectid-allow-list = [\"\"]"), ["projectid-allow-list"]);
    toml::from_str::<Config>("").unwrap_err();
    let text = "projectid-allow-list = [\"a\"]\njwks-uri = \"http://example.org\"\n\
                jwks-file = \"keys\"\nca-file = \"/ca.pem\"";
    assert_eq!(problems(text), ["jwks-uri", "jwks-file", "jwks-file"]);
}
