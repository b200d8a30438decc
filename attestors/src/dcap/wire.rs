//! The messages: the node says that it wants to attest (`{}`), is sent a nonce of 32 bytes, and answers
//! with a quote. Beside the quote, collateral may come along; then it is JSON.
//!
//! ```json
//! {"quote": "BAACAIEAAAA…", "collateral": {"tcb_info": "…", …}}
//! ```

use claviger_core::evidence::BindingDigest;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::collateral::Collateral;
use crate::possession::Base64;
use crate::{MAX_EVIDENCE, VerifyError, json};

/// What the node sends first.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hello {}

impl Hello {
    /// Its bytes.
    pub(crate) const BYTES: &[u8] = b"{}";

    pub(crate) fn parse(evidence: &[u8]) -> Result<Self, VerifyError> {
        if MAX_EVIDENCE < evidence.len() {
            return Err(VerifyError::Malformed);
        }
        json::read(evidence)
    }
}

/// What the node answers.
#[derive(Debug)]
pub struct Presented {
    /// The quote.
    pub quote: Vec<u8>,
    /// What Intel says about its platform.
    pub collateral: Option<Collateral>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadPresented {
    quote: Base64,
    #[serde(default)]
    collateral: Option<Collateral>,
}

#[derive(Serialize)]
struct WrittenPresented<'a> {
    quote: Base64,
    collateral: &'a RawValue,
}

impl Presented {
    /// Reads an answer.
    ///
    /// # Errors
    ///
    /// [`VerifyError::Malformed`] if it is too long, or JSON of another form. Whether it is a quote is
    /// not looked at.
    pub fn parse(answer: &[u8]) -> Result<Self, VerifyError> {
        if MAX_EVIDENCE < answer.len() {
            return Err(VerifyError::Malformed);
        }
        if answer.first() != Some(&b'{') {
            return Ok(Self { quote: answer.to_vec(), collateral: None });
        }
        let ReadPresented { quote: Base64(quote), collateral } = json::read(answer)?;
        Ok(Self { quote, collateral })
    }

    /// The bytes that [`parse`](Self::parse) reads.
    pub(crate) fn write(
        quote: Vec<u8>,
        collateral: Option<&RawValue>,
    ) -> serde_json::Result<Vec<u8>> {
        match collateral {
            None => Ok(quote),
            Some(collateral) => {
                serde_json::to_vec(&WrittenPresented { quote: Base64(quote), collateral })
            }
        }
    }
}

/// What a report has to carry: `B`, and zeros.
pub(crate) const fn report_data(binding: &BindingDigest) -> [u8; 64] {
    let mut data = [0; 64];
    let (first, _zeros) = data.split_at_mut(48);
    first.copy_from_slice(binding.as_bytes());
    data
}
