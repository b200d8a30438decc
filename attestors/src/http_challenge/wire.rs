//! The messages, in SPIRE's JSON. The field `binding` is ours; SPIRE passes over it.

use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use claviger_core::evidence::Binding;
use serde::{Deserialize, Serialize};

use crate::possession::Nonce;
use crate::{MAX_EVIDENCE, VerifyError};

/// What the node sends first: where it can be asked.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Evidence {
    pub(super) hostname: String,
    pub(super) agentname: String,
    pub(super) port: u16,
    /// Whether the node can serve a digest of its key beside the nonce.
    #[serde(default)]
    pub(super) binding: bool,
}

impl Evidence {
    /// Reads where a node wants to be asked. Whether it may be is another question.
    ///
    /// # Errors
    ///
    /// [`VerifyError::Malformed`] if the bytes say something else.
    pub fn parse(evidence: &[u8]) -> Result<Self, VerifyError> {
        if MAX_EVIDENCE < evidence.len() {
            return Err(VerifyError::Malformed);
        }
        serde_json::from_slice(evidence).map_err(|_not_ours| VerifyError::Malformed)
    }

    /// What the node says its host is called.
    #[must_use]
    pub fn hostname(&self) -> &str {
        &self.hostname
    }
}

/// What the server asks: to serve its nonce.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Challenge {
    pub(super) nonce: String,
    /// Whether the server looks for a digest of the node's key beside the nonce. Left out if not, so
    /// that a stock agent is sent what it expects.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) binding: bool,
}

/// The longest nonce that is served, in characters: SPIRE's and ours have 44.
const MAX_NONCE: usize = 64;

impl Challenge {
    pub(super) fn new(nonce: &Nonce, binding: bool) -> Self {
        Self { nonce: URL_SAFE.encode(nonce), binding }
    }

    /// Reads what a server asks; nothing if it is not a nonce.
    #[must_use]
    pub fn parse(challenge: &[u8]) -> Option<Self> {
        let challenge: Self = serde_json::from_slice(challenge).ok()?;
        let is_nonce = (1..=MAX_NONCE).contains(&challenge.nonce.len())
            && challenge.nonce.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=".contains(&b));
        is_nonce.then_some(challenge)
    }

    /// What is to be served.
    pub(super) fn served(&self, binding: &Binding) -> String {
        if !self.binding {
            return self.nonce.clone();
        }
        let digest = binding.digest(self.nonce.as_bytes()).short();
        format!("{}.{}", self.nonce, URL_SAFE_NO_PAD.encode(digest))
    }
}
