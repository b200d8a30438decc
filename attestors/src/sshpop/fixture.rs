//! Authorities, hosts and their certificates, for tests.

use async_trait::async_trait;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::wire::{Challenge, Evidence, Response, WrittenSignature, to_sign};
use crate::possession::{Base64, Nonce};
use crate::{Challenged, VerifyError};

/// What is in a certificate for an Ed25519 key.
pub(crate) struct Contents {
    pub(crate) kind: u32,
    pub(crate) principals: Vec<&'static str>,
    pub(crate) valid: (u64, u64),
    pub(crate) critical_options: &'static [u8],
}

impl Default for Contents {
    /// A certificate as `ssh-keygen -h -n host-1.example.org` makes it.
    fn default() -> Self {
        let principals = vec!["host-1.example.org"];
        Self { kind: 2, principals, valid: (0, u64::MAX), critical_options: b"" }
    }
}

/// A key that signs certificates, or that a certificate is for.
pub(crate) struct Key(Ed25519KeyPair);

impl Key {
    pub(crate) fn generate() -> Self {
        Self(Ed25519KeyPair::generate().unwrap())
    }

    fn blob(&self) -> Vec<u8> {
        [string(b"ssh-ed25519"), string(self.0.public_key().as_ref())].concat()
    }

    /// As in `authorized_keys`.
    pub(crate) fn line(&self) -> String {
        format!("ssh-ed25519 {}", STANDARD.encode(self.blob()))
    }

    /// A certificate for `host`, signed with this key.
    pub(crate) fn certify(&self, host: &Self, contents: &Contents) -> Vec<u8> {
        let principals: Vec<u8> =
            contents.principals.iter().flat_map(|name| string(name.as_bytes())).collect();
        let mut certificate = [
            string(b"ssh-ed25519-cert-v01@openssh.com"),
            string(&[9; 32]),
            string(host.0.public_key().as_ref()),
            7_u64.to_be_bytes().to_vec(),
            contents.kind.to_be_bytes().to_vec(),
            string(b"an id"),
            string(&principals),
            contents.valid.0.to_be_bytes().to_vec(),
            contents.valid.1.to_be_bytes().to_vec(),
            string(contents.critical_options),
            string(b""),
            string(b""),
            string(&self.blob()),
        ]
        .concat();
        let signature = self.0.sign(&certificate);
        let signature = [string(b"ssh-ed25519"), string(signature.as_ref())].concat();
        certificate.extend(string(&signature));
        certificate
    }
}

/// The evidence that `certificate` is.
pub(crate) fn evidence(certificate: &[u8]) -> Vec<u8> {
    serde_json::to_vec(&Evidence { certificate: Base64(certificate.to_vec()) }).unwrap()
}

/// Signs a nonce of its own, as SPIRE's agent does.
#[async_trait]
impl Challenged for Key {
    async fn answer(&mut self, challenge: Vec<u8>) -> Result<Vec<u8>, VerifyError> {
        let challenge: Challenge = serde_json::from_slice(&challenge).unwrap();
        let nonce = Nonce::default();
        let signature = self.0.sign(&to_sign(&challenge.nonce.nonce().unwrap(), &nonce));
        let blob = Base64(signature.as_ref().to_vec());
        let signature = WrittenSignature { format: "ssh-ed25519".into(), blob };
        let response = Response { nonce: Base64(nonce.to_vec()), signature };
        Ok(serde_json::to_vec(&response).unwrap())
    }
}

pub(crate) fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes(), bytes].concat()
}
