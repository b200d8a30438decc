//! The messages.

use serde::{Deserialize, Serialize};

use crate::possession::Base64;
use crate::{MAX_EVIDENCE, VerifyError, json};

/// What the node says first: that it is here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hello {}

impl Hello {
    pub(super) const JSON: &[u8] = b"{}";

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, VerifyError> {
        json::read(bounded(bytes)?)
    }
}

/// The node's answer to a nonce.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    /// The report.
    pub(super) report: Base64,
    /// The certificate of the VCEK or VLEK that signed it, DER.
    pub(super) endorsement: Base64,
}

impl Answer {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, VerifyError> {
        json::read(bounded(bytes)?)
    }
}

fn bounded(bytes: &[u8]) -> Result<&[u8], VerifyError> {
    if bytes.len() <= MAX_EVIDENCE { Ok(bytes) } else { Err(VerifyError::Malformed) }
}
