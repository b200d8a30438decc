//! Certificates and signatures from a stranger never make the verifier panic; a chain that is read is
//! no longer than allowed, and none is believed that no authority vouches for.
#![no_main]

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use claviger_attestors::x509pop::{Config, Evidence, Mode, OwnAuthorities, Response, Verifier};
use claviger_attestors::{Challenged, NodeClaim, NodeVerifier, VerifyError};
use claviger_core::evidence::{Binding, KeyDigest};
use claviger_core::id::TrustDomain;
use claviger_core::time::UnixTime;
use futures_util::FutureExt as _;
use libfuzzer_sys::fuzz_target;

#[derive(Debug)]
struct Nobody;

impl OwnAuthorities for Nobody {
    fn current(&self) -> Vec<rustls_pki_types::CertificateDer<'static>> {
        Vec::new()
    }
}

/// A node that is never asked, because nobody vouches for it.
struct Unasked;

#[async_trait]
impl Challenged for Unasked {
    async fn answer(&mut self, _challenge: Vec<u8>) -> Result<Vec<u8>, VerifyError> {
        panic!("a stranger was asked")
    }
}

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let config = Config { mode: Mode::Spiffe, ..Config::default() };
    Verifier::open(&config, Arc::new(Nobody)).expect("a verifier")
});

static TRUST_DOMAIN: LazyLock<TrustDomain> =
    LazyLock::new(|| "example.org".parse().expect("a trust domain"));

fuzz_target!(|bytes: &[u8]| {
    let _response = Response::parse(bytes);
    let _longest = Evidence::parse(bytes, 4);
    let claim = NodeClaim {
        evidence: bytes,
        key: &KeyDigest::of_spki(b"key"),
        binding: &Binding::new("x509pop", b"key", &TRUST_DOMAIN),
        trust_domain: &TRUST_DOMAIN,
        caller: None,
        now: UnixTime::from_secs(1_767_225_600),
    };
    let judged = VERIFIER.verify(claim, &mut Unasked).now_or_never().expect("no waiting");
    assert!(judged.is_err());
});
