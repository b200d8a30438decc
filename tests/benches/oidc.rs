//! What processor time it takes to judge one OIDC token with keys that are at hand: from the bytes of
//! the token to the facts and the identity it earns, with the signature, the claims, the times and
//! what the operator requires in between. The ledger is left out: it says yes at once.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark stops at the first surprise, and prints what it found"
)]

use std::fs;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use claviger_attestors::oidc::{Config, Issuer, Presented, Profile, Verifier};
use claviger_attestors::{ConsumeError, ConsumeOnce, Once};
use claviger_core::jose::{Algorithm, PublicKey, compact};
use claviger_core::time::UnixTime;
use serde_json::{Value, json};
use tokio::time::Instant;

/// How long each figure is measured.
const SPAN: Duration = Duration::from_secs(3);

/// The target for one token, in microseconds.
const TARGET: f64 = 300.0;

const ISSUER: &str = "https://token.actions.githubusercontent.com";
const AUDIENCE: &str = "https://claviger.example.org";
const NOW: UnixTime = UnixTime::from_secs(1_790_000_000);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let met = [
        measure("RS256, 2048 bits", &Key::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()))
            .await,
        measure("RS256, 4096 bits", &Key::Rsa(RsaKeyPair::generate(KeySize::Rsa4096).unwrap()))
            .await,
        measure(
            "ES256",
            &Key::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()),
        )
        .await,
    ];
    if met.iter().all(|met| *met) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Judges a token of `key`'s again and again; whether that is quick enough.
async fn measure(what: &str, key: &Key) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.json");
    fs::write(&file, json!({"keys": [key.jwk()]}).to_string()).unwrap();
    let issuer = Issuer {
        issuer: ISSUER.to_owned(),
        audience: AUDIENCE.to_owned(),
        profile: Profile::Github,
        jwks_uri: None,
        jwks_file: Some(file),
        ca_file: None,
        max_age: Duration::from_mins(10),
        max_lifetime: Duration::from_hours(1),
        leeway: Duration::from_secs(30),
        claims: None,
        require: [("repository_owner".to_owned(), vec!["acme".to_owned()])].into(),
        require_binding: false,
    };
    let config = Config([("ci".to_owned(), issuer)].into());
    assert!(config.problems().is_empty());
    let verifier = Verifier::open(config, Arc::new(Yes)).unwrap();
    let token = key.token(&claims());
    let trust_domain = "example.org".parse().unwrap();
    let presented = Presented { binding: None, key: None, trust_domain: &trust_domain, now: NOW };
    let judge = async || {
        let verified = verifier.verify_token(token.as_bytes(), presented).await.unwrap();
        assert!(verified.run().is_some());
    };
    // What is made once is made before.
    judge().await;
    let (start, before) = (Instant::now(), processor_micros());
    let mut count = 0_u32;
    while start.elapsed() < SPAN {
        judge().await;
        count += 1;
    }
    let micros = (processor_micros() - before) / f64::from(count);
    let met = micros <= TARGET;
    let verdict = if met { "met" } else { "NOT met" };
    println!(
        "OIDC token of {} bytes, {what}: {micros:.1} µs of processor time; target {TARGET:.0} µs: \
         {verdict}",
        token.len()
    );
    met
}

/// A ledger in which nothing was used.
#[derive(Debug)]
struct Yes;

#[async_trait]
impl ConsumeOnce for Yes {
    async fn consume(&self, _once: Once<'_>) -> Result<(), ConsumeError> {
        Ok(())
    }
}

/// An issuer's key.
enum Key {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

impl Key {
    fn jwk(&self) -> Value {
        let spki: PublicKeyX509Der<'_> = match self {
            Self::Rsa(pair) => pair.public_key().as_der(),
            Self::Ec(pair) => pair.public_key().as_der(),
        }
        .unwrap();
        let mut jwk = json!(PublicKey::from_spki(spki.as_ref()).unwrap().to_jwk());
        jwk.as_object_mut().unwrap().insert("kid".to_owned(), json!("k"));
        jwk
    }

    fn token(&self, claims: &Value) -> String {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => compact::build(Algorithm::Rs256, "k", "JWT", claims, |message| {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)?;
                Ok::<_, aws_lc_rs::error::Unspecified>(signature)
            }),
            Self::Ec(pair) => compact::build(Algorithm::Es256, "k", "JWT", claims, |message| {
                Ok(pair.sign(&random, message)?.as_ref().to_vec())
            }),
        }
        .unwrap()
    }
}

/// What GitHub says of a job, in full.
fn claims() -> Value {
    let now = NOW.as_secs();
    let workflow = "acme/app/.github/workflows/release.yml@refs/heads/main";
    json!({
        "actor": "ada", "actor_id": "12", "aud": AUDIENCE, "base_ref": "", "environment": "prod",
        "event_name": "push", "exp": now + 300, "head_ref": "", "iat": now, "iss": ISSUER,
        "job_workflow_ref": workflow, "job_workflow_sha": "example-sha", "jti": "example-id",
        "nbf": now - 300, "ref": "refs/heads/main", "ref_protected": "true", "ref_type": "branch",
        "repository": "acme/app", "repository_id": "74", "repository_owner": "acme",
        "repository_owner_id": "65", "repository_visibility": "private", "run_attempt": "2",
        "run_id": "42", "run_number": "10", "runner_environment": "github-hosted",
        "sha": "example-sha", "sub": "repo:acme/app:environment:prod", "workflow": "release",
        "workflow_ref": workflow, "workflow_sha": "example-sha",
    })
}

/// The processor time that this process has taken, in microseconds: its own and the kernel's for it.
/// The kernel counts in hundredths of a second (proc(5)).
fn processor_micros() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    // Fields are counted after the name, which may hold anything.
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    let ticks: u32 = fields.skip(11).take(2).map(|ticks| ticks.parse::<u32>().unwrap()).sum();
    f64::from(ticks) * 1e4
}
