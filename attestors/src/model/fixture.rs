//! Somebody who publishes models, for tests.

use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Config;
use crate::dsse::{Key, authenticated};

/// Names and contents.
pub(super) type Files<'a> = &'a [(&'a str, &'a [u8])];

pub(super) struct Publisher(rcgen::KeyPair);

/// What is signed of `files`.
pub(super) fn statement(files: Files<'_>, name: &str) -> Value {
    let digests: Vec<_> = files.iter().map(|(_, content)| digest(&SHA256, content)).collect();
    let whole: Vec<u8> = digests.iter().flat_map(|one| one.as_ref().to_vec()).collect();
    let resources: Vec<_> = files
        .iter()
        .zip(&digests)
        .map(|((name, _), one)| {
            json!({ "name": name, "algorithm": "sha256", "digest": hex::encode(one) })
        })
        .collect();
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{
            "name": name,
            "digest": { "sha256": hex::encode(digest(&SHA256, &whole)) },
        }],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": { "method": "files", "hash_type": "sha256", "allow_symlinks": false },
            "resources": resources,
        },
    })
}

impl Publisher {
    pub(super) fn new() -> Self {
        Self(rcgen::KeyPair::generate().unwrap())
    }

    pub(super) fn key(&self) -> Key {
        Key::from_pem(self.0.public_key_pem().as_bytes()).unwrap()
    }

    pub(super) fn sign(&self, files: Files<'_>, name: &str) -> Vec<u8> {
        self.sign_statement(&statement(files, name))
    }

    pub(super) fn sign_statement(&self, statement: &Value) -> Vec<u8> {
        let kind = "application/vnd.in-toto+json";
        let (payload, der) = (statement.to_string(), self.0.serialized_der());
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der).unwrap();
        let signed = authenticated(kind, payload.as_bytes());
        let signature = pair.sign(&SystemRandom::new(), &signed).unwrap();
        let bundle = json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": { "publicKey": { "hint": "a hint" }, "tlogEntries": [] },
            "dsseEnvelope": {
                "payload": STANDARD.encode(payload),
                "payloadType": kind,
                "signatures": [{ "sig": STANDARD.encode(signature), "keyid": "" }],
            },
        });
        bundle.to_string().into_bytes()
    }

    /// Settings with manifests of these models, for which all below `dir` are weights.
    pub(super) fn settings(&self, dir: &Path, models: &[(&str, Files<'_>)]) -> Config {
        let write = |name: &str, bytes: &[u8]| -> PathBuf {
            let path = dir.join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let keys = vec![write("publisher.pem", self.0.public_key_pem().as_bytes())];
        let manifests = models
            .iter()
            .map(|(name, files)| write(&format!("{name}.sig"), &self.sign(files, name)))
            .collect();
        let patterns = vec![format!("{}/weights/*", dir.display())];
        Config { patterns, ..Config::new(manifests, keys) }
    }
}
