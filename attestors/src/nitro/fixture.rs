//! A hypervisor for tests, with a root of its own: chains, documents and whatever is wrong with them.

mod item;
mod pki;

use std::collections::BTreeMap;
use std::fs;

use async_trait::async_trait;
use aws_lc_rs::digest::{Digest, SHA384, digest};
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_nitro_enclaves_cose::CoseSign1;
use aws_nitro_enclaves_cose::crypto::{
    Hash, MessageDigest, SignatureAlgorithm, SigningPrivateKey, SigningPublicKey,
};
use aws_nitro_enclaves_cose::error::CoseError;
use aws_nitro_enclaves_cose::header_map::HeaderMap;
use tempfile::TempDir;

pub(crate) use item::Item;
pub(crate) use pki::{BEGIN, END, Pki, SIGNER, alien_pki, pki, valid};

use super::{Flavour, Questions, SecurityModule};
use crate::CollectError;
use crate::dsse::{Algorithm, Envelope, SigningKey};
use crate::fixture::NOW;
use crate::references::{self, PAYLOAD_TYPE};

/// What a document says.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) module_id: String,
    /// In milliseconds.
    pub(crate) timestamp: u64,
    pub(crate) registers: BTreeMap<u64, Vec<u8>>,
    pub(crate) nonce: Option<Vec<u8>>,
    pub(crate) user_data: Option<Vec<u8>>,
    pub(crate) public_key: Option<Vec<u8>>,
}

/// The id of the instance that drafts are of.
pub(crate) const INSTANCE: &str = "i-0123456789abcdef0";

impl Draft {
    /// A document of this moment, with registers 0 to 15: 0, 1, 2, 4 and 7 hold their number.
    pub(crate) fn new() -> Self {
        let value = |index: u64| {
            let is_used = [0, 1, 2, 4, 7].contains(&index);
            let byte = if is_used { u8::try_from(index).unwrap() + 0xa0 } else { 0 };
            (index, vec![byte; 48])
        };
        Self {
            module_id: format!("{INSTANCE}-enc0123456789abcdef"),
            timestamp: NOW.as_secs() * 1_000,
            registers: (0..16).map(value).collect(),
            nonce: None,
            user_data: None,
            public_key: None,
        }
    }

    pub(crate) fn answering(self, questions: Questions) -> Self {
        let Questions { nonce, user_data } = questions;
        Self { nonce: Some(nonce), user_data: Some(user_data), ..self }
    }

    /// The members of the payload, in the hypervisor's order.
    pub(crate) fn members(&self, flavour: &Flavour, pki: &Pki) -> Vec<(Item, Item)> {
        let optional = |value: &Option<Vec<u8>>| value.clone().map_or(Item::Null, Item::Bytes);
        let registers = self.registers.iter();
        let registers = registers.map(|(k, v)| (Item::Number(*k), Item::Bytes(v.clone())));
        let bundle = pki.bundle.iter().cloned().map(Item::Bytes).collect();
        [
            ("module_id", Item::text(&self.module_id)),
            ("digest", Item::text("SHA384")),
            ("timestamp", Item::Number(self.timestamp)),
            (flavour.registers, Item::Map(registers.collect())),
            ("certificate", Item::Bytes(pki.leaf.clone())),
            ("cabundle", Item::Array(bundle)),
            ("public_key", optional(&self.public_key)),
            ("user_data", optional(&self.user_data)),
            ("nonce", optional(&self.nonce)),
        ]
        .map(|(name, value)| (Item::text(name), value))
        .to_vec()
    }

    /// The signed document.
    pub(crate) fn document(&self, flavour: &Flavour, pki: &Pki) -> Vec<u8> {
        sign(&Item::Map(self.members(flavour, pki)).encode(), pki)
    }
}

/// `payload` in an envelope, by AWS' own library.
pub(crate) fn sign(payload: &[u8], pki: &Pki) -> Vec<u8> {
    let signed = CoseSign1::new::<Hasher>(payload, &HeaderMap::new(), &Signer(&pki.key)).unwrap();
    signed.as_bytes(false).unwrap()
}

