//! The attestation document of a Nitro enclave: four certificates below the root, and the document.

use std::fs;
use std::time::Duration;

use aws_lc_rs::digest::{SHA384, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_FIXED, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use claviger_attestors::aws_nitro::inspect;
use claviger_attestors::inspect::{Given, Verdict};

use super::{Report, corpus};

/// A document of an enclave that was not in debug mode.
const SAMPLE: &str = "19b71700ef369a55.bin";

/// Region, zone, instance, signer, document. The root is compared, not verified.
const SIGNATURES: usize = 5;

/// What the issue wants.
const TARGET: Duration = Duration::from_millis(2);

pub(crate) fn measure(report: &mut Report) {
    let what = "Nitro document";
    let Some(folder) = corpus("nitro") else {
        return report.not_measured(what, "no `shared/evidence/nitro` beside the checkout");
    };
    let document = fs::read(folder.join(SAMPLE)).unwrap();
    let given = Given::NOTHING;
    let verify = || {
        let inspection = inspect(&document, &given).unwrap();
        // Whom it answered is not known any more; nothing is broken, so all signatures were verified.
        assert_eq!(inspection.verdict(), Verdict::Open);
    };
    let key = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let signature = key.sign(&SystemRandom::new(), &document).unwrap();
    let public =
        UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, key.public_key().as_ref().to_vec());
    let hashed = digest(&SHA384, &document);
    let signatures = || {
        for _ in 0..SIGNATURES {
            public.verify_digest(&hashed, signature.as_ref()).unwrap();
        }
    };
    report.measure(what, TARGET, verify, signatures);
}
