//! Certificates and signatures from a stranger never make the verifier panic, and none is believed
//! that the authority did not sign: none of these is.
#![no_main]

use std::sync::LazyLock;

use async_trait::async_trait;
use claviger_attestors::sshpop::{Config, HostCertificate, Response, Verifier};
use claviger_attestors::{Challenged, NodeClaim, NodeVerifier, VerifyError};
use claviger_core::evidence::{Binding, KeyDigest};
use claviger_core::id::TrustDomain;
use claviger_core::time::UnixTime;
use futures_util::FutureExt as _;
use libfuzzer_sys::fuzz_target;

/// A node whose certificate is genuine (one is among the seeds), with the same bytes for an answer.
struct Echo(Vec<u8>);

#[async_trait]
impl Challenged for Echo {
    async fn answer(&mut self, _challenge: Vec<u8>) -> Result<Vec<u8>, VerifyError> {
        Ok(self.0.clone())
    }
}

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let authority = include_str!("../../../attestors/src/sshpop/vectors/authority.pub");
    let config = Config { cert_authorities: vec![authority.into()], ..Config::default() };
    Verifier::open(&config).expect("a verifier")
});

static TRUST_DOMAIN: LazyLock<TrustDomain> =
    LazyLock::new(|| "example.org".parse().expect("a trust domain"));

fuzz_target!(|bytes: &[u8]| {
    let _certificate = HostCertificate::parse(bytes);
    let _response = Response::parse(bytes);
    let claim = NodeClaim {
        evidence: bytes,
        key: &KeyDigest::of_spki(b"key"),
        binding: &Binding::new("sshpop", b"key", &TRUST_DOMAIN),
        trust_domain: &TRUST_DOMAIN,
        caller: None,
        now: UnixTime::from_secs(1_800_000_000),
    };
    let judged = VERIFIER.verify(claim, &mut Echo(bytes.to_vec())).now_or_never();
    assert!(judged.expect("no waiting").is_err());
});
