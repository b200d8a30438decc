//! The messages, in SPIRE's JSON.

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::key::{Key, Purpose, Signature};
use crate::possession::{Base64, Nonce, both};
use crate::{MAX_EVIDENCE, VerifyError};

/// What the node sends first.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Evidence {
    pub(super) certificate: Base64,
}

/// What the server asks: to sign its nonce.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Challenge {
    pub(super) nonce: Base64,
}

/// What the node answers.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Response {
    pub(super) nonce: Base64,
    pub(super) signature: WrittenSignature,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WrittenSignature {
    pub(super) format: String,
    pub(super) blob: Base64,
}

impl Evidence {
    pub(super) fn parse(evidence: &[u8]) -> Result<Self, VerifyError> {
        if MAX_EVIDENCE < evidence.len() {
            return Err(VerifyError::Malformed);
        }
        serde_json::from_slice(evidence).map_err(|_not_ours| VerifyError::Malformed)
    }
}

impl Response {
    /// Reads what a node answered.
    ///
    /// # Errors
    ///
    /// [`VerifyError::Malformed`] if it is no answer.
    pub fn parse(answer: &[u8]) -> Result<Self, VerifyError> {
        if MAX_EVIDENCE < answer.len() {
            return Err(VerifyError::Malformed);
        }
        serde_json::from_slice(answer).map_err(|_not_ours| VerifyError::Malformed)
    }

    /// The node's own nonce, if it and the server's are signed with `key`.
    pub(super) fn signed_nonce(&self, server: &Nonce, key: &Key) -> Option<Nonce> {
        let nonce = self.nonce.nonce()?;
        let signature = Signature { format: &self.signature.format, blob: &self.signature.blob.0 };
        key.has_signed(&to_sign(server, &nonce), signature, Purpose::Possession).then_some(nonce)
    }
}

/// What is signed: the hash of both nonces.
pub(super) fn to_sign(server: &Nonce, node: &Nonce) -> Vec<u8> {
    digest(&SHA256, &both(server, node)).as_ref().to_vec()
}
