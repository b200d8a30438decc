use std::collections::HashMap;
use std::fs;
use std::sync::Mutex;

use claviger_core::evidence::Appraisal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::NoConversation;
use crate::fetch::fixture::{Answer, Site};
use crate::jwks::fixture::SigningKey;

const NOW: UnixTime = UnixTime::from_secs(1_790_000_000);
const ISSUER: &str = "https://token.actions.githubusercontent.com";
const AUDIENCE: &str = "https://claviger.example.org";

/// A ledger that remembers everything.
#[derive(Debug, Default)]
struct Ledger {
    used: Mutex<HashMap<(String, String), Option<KeyDigest>>>,
    away: bool,
}

#[async_trait]
impl ConsumeOnce for Ledger {
    async fn consume(&self, once: Once<'_>) -> Result<(), ConsumeError> {
        if self.away {
            return Err(ConsumeError::Unavailable("away".into()));
        }
        assert!(once.kind == KIND && NOW < once.expires_at);
        let name = (once.issuer.to_owned(), once.id.to_owned());
        let mut used = self.used.lock().unwrap();
        match used.get(&name) {
            Some(Some(first)) if once.key == Some(first) => Ok(()),
            Some(_) => Err(ConsumeError::Replayed),
            None => {
                used.insert(name, once.key.copied());
                Ok(())
            }
        }
    }
}

struct World {
    key: SigningKey,
    verifier: Verifier,
    trust_domain: TrustDomain,
    _dir: TempDir,
}

impl World {
    /// Believes GitHub about `acme`, with these settings added.
    fn new(more: &str) -> Self {
        Self::with_ledger(more, Ledger::default())
    }

    fn with_ledger(more: &str, ledger: Ledger) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::rsa("k");
        let file = dir.path().join("keys.json");
        fs::write(&file, key.set()).unwrap();
        let toml = format!(
            "[ci]\nissuer = \"{ISSUER}\"\naudience = \"{AUDIENCE}\"\nprofile = \"github\"\n\
             jwks-file = {file:?}\nrequire.repository_owner = [\"acme\"]\n{more}"
        );
        let config: Config = toml::from_str(&toml).unwrap();
        assert_eq!(config.problems(), []);
        let verifier = Verifier::open(config, Arc::new(ledger)).unwrap();
        Self { key, verifier, trust_domain: "example.org".parse().unwrap(), _dir: dir }
    }

    fn binding(&self, key: &[u8]) -> Binding {
        Binding::new(KIND, key, &self.trust_domain)
    }

    /// What a node with `key` earns with `token`.
    async fn present(&self, token: &str, key: &[u8]) -> Result<AttestedNode, VerifyError> {
        let claim = NodeClaim {
            evidence: token.as_bytes(),
            key: &KeyDigest::of_spki(key),
            binding: &self.binding(key),
            trust_domain: &self.trust_domain,
            caller: None,
            now: NOW,
        };
        self.verifier.verify(claim, &mut NoConversation).await
    }

    /// Why a token with these claims changed is refused.
    async fn refused(&self, changes: &Value) -> String {
        let token = self.key.token(&changed(changes));
        self.present(&token, b"key").await.unwrap_err().to_string()
    }
}

/// What GitHub says of a job.
fn claims() -> Value {
    let now = NOW.as_secs();
    json!({
        "jti": "f5a1", "iss": ISSUER, "aud": AUDIENCE, "nbf": now - 300, "iat": now, "exp": now + 300,
        "sub": "repo:acme/app:ref:refs/heads/main", "ref": "refs/heads/main", "sha": "c0ffee",
        "repository": "acme/app", "repository_owner": "acme", "repository_id": "74",
        "workflow": "release", "workflow_ref": "acme/app/.github/workflows/r.yml@refs/heads/main",
        "job_workflow_ref": "acme/app/.github/workflows/r.yml@refs/heads/main",
        "environment": "prod", "run_id": "42", "run_attempt": "2", "event_name": "push",
        "actor": "ada", "head_ref": "", "base_ref": "", "ref_protected": "true",
    })
}

