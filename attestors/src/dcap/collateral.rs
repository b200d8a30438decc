//! What Intel says about a platform beside its certificate: whether it was revoked, which versions are
//! good, and which quoting enclave is Intel's.
//!
//! It is JSON with the members that Intel's `sgx_ql_qve_collateral_t` has: certificates in PEM, revocation
//! lists and signatures in hexadecimal digits, and what is signed as the very text.

use claviger_core::time::UnixTime;
use serde::{Deserialize, Serialize};

use super::chain::{ChainError, Crl, Crls};
use super::identity::QeIdentity;
use super::tcb::TcbInfo;
use crate::{VerifyError, json};

/// What Intel says. It is signed, and nothing of it is verified yet.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Collateral {
    /// What the root revoked: a list in DER.
    #[serde(with = "hex::serde")]
    pub root_ca_crl: Vec<u8>,
    /// What the authority of platforms revoked: a list in DER. Its certificate is in the quote.
    #[serde(with = "hex::serde")]
    pub pck_crl: Vec<u8>,
    /// Who signed `tcb_info`: certificates in PEM, the signer's first.
    pub tcb_info_issuer_chain: String,
    /// Which versions of hardware and firmware are good.
    pub tcb_info: String,
    /// By the signer, over the bytes of `tcb_info`: `r || s`.
    #[serde(with = "hex::serde")]
    pub tcb_info_signature: Vec<u8>,
    /// Who signed `qe_identity`: certificates in PEM, the signer's first.
    pub qe_identity_issuer_chain: String,
    /// Which quoting enclave is Intel's.
    pub qe_identity: String,
    /// By the signer, over the bytes of `qe_identity`: `r || s`.
    #[serde(with = "hex::serde")]
    pub qe_identity_signature: Vec<u8>,
}

impl Collateral {
    /// The most bytes of it as JSON. Real ones have 20,000, and grow as platforms are revoked.
    pub const MAX: usize = 256 << 10;

    /// Reads it.
    ///
    /// # Errors
    ///
    /// [`VerifyError::Malformed`] if it is something else.
    pub fn parse(json: &[u8]) -> Result<Self, VerifyError> {
        if Self::MAX < json.len() {
            return Err(VerifyError::Malformed);
        }
        json::read(json)
    }

    /// When the youngest of its parts was issued, and when the first of them expires; none if they can't be
    /// read. Nothing of it is verified.
    #[must_use]
    pub fn dates(&self) -> Option<(UnixTime, UnixTime)> {
        let unix =
            |time: jiff::Timestamp| u64::try_from(time.as_second()).ok().map(UnixTime::from_secs);
        let tcb = TcbInfo::parse(self.tcb_info.as_bytes()).ok()?;
        let identity = QeIdentity::parse(self.qe_identity.as_bytes()).ok()?;
        let crls = self.crls().ok()?;
        let parts = [
            (unix(tcb.issue_date)?, unix(tcb.next_update)?),
            (unix(identity.issue_date)?, unix(identity.next_update)?),
            crls.root.dates,
            crls.pck.dates,
        ];
        let issued = parts.iter().map(|(issued, _)| *issued).max()?;
        Some((issued, parts.iter().map(|(_, expires)| *expires).min()?))
    }

    /// The revocation lists.
    pub(super) fn crls(&self) -> Result<Crls, ChainError> {
        Ok(Crls { root: Crl::parse(&self.root_ca_crl)?, pck: Crl::parse(&self.pck_crl)? })
    }
}
