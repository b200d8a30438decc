//! Settings of a server that believes in certain TPMs and images.

mod authority;
mod machine;

use std::path::Path;

use tempfile::TempDir;

use super::structure::Hash;
use super::{Config, Verifier};
use crate::dsse::{Algorithm, Envelope, SigningKey};
use crate::references::{self, PAYLOAD_TYPE};
pub(super) use authority::{Authority, EK_PURPOSE};
pub(super) use machine::{AK_ATTRIBUTES, AkKind, EK_ATTRIBUTES, EkKind, Machine};

/// The PCRs that tests quote.
pub(super) const PCRS: [u8; 4] = [0, 4, 7, 16];

/// Settings that trust the TPMs of `authority` and the image that has these `registers` (JSON).
pub(super) fn config(dir: &TempDir, authority: &Authority, registers: &str) -> Config {
    let roots = dir.path().join("roots.pem");
    std::fs::write(&roots, authority.pem()).unwrap();
    Config {
        ek_roots: vec![roots],
        ek_intermediates: Vec::new(),
        ek_allow_list: None,
        pcrs: PCRS.into(),
        bank: Hash::Sha256,
        reference_values: references(dir.path(), registers),
    }
}

/// Signed reference values with one image in them.
pub(super) fn references(dir: &Path, registers: &str) -> references::Config {
    let payload = format!(
        r#"{{"kind":"tpm","expires":"2030-01-01T00:00:00Z","images":
            [{{"name":"host","version":"7","registers":{registers}}}]}}"#
    );
    let key = SigningKey::generate(Algorithm::Ed25519).unwrap();
    let public = key.public_pem().unwrap();
    let envelope = Envelope::seal(PAYLOAD_TYPE, payload.as_bytes(), &[key]).unwrap();
    let (path, keys) = (dir.join("references.json"), dir.join("references.pem"));
    std::fs::write(&path, serde_json::to_vec(&envelope).unwrap()).unwrap();
    std::fs::write(&keys, public).unwrap();
    references::Config { path, keys: vec![keys] }
}

pub(super) fn verifier(config: &Config) -> Verifier {
    assert_eq!(config.problems(), []);
    Verifier::open(config).unwrap()
}
