//! A TDX quote, with collateral that is there already.

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use claviger_attestors::checklist::Checklist;
use claviger_attestors::dcap::{
    Collateral, Quote, Roots, TcbPolicy, TcbStatus, Terms, appraise, authenticate,
};
use claviger_core::time::UnixTime;

use crate::{Report, corpus};

/// 8 July 2025, when the collateral was current.
const NOW: UnixTime = UnixTime::from_secs(1_751_932_800);

const TARGET: Duration = Duration::from_millis(5);

/// What the quote and its collateral sign, in bytes: the platform's certificate and its authority's, the
/// quoting enclave's report, header and body, two revocation lists, the certificate of the signer of
/// collateral, and two documents of its.
const SIGNED: [usize; 9] = [1_174, 574, 384, 632, 203, 2_571, 565, 2_934, 461];

/// Measures the whole way from bytes to a status.
pub(crate) fn measure(report: &mut Report) {
    let what = "tdx: a quote, with collateral as it lies in a folder";
    let Some(folder) = corpus("tdx") else {
        return report.not_measured(what, "the real quotes are missing");
    };
    let quote = std::fs::read(folder.join("sample__tdx_quote")).unwrap();
    let json = std::fs::read(folder.join("sample__tdx_quote_collateral.json")).unwrap();
    let (roots, policy) = (Roots::intel().unwrap(), TcbPolicy::default());
    let verify = || {
        let quote = Quote::parse(&quote).unwrap();
        let mut checks = Checklist::strict();
        let platform = authenticate(&quote, &roots, NOW, &mut checks).unwrap();
        let collateral = Collateral::parse(&json).unwrap();
        let terms = Terms { roots: &roots, policy: &policy, grace: Duration::ZERO, now: NOW };
        let standing =
            appraise(&quote, platform.as_ref(), Some(&collateral), terms, &mut checks).unwrap();
        assert_eq!(standing.unwrap().status, TcbStatus::UpToDate);
        checks.kept().unwrap();
    };
    report.measure(what, TARGET, verify, signatures());
}

/// Verifies as many signatures over as many bytes, by a key of our own: each once.
fn signatures() -> impl FnMut() {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let signed = SIGNED.map(|length| {
        let message = vec![7; length];
        let signature = pair.sign(&SystemRandom::new(), &message).unwrap();
        (message, signature)
    });
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref().to_vec());
    move || {
        for (message, signature) in &signed {
            key.verify(message, signature.as_ref()).unwrap();
        }
    }
}
