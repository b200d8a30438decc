//! The messages, in SPIRE's format.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::{MAX_EVIDENCE, VerifyError, json};

/// What the node answers to the nonce.
#[derive(Debug, Deserialize, Serialize)]
pub struct Answer {
    pub(super) document: Document,
}

/// What the metadata service says.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Document {
    pub(super) encoding: String,
    pub(super) signature: String,
}

impl Answer {
    /// Reads what a node sent.
    ///
    /// # Errors
    ///
    /// [`VerifyError::Malformed`] if it is something else.
    pub fn parse(bytes: &[u8]) -> Result<Self, VerifyError> {
        if MAX_EVIDENCE < bytes.len() {
            return Err(VerifyError::Malformed);
        }
        let answer: Self = json::read(bytes)?;
        if answer.document.encoding == "pkcs7" { Ok(answer) } else { Err(VerifyError::Malformed) }
    }

    /// The bytes of the PKCS#7 document.
    ///
    /// # Errors
    ///
    /// [`VerifyError::Malformed`] if there are none.
    pub fn signed(&self) -> Result<Vec<u8>, VerifyError> {
        STANDARD.decode(&self.document.signature).map_err(|_detail| VerifyError::Malformed)
    }
}
