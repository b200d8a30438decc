//! Where a stranger wants to be asked never makes the verifier panic, and leads nowhere but to names
//! that the operator allows; what a server wants served is never more than a nonce.
#![no_main]

use std::sync::LazyLock;

use async_trait::async_trait;
use claviger_attestors::http_challenge::{Challenge, Config, Evidence, Verifier};
use claviger_attestors::{Challenged, NodeClaim, NodeVerifier, VerifyError};
use claviger_core::evidence::{Binding, KeyDigest};
use claviger_core::id::TrustDomain;
use claviger_core::time::UnixTime;
use futures_util::FutureExt as _;
use libfuzzer_sys::fuzz_target;

/// A node that says nothing, so that no name is looked up.
struct Silent;

#[async_trait]
impl Challenged for Silent {
    async fn answer(&mut self, _challenge: Vec<u8>) -> Result<Vec<u8>, VerifyError> {
        Err(VerifyError::Silent)
    }
}

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let allowed_dns_patterns = vec![r"[^.]+\.example\.org".to_owned()];
    Verifier::open(&Config { allowed_dns_patterns, ..Config::default() }).expect("a verifier")
});

static TRUST_DOMAIN: LazyLock<TrustDomain> =
    LazyLock::new(|| "example.org".parse().expect("a trust domain"));

fuzz_target!(|bytes: &[u8]| {
    let _challenge = Challenge::parse(bytes);
    let claim = NodeClaim {
        evidence: bytes,
        key: &KeyDigest::of_spki(b"key"),
        binding: &Binding::new("http_challenge", b"key", &TRUST_DOMAIN),
        trust_domain: &TRUST_DOMAIN,
        caller: None,
        now: UnixTime::from_secs(1_800_000_000),
    };
    let judged = VERIFIER.verify(claim, &mut Silent).now_or_never().expect("no waiting");
    if matches!(judged.unwrap_err(), VerifyError::Silent) {
        // The node was asked: so its name is one of those, and all of it.
        let evidence = Evidence::parse(bytes).expect("evidence");
        let host = evidence.hostname();
        assert!(host.ends_with(".example.org") && host.matches('.').count() == 2, "{host}");
        assert!(host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)), "{host}");
    }
});