fn changed(changes: &Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn selectors(node: &AttestedNode) -> Vec<String> {
    node.selectors().iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_job_is_known_by_what_its_token_says() {
    let world = World::new("");
    let node = world.present(&world.key.token(&claims()), b"key").await.unwrap();
    // The first half of the SHA-256 of the subject, by sha256sum(1).
    let id = "spiffe://example.org/spire/agent/oidc/ci/fc58e6ceb596cd5e8b6a7de78fd8e8fe";
    assert_eq!(node.id().to_string(), id);
    assert!(node.reattestable());
    let mut bearer = Appraisal::new("oidc", Bond::Bearer);
    bearer.source = "issuer's keys".to_owned();
    assert_eq!(*node.appraisal(), bearer);
    let has = selectors(&node);
    for selector in [
        "oidc:issuer:ci",
        "oidc:repository:acme/app",
        "oidc:ref:refs/heads/main",
        "oidc:sha:c0ffee",
        "oidc:workflow:release",
        "oidc:job_workflow_ref:acme/app/.github/workflows/r.yml@refs/heads/main",
        "oidc:environment:prod",
        "oidc:run_id:42",
        "oidc:run_attempt:2",
        "oidc:event_name:push",
        "oidc:actor:ada",
        "oidc:sub:repo:acme/app:ref:refs/heads/main",
        "oidc:fork:false",
    ] {
        assert!(has.contains(&selector.to_owned()), "{selector}: {has:?}");
    }
    assert!(!has.iter().any(|selector| selector.starts_with("oidc:head_ref")));
}

#[tokio::test]
async fn a_subject_has_one_name_and_another_has_another() {
    let world = World::new("");
    let id = async |jti: &str, sub: &str| {
        let token = world.key.token(&changed(&json!({"jti": jti, "sub": sub})));
        world.present(&token, b"key").await.unwrap().id().clone()
    };
    let odd = "repo:acme/../../x y\u{fc}";
    assert_eq!(id("1", odd).await, id("2", odd).await);
    assert_ne!(id("3", "a").await, id("4", "b").await);
}

#[tokio::test]
async fn the_run_is_told() {
    let world = World::new("");
    let presented =
        Presented { binding: None, key: None, trust_domain: &world.trust_domain, now: NOW };
    let token = world.key.token(&claims());
    let verified = world.verifier.verify_token(token.as_bytes(), presented).await.unwrap();
    assert_eq!(verified.run().unwrap().as_str(), "ci:42:2");
    // Without a key, there is nobody who may repeat it.
    let error = world.verifier.verify_token(token.as_bytes(), presented).await.unwrap_err();
    assert!(error.to_string().contains("used before"), "{error}");
}

#[tokio::test]
async fn a_token_works_once_for_whoever_comes_first() {
    let world = World::new("");
    let token = world.key.token(&claims());
    for _ in 0..2 {
        let node = world.present(&token, b"key").await.unwrap();
        assert_eq!(node.kind(), "oidc");
    }
    let error = world.present(&token, b"thief").await.unwrap_err();
    assert!(error.to_string().contains("used before"), "{error}");
    // The name is what counts, not the token.
    let again = world.key.token(&changed(&json!({"sha": "beef"})));
    world.present(&again, b"thief").await.unwrap_err();
}

#[tokio::test]
async fn a_token_without_a_name_is_known_by_what_was_signed() {
    let world = World::new("");
    let token = world.key.token(&changed(&json!({"jti": null})));
    let node = world.present(&token, b"key").await.unwrap();
    assert_eq!(node.kind(), "oidc");
    let error = world.present(&token, b"thief").await.unwrap_err();
    assert!(error.to_string().contains("used before"), "{error}");
    for odd in [json!(""), json!("x".repeat(257)), json!(7), json!(["f5a1"])] {
        let why = world.refused(&json!({"jti": odd})).await;
        assert!(why.contains("jti"), "{why}");
    }
}

#[tokio::test]
async fn a_token_that_is_refused_is_not_used_up() {
    let world = World::new("");
    let stranger = changed(&json!({"repository_owner": "evil"}));
    world.present(&world.key.token(&stranger), b"key").await.unwrap_err();
    let node = world.present(&world.key.token(&claims()), b"key").await.unwrap();
    assert_eq!(node.kind(), "oidc");
}

#[tokio::test]
async fn without_the_ledger_nothing_is_accepted() {
    let world = World::with_ledger("", Ledger { away: true, ..Ledger::default() });
    let error = world.present(&world.key.token(&claims()), b"key").await.unwrap_err();
    assert!(matches!(error, VerifyError::Unavailable(_)), "{error}");
}

#[tokio::test]
async fn a_token_can_be_bound_to_a_key() {
    let world = World::new("require-binding = true");
    let bound = |key: &[u8], jti: &str| {
        let audience = audience::bound(AUDIENCE, &world.binding(key));
        world.key.token(&changed(&json!({"aud": audience, "jti": jti})))
    };
    let node = world.present(&bound(b"key", "1"), b"key").await.unwrap();
    assert_eq!(node.appraisal().bond, Bond::Key);
    let error = world.present(&bound(b"key", "2"), b"thief").await.unwrap_err();
    assert!(error.to_string().contains("bound to another key"), "{error}");
    let presented =
        Presented { binding: None, key: None, trust_domain: &world.trust_domain, now: NOW };
    let token = bound(b"key", "3");
    world.verifier.verify_token(token.as_bytes(), presented).await.unwrap_err();
    let why = world.refused(&json!({})).await;
    assert!(why.contains("bound to no key"), "{why}");
}

#[tokio::test]
async fn issuer_and_audience_are_exact() {
    let world = World::new("");
    for issuer in [
        "https://token.actions.githubusercontent.com/",
        "https://TOKEN.actions.githubusercontent.com",
        "http://token.actions.githubusercontent.com",
        "https://token.actions.githubusercontent.com.evil.example",
        "",
    ] {
        let why = world.refused(&json!({"iss": issuer})).await;
        assert!(why.contains("nobody here believes"), "{issuer}: {why}");
    }
    for audience in [json!("https://other"), json!(""), json!([format!("{AUDIENCE}/")])] {
        let why = world.refused(&json!({"aud": audience})).await;
        assert!(why.contains("is for the audience"), "{why}");
    }
    let why = world.refused(&json!({"aud": [AUDIENCE, "https://other"]})).await;
    assert!(why.contains("2 audiences"), "{why}");
    let why = world.refused(&json!({"aud": format!("{AUDIENCE}#")})).await;
    assert!(why.contains("another key"), "{why}");
    for missing in ["iss", "aud", "sub", "exp", "iat"] {
        let why = world.refused(&json!({missing: null})).await;
        assert!(why.contains(missing), "{missing}: {why}");
    }
    let one = world.key.token(&changed(&json!({"aud": [AUDIENCE]})));
    assert_eq!(world.present(&one, b"key").await.unwrap().kind(), "oidc");
}

#[tokio::test]
async fn a_token_has_its_time() {
    let world = World::new("max-age = \"10m\"\nmax-lifetime = \"1h\"");
    let now = NOW.as_secs();
    for (changes, complaint) in [
        (json!({"exp": now - 30}), "expired"),
        (json!({"nbf": now + 31}), "not valid yet"),
        (json!({"iat": now + 31, "exp": now + 60}), "made in the future"),
        (json!({"iat": now - 631}), "ago"),
        (json!({"exp": now + 3_601}), "lasts longer"),
        (json!({"exp": u64::MAX}), "lasts longer"),
        (json!({"exp": "tomorrow"}), "wrong type"),
    ] {
        let why = world.refused(&changes).await;
        assert!(why.contains(complaint), "{changes}: {why}");
    }
    // Clocks may differ by half a minute.
    for (jti, skew) in [("1", json!({"exp": now - 29})), ("2", json!({"nbf": now + 30}))] {
        let mut skewed = changed(&skew);
        skewed["jti"] = json!(jti);
        skewed["iat"] = json!(now - 60);
        let node = world.present(&world.key.token(&skewed), b"key").await.unwrap();
        assert_eq!(node.kind(), "oidc");
    }
}

#[tokio::test]
async fn only_what_is_required_is_accepted() {
    let world = World::new("require.ref = [\"refs/heads/main\", \"refs/heads/next\"]");
    for changes in [
        json!({"repository_owner": "Acme"}),
        json!({"repository_owner": null}),
        json!({"repository_owner": ["evil"]}),
        json!({"ref": "refs/heads/topic"}),
        json!({"ref": ""}),
    ] {
        let why = world.refused(&changes).await;
        assert!(why.contains("`require`"), "{changes}: {why}");
    }
    let why = world.refused(&json!({"actor": "a\u{1b}[2J"})).await;
    assert!(why.contains("control"), "{why}");
}

#[tokio::test]
async fn others_cannot_sign() {
    let world = World::new("");
    let impostor = SigningKey::rsa("k");
    let error = world.present(&impostor.token(&claims()), b"key").await.unwrap_err();
    assert!(error.to_string().contains("does not verify"), "{error}");
    let error = world.present("not a token", b"key").await.unwrap_err();
    assert!(matches!(error, VerifyError::Malformed));
    let megabyte = world.key.token(&changed(&json!({"x": "x".repeat(1 << 20)})));
    let error = world.present(&megabyte, b"key").await.unwrap_err();
    assert!(matches!(error, VerifyError::Malformed));
}

#[tokio::test]
async fn the_operator_chooses_what_becomes_a_selector() {
    let world = World::new("claims = [\"repository\", \"custom\"]");
    let token = world.key.token(&changed(&json!({"custom": ["x", 1]})));
    let node = world.present(&token, b"key").await.unwrap();
    let want = [
        "oidc:custom:1",
        "oidc:custom:x",
        "oidc:fork:false",
        "oidc:issuer:ci",
        "oidc:repository:acme/app",
    ];
    assert_eq!(selectors(&node), want);
}

#[tokio::test]
async fn a_private_issuer_is_discovered_and_may_go_away() {
    let (site, key) = (Site::open().await, SigningKey::es256("k"));
    let issuer = site.url("");
    let discovery = json!({"issuer": issuer, "jwks_uri": site.url("/keys")}).to_string();
    let toml = format!(
        "[lab]\nissuer = \"{issuer}\"\naudience = \"{AUDIENCE}\"\nprofile = \"gitlab\"\n\
         [labs]\nissuer = \"{issuer}/\"\naudience = \"{AUDIENCE}\"\nprofile = \"gitlab\"\n"
    );
    let config: Config = toml::from_str(&toml).unwrap();
    let verifier = Verifier::open(config, Arc::<Ledger>::default()).unwrap();
    let trust_domain = "example.org".parse().unwrap();
    let presented = Presented { binding: None, key: None, trust_domain: &trust_domain, now: NOW };
    let token = |jti: &str| {
        let said = json!({
            "iss": issuer, "jti": jti, "sub": "project_path:acme/app:ref_type:branch:ref:main",
            "project_id": "1", "job_project_id": "1", "pipeline_id": "7", "job_id": "8"
        });
        key.token(&changed(&said))
    };
    site.answer("/.well-known/openid-configuration", Answer::Body(discovery));
    site.answer("/keys", Answer::Body(key.set()));
    let verified = verifier.verify_token(token("2").as_bytes(), presented).await.unwrap();
    assert_eq!(verified.run().unwrap().as_str(), "lab:7:8");
    assert!(selectors(&verified).contains(&"oidc:fork:false".to_owned()));
    assert_eq!(site.requests().len(), 2, "the document, and the keys");
    drop(site);
    let verified = verifier.verify_token(token("3").as_bytes(), presented).await.unwrap();
    assert!(verified.id().path().starts_with("/spire/agent/oidc/lab/"));
}
