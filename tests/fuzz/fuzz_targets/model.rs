//! A bundle of anybody's never makes the reader panic, and is no manifest; what is signed lists as many
//! files as it says.
#![no_main]

use std::sync::LazyLock;

use claviger_attestors::dsse::{Algorithm, Envelope, Key, SigningKey};
use claviger_attestors::model::Manifest;
use libfuzzer_sys::fuzz_target;

static SIGNER: LazyLock<(SigningKey, Key)> = LazyLock::new(|| {
    let signer = SigningKey::generate(Algorithm::Ed25519).expect("a key");
    let pem = signer.public_pem().expect("its public half");
    (signer, Key::from_pem(pem.as_bytes()).expect("a key"))
});

fuzz_target!(|bytes: &[u8]| {
    let (signer, key) = &*SIGNER;
    let keys = std::slice::from_ref(key);
    assert!(Manifest::open(bytes, keys).is_err(), "nobody signed that");
    let payload_type = "application/vnd.in-toto+json";
    let signed = Envelope::seal(payload_type, bytes, std::slice::from_ref(signer));
    let bundle = serde_json::json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "dsseEnvelope": signed.expect("a signature"),
    });
    if let Ok(manifest) = Manifest::open(bundle.to_string().as_bytes(), keys) {
        assert!(!manifest.resources.is_empty() && manifest.resources.len() < bytes.len());
    }
});
