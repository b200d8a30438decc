//! The messages: JSON, with the TPM's structures in base64.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::chain::{MAX_CERTIFICATE, MAX_SENT};
use super::structure::{COUNT, Hash, Pcrs, Selection};
use crate::possession::Base64;
use crate::{MAX_EVIDENCE, VerifyError, json};

/// What the node sends first.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// The certificate of the EK, and those that lead to a root.
    pub(super) ek_certificates: Vec<Base64>,
    /// The EK: a `TPM2B_PUBLIC`.
    pub(super) ek: Base64,
    /// The AK: a `TPM2B_PUBLIC`.
    pub(super) ak: Base64,
}

/// What the server asks.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    /// The nonce that the quote has to be bound to.
    pub(super) nonce: Base64,
    /// A `TPM2B_ID_OBJECT`, without its length: the secret, for the AK.
    pub(super) credential: Base64,
    /// A `TPM2B_ENCRYPTED_SECRET`, without its length: the key to it, for the EK.
    pub(super) seed: Base64,
    /// The bank of PCRs that is to be quoted.
    pub(super) bank: Hash,
    /// Which of them.
    pub(super) pcrs: Vec<u8>,
}

/// What the node answers.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// What the TPM found in the credential.
    pub(super) secret: Base64,
    /// A `TPMS_ATTEST`: the quote.
    pub(super) quote: Base64,
    /// A `TPMT_SIGNATURE` over it, by the AK.
    pub(super) signature: Base64,
    /// What is in the PCRs.
    pub(super) pcrs: Values,
}

/// What is in PCRs, by number.
pub(super) type Values = BTreeMap<u8, Base64>;

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer")
            .field("quote", &self.quote)
            .field("pcrs", &self.pcrs)
            .finish_non_exhaustive()
    }
}

impl Hello {
    /// Reads what a node says first.
    ///
    /// # Errors
    ///
    /// [`VerifyError::Malformed`] if it is something else, or more than there can be.
    pub fn parse(evidence: &[u8]) -> Result<Self, VerifyError> {
        let hello: Self = read(evidence)?;
        let (most, certificates) = (MAX_SENT.saturating_add(1), &hello.ek_certificates);
        let is_bounded = (1..=most).contains(&certificates.len())
            && certificates.iter().all(|der| der.0.len() <= MAX_CERTIFICATE);
        if is_bounded { Ok(hello) } else { Err(VerifyError::Malformed) }
    }

    /// The certificate of the EK, and the others.
    pub(super) fn certificates(&self) -> (&[u8], Vec<Vec<u8>>) {
        let mut all = self.ek_certificates.iter();
        let leaf = all.next().map_or(&[][..], |leaf| leaf.0.as_slice());
        (leaf, all.map(|other| other.0.clone()).collect())
    }
}

impl Challenge {
    /// Reads what a server asks.
    ///
    /// # Errors
    ///
    /// [`VerifyError::Malformed`] if it is no such question.
    pub fn parse(challenge: &[u8]) -> Result<Self, VerifyError> {
        let challenge: Self = read(challenge)?;
        let is_possible = challenge.pcrs.iter().all(|pcr| *pcr < COUNT);
        if is_possible { Ok(challenge) } else { Err(VerifyError::Malformed) }
    }

    /// What is to be quoted.
    pub(super) fn selection(&self) -> Selection {
        Selection { bank: self.bank, pcrs: self.pcrs.iter().copied().collect() }
    }
}

impl Answer {
    /// Reads what a node answers.
    ///
    /// # Errors
    ///
    /// [`VerifyError::Malformed`] if it is no answer.
    pub fn parse(answer: &[u8]) -> Result<Self, VerifyError> {
        read(answer)
    }
}

/// What is in PCRs of `bank`.
pub(super) fn pcrs(bank: Hash, values: &Values) -> Pcrs {
    let values = values.iter().map(|(pcr, value)| (*pcr, value.0.clone())).collect();
    Pcrs { bank, values }
}

pub(super) fn read<T: serde::de::DeserializeOwned>(message: &[u8]) -> Result<T, VerifyError> {
    if MAX_EVIDENCE < message.len() {
        return Err(VerifyError::Malformed);
    }
    json::read(message)
}
