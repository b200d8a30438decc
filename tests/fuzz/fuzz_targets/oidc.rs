//! Whatever an issuer puts into its tokens, judging them never panics; what is accepted says what the
//! operator asked for, also to a reader that is less strict than we are.
#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;
use std::{env, fs, process};

use async_trait::async_trait;
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use claviger_attestors::oidc::{Config, Issuer, Presented, Profile, Verifier};
use claviger_attestors::{ConsumeError, ConsumeOnce, Once};
use claviger_core::evidence::AttestedNode;
use claviger_core::jose::PublicKey;
use claviger_core::time::UnixTime;
use futures_util::FutureExt as _;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const ISSUER: &str = "https://token.actions.githubusercontent.com";
const AUDIENCE: &str = "https://claviger.example.org";
const NOW: UnixTime = UnixTime::from_secs(1_790_000_000);

/// An issuer, and the server that believes it about the owner `acme`.
struct World {
    key: EcdsaKeyPair,
    verifier: Verifier,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let spki: PublicKeyX509Der<'_> = key.public_key().as_der().expect("its public half");
    let jwk = PublicKey::from_spki(spki.as_ref()).expect("a key").to_jwk();
    let mut jwk = serde_json::to_value(jwk).expect("JSON");
    jwk["kid"] = json!("k");
    let file = env::temp_dir().join(format!("claviger-fuzz-oidc-{}.json", process::id()));
    fs::write(&file, json!({"keys": [jwk]}).to_string()).expect("a file");
    let issuer = Issuer {
        issuer: ISSUER.to_owned(),
        audience: AUDIENCE.to_owned(),
        profile: Profile::Github,
        jwks_uri: None,
        jwks_file: Some(file),
        ca_file: None,
        max_age: Duration::from_secs(600),
        max_lifetime: Duration::from_secs(86_400),
        leeway: Duration::from_secs(30),
        claims: None,
        require: [("repository_owner".to_owned(), vec!["acme".to_owned()])].into(),
        require_binding: false,
    };
    let config = Config([("ci".to_owned(), issuer)].into());
    assert!(config.problems().is_empty());
    World { key, verifier: Verifier::open(config, Arc::new(Yes)).expect("a verifier") }
});

/// A ledger in which nothing was used.
#[derive(Debug)]
struct Yes;

#[async_trait]
impl ConsumeOnce for Yes {
    async fn consume(&self, once: Once<'_>) -> Result<(), ConsumeError> {
        assert!(!once.id.is_empty() && NOW < once.expires_at);
        Ok(())
    }
}

fuzz_target!(|claims: &[u8]| {
    // As they come, they are not signed.
    assert!(judge(claims).is_none());
    let signed = format!("eyJhbGciOiJFUzI1NiIsImtpZCI6ImsifQ.{}", URL_SAFE_NO_PAD.encode(claims));
    let signature = WORLD.key.sign(&SystemRandom::new(), signed.as_bytes()).expect("a signature");
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
    let Some(node) = judge(token.as_bytes()) else { return };
    let read: Value = serde_json::from_slice(claims).expect("what was accepted is JSON");
    assert_eq!(read["iss"], ISSUER);
    assert_eq!(read["repository_owner"], "acme");
    assert!(read["exp"].as_u64().is_some_and(|end| NOW.as_secs() < end + 30));
    assert!(node.id().path().starts_with("/spire/agent/oidc/ci/"));
    assert!(node.selectors().iter().all(|selector| selector.kind() == "oidc"));
    let has = |text: &str| node.selectors().iter().any(|selector| selector.value() == text);
    assert!(has("issuer:ci") && has("repository_owner:acme"));
    assert_eq!(has("fork:false"), !has("fork:unknown"));
});

/// Nothing has to be waited for: the keys are in a file.
fn judge(token: &[u8]) -> Option<AttestedNode> {
    let trust_domain = "example.org".parse().expect("a trust domain");
    let presented = Presented { binding: None, key: None, trust_domain: &trust_domain, now: NOW };
    let verdict = WORLD.verifier.verify_token(token, presented).now_or_never();
    verdict.expect("nothing to wait for").ok()
}