/// The four parts of an envelope: protected, unprotected, payload, signature.
pub(crate) fn parts(document: &[u8]) -> [Vec<u8>; 4] {
    let envelope = CoseSign1::from_bytes(document).unwrap();
    let mut decoder = minicbor::Decoder::new(document);
    decoder.array().unwrap();
    let protected = decoder.bytes().unwrap().to_vec();
    decoder.map().unwrap();
    let payload = decoder.bytes().unwrap().to_vec();
    let signature = decoder.bytes().unwrap().to_vec();
    assert!(envelope.get_unprotected().is_empty());
    [protected, vec![0xa0], payload, signature]
}

/// An envelope of such parts.
pub(crate) fn join([protected, unprotected, payload, signature]: &[Vec<u8>; 4]) -> Vec<u8> {
    let bytes = |bytes: &[u8]| Item::Bytes(bytes.to_vec()).encode();
    [&[0x84][..], &bytes(protected), unprotected, &bytes(payload), &bytes(signature)].concat()
}

struct Signer<'a>(&'a EcdsaKeyPair);

impl SigningPublicKey for Signer<'_> {
    fn get_parameters(&self) -> Result<(SignatureAlgorithm, MessageDigest), CoseError> {
        Ok((SignatureAlgorithm::ES384, MessageDigest::Sha384))
    }

    fn verify(&self, _digest: &[u8], _signature: &[u8]) -> Result<bool, CoseError> {
        Err(CoseError::UnsupportedError("verifying is what is tested".to_owned()))
    }
}

impl SigningPrivateKey for Signer<'_> {
    fn sign(&self, digest: &[u8]) -> Result<Vec<u8>, CoseError> {
        let digest = Digest::import_less_safe(digest, &SHA384).unwrap();
        Ok(self.0.sign_digest(&digest).unwrap().as_ref().to_vec())
    }
}

struct Hasher;

impl Hash for Hasher {
    fn hash(algorithm: MessageDigest, data: &[u8]) -> Result<Vec<u8>, CoseError> {
        assert!(matches!(algorithm, MessageDigest::Sha384));
        Ok(digest(&SHA384, data).as_ref().to_vec())
    }
}

/// An enclave or an instance that answers with a draft of its own.
#[derive(Debug)]
pub(crate) struct Played {
    pub(crate) flavour: &'static Flavour,
    pub(crate) draft: Draft,
    /// What becomes of the document, and of the questions, on the way.
    pub(crate) edit: fn(Draft, &Flavour) -> Vec<u8>,
}

impl Played {
    pub(crate) fn honest(flavour: &'static Flavour) -> Self {
        let edit = |draft: Draft, flavour: &Flavour| draft.document(flavour, pki());
        Self { flavour, draft: Draft::new(), edit }
    }
}

#[async_trait]
impl SecurityModule for Played {
    async fn document(&self, questions: Questions) -> Result<Vec<u8>, CollectError> {
        Ok((self.edit)(self.draft.clone().answering(questions), self.flavour))
    }
}

/// Files of signed reference values, with one image that has these `registers`.
pub(crate) fn references(kind: &str, registers: &str) -> (references::Config, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let payload = format!(
        r#"{{"kind":"{kind}","expires":"2026-06-30T00:00:00Z",
            "images":[{{"name":"signer","version":"1.4.2","registers":{registers}}}]}}"#
    );
    let key = SigningKey::generate(Algorithm::Ed25519).unwrap();
    let (path, public) = (dir.path().join("references.json"), dir.path().join("key.pem"));
    fs::write(&public, key.public_pem().unwrap()).unwrap();
    let envelope = Envelope::seal(PAYLOAD_TYPE, payload.as_bytes(), &[key]).unwrap();
    fs::write(&path, serde_json::to_vec(&envelope).unwrap()).unwrap();
    (references::Config { path, keys: vec![public] }, dir)
}

/// Reference values that name this one register with what a [`Draft`] has there.
pub(crate) fn reference(kind: &str, index: u8) -> (references::Config, TempDir) {
    let value = hex::encode([index + 0xa0; 48]);
    references(kind, &format!(r#"{{"pcr{index}":"{value}"}}"#))
}

/// The rules that a document breaks for who asked for something else.
pub(crate) fn rules_broken_by(document: &[u8], flavour: &Flavour) -> Vec<&'static str> {
    let broken = super::tests::broken_at(document, Some(NOW), flavour);
    broken.into_iter().map(|(rule, _)| rule).collect()
}
