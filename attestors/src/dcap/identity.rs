//! Which enclaves are Intel's quoting enclaves: Intel's enclave identity, version 2.

use serde::Deserialize;

use super::Tee;
use super::report::EnclaveReport;
use super::tcb::{EnclaveTcb, Judged, Level, NotUnderstood, is_masked};
use crate::json;

/// What Intel says about one quoting enclave.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct QeIdentity {
    /// `QE` quotes enclaves, `TD_QE` virtual machines.
    id: String,
    version: u32,
    pub(super) issue_date: jiff::Timestamp,
    pub(super) next_update: jiff::Timestamp,
    pub(super) tcb_evaluation_data_number: u32,
    #[serde(with = "hex::serde")]
    miscselect: [u8; 4],
    #[serde(with = "hex::serde")]
    miscselect_mask: [u8; 4],
    #[serde(with = "hex::serde")]
    attributes: [u8; 16],
    #[serde(with = "hex::serde")]
    attributes_mask: [u8; 16],
    #[serde(with = "hex::serde")]
    mrsigner: [u8; 32],
    isvprodid: u16,
    tcb_levels: Vec<Level<EnclaveTcb>>,
}

impl QeIdentity {
    /// Reads what Intel signed.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, NotUnderstood> {
        let identity: Self = json::read(bytes).map_err(|_malformed| NotUnderstood)?;
        if identity.version == 2 { Ok(identity) } else { Err(NotUnderstood) }
    }

    /// What is to be thought of the enclave with this report, which quotes `tee`; and if it is none of
    /// Intel's, why.
    pub(super) fn judge(&self, tee: Tee, report: &EnclaveReport) -> Result<Judged, String> {
        let id = match tee {
            Tee::Sgx => "QE",
            Tee::Tdx => "TD_QE",
        };
        if self.id != id {
            return Err(format!("the identity is not that of `{id}`"));
        }
        if !report.reserved_is_zero {
            return Err("something reserved in its report is not zero".to_owned());
        }
        if report.mr_signer != self.mrsigner || report.isv_prod_id != self.isvprodid {
            return Err("it is another enclave than Intel's".to_owned());
        }
        if !is_masked(&report.misc_select, &self.miscselect_mask, &self.miscselect)
            || !is_masked(&report.attributes, &self.attributes_mask, &self.attributes)
        {
            return Err("it has other attributes than Intel's".to_owned());
        }
        let level = self.tcb_levels.iter().find(|level| level.tcb.isvsvn <= report.isv_svn);
        level
            .map(Into::into)
            .ok_or_else(|| format!("the identity has no level for its version {}", report.isv_svn))
    }
}
