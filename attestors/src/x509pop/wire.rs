//! The messages, in SPIRE's JSON.
//!
//! Go matches names of fields without regard to case, writes `null` for what is not there and takes
//! whatever else there is. Of these only the last two are understood here; it is all that Go writes.

use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::possession::{Base64, Nonce};
use crate::{MAX_EVIDENCE, VerifyError};

/// What the node sends first: its certificate, and those that lead to a root.
#[derive(Clone, Debug)]
pub struct Evidence {
    pub(super) leaf: CertificateDer<'static>,
    pub(super) intermediates: Vec<CertificateDer<'static>>,
}

/// As it is written. The certificates are not decoded before they are counted.
#[derive(Deserialize)]
struct RawEvidence<'a> {
    #[serde(borrow)]
    certificates: Vec<&'a RawValue>,
}

#[derive(Serialize)]
struct WrittenEvidence {
    certificates: Vec<Base64>,
}

impl Evidence {
    /// Reads a chain of at most `max_intermediates` certificates and the node's own.
    ///
    /// # Errors
    ///
    /// [`VerifyError`] if it is longer, or something else.
    pub fn parse(evidence: &[u8], max_intermediates: usize) -> Result<Self, VerifyError> {
        if MAX_EVIDENCE < evidence.len() {
            return Err(VerifyError::Malformed);
        }
        let raw: RawEvidence<'_> =
            serde_json::from_slice(evidence).map_err(|_not_ours| VerifyError::Malformed)?;
        let (leaf, intermediates) = raw.certificates.split_first().ok_or(VerifyError::Malformed)?;
        if max_intermediates < intermediates.len() {
            return Err(VerifyError::not_genuine(format!(
                "the chain has {} intermediate certificates; `max-intermediates` allows \
                 {max_intermediates}",
                intermediates.len()
            )));
        }
        let intermediates = intermediates.iter().map(|raw| certificate(raw));
        let intermediates = intermediates.collect::<Result<_, _>>()?;
        Ok(Self { leaf: certificate(leaf)?, intermediates })
    }

    /// The bytes that [`parse`](Self::parse) reads; nothing if they can't be written.
    pub(super) fn write(chain: &[CertificateDer<'_>]) -> serde_json::Result<Vec<u8>> {
        let certificates = chain.iter().map(|der| Base64(der.to_vec())).collect();
        serde_json::to_vec(&WrittenEvidence { certificates })
    }
}

fn certificate(raw: &RawValue) -> Result<CertificateDer<'static>, VerifyError> {
    let Base64(der) =
        serde_json::from_str(raw.get()).map_err(|_not_bytes| VerifyError::Malformed)?;
    Ok(der.into())
}

/// What the server asks: to sign its nonce with the key of this kind.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Challenge {
    #[serde(default)]
    pub(super) rsa_signature: Option<ServerNonce>,
    #[serde(default)]
    pub(super) ecdsa_signature: Option<ServerNonce>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct ServerNonce {
    pub(super) nonce: Base64,
}

/// What the node answers.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Response {
    #[serde(default)]
    pub(super) rsa_signature: Option<RsaSignature>,
    #[serde(default)]
    pub(super) ecdsa_signature: Option<EcdsaSignature>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct RsaSignature {
    pub(super) nonce: Base64,
    pub(super) signature: Base64,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct EcdsaSignature {
    pub(super) nonce: Base64,
    pub(super) r: Base64,
    pub(super) s: Base64,
}

impl Challenge {
    pub(super) fn rsa(nonce: &Nonce) -> Self {
        let nonce = Base64(nonce.to_vec());
        Self { rsa_signature: Some(ServerNonce { nonce }), ecdsa_signature: None }
    }

    pub(super) fn ecdsa(nonce: &Nonce) -> Self {
        let nonce = Base64(nonce.to_vec());
        Self { rsa_signature: None, ecdsa_signature: Some(ServerNonce { nonce }) }
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
}
