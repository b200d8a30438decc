//! Which versions of hardware and firmware are good: Intel's TCB info, versions 2 and 3 (the API of the
//! Provisioning Certification Service).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::Tee;
use super::pck::Pck;
use super::report::DomainReport;
use super::status::TcbStatus;
use crate::json;

/// What Intel says about the platforms of one family.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TcbInfo {
    /// `SGX` or `TDX`; none in version 2, which is about SGX.
    id: Option<String>,
    version: u32,
    pub(super) issue_date: jiff::Timestamp,
    pub(super) next_update: jiff::Timestamp,
    #[serde(with = "hex::serde")]
    fmspc: [u8; 6],
    #[serde(with = "hex::serde")]
    pce_id: [u8; 2],
    /// How versions are compared; 0 is the only way there is.
    tcb_type: u32,
    pub(super) tcb_evaluation_data_number: u32,
    tdx_module: Option<ModuleIdentity>,
    #[serde(default)]
    tdx_module_identities: Vec<ModuleVersion>,
    tcb_levels: Vec<Level<PlatformTcb>>,
}

/// Versions, and what is to be thought of whatever has at least these.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Level<T> {
    pub(super) tcb: T,
    pub(super) tcb_status: TcbStatus,
    #[serde(default, rename = "advisoryIDs")]
    advisory_ids: Vec<String>,
}

/// The versions of a platform.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "WrittenTcb")]
struct PlatformTcb {
    sgx: [u8; 16],
    tdx: Option<[u8; 16]>,
    pce_svn: u16,
}

/// The version of an enclave or of the TDX module.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct EnclaveTcb {
    pub(super) isvsvn: u16,
}

/// Who made the TDX module.
#[derive(Clone, Debug, Deserialize)]
struct ModuleIdentity {
    #[serde(with = "hex::serde")]
    mrsigner: [u8; 48],
    #[serde(with = "hex::serde")]
    attributes: [u8; 8],
    #[serde(rename = "attributesMask", with = "hex::serde")]
    attributes_mask: [u8; 8],
}

/// One major version of the TDX module.
#[derive(Clone, Debug, Deserialize)]
struct ModuleVersion {
    /// `TDX_` and the major version in two hexadecimal digits.
    id: String,
    #[serde(flatten)]
    identity: ModuleIdentity,
    #[serde(rename = "tcbLevels")]
    tcb_levels: Vec<Level<EnclaveTcb>>,
}

/// What is to be thought of something.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Judged {
    pub(super) status: TcbStatus,
    pub(super) advisories: Vec<String>,
}

impl<T> From<&Level<T>> for Judged {
    fn from(level: &Level<T>) -> Self {
        Self { status: level.tcb_status, advisories: level.advisory_ids.clone() }
    }
}

impl TcbInfo {
    /// Reads what Intel signed.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, NotUnderstood> {
        let info: Self = json::read(bytes).map_err(|_malformed| NotUnderstood)?;
        if !matches!(info.version, 2 | 3) || info.tcb_type != 0 {
            return Err(NotUnderstood);
        }
        Ok(info)
    }

    /// Whether it is about platforms such as `pck`'s and about this kind of TEE, and if not, why.
    pub(super) fn concerns(&self, tee: Tee, pck: &Pck) -> Result<(), String> {
        let about = match (self.version, self.id.as_deref()) {
            (2, None) | (3, Some("SGX")) => Some(Tee::Sgx),
            (3, Some("TDX")) => Some(Tee::Tdx),
            _ => None,
        };
        if about != Some(tee) {
            return Err(format!("it is not about {tee}"));
        }
        if self.fmspc != pck.fmspc || self.pce_id != pck.pce_id {
            return Err(format!(
                "it is about FMSPC {} and PCE {}, and the platform has {} and {}",
                hex::encode(self.fmspc),
                hex::encode(self.pce_id),
                hex::encode(pck.fmspc),
                hex::encode(pck.pce_id)
            ));
        }
        Ok(())
    }

    /// What is to be thought of the platform with the certificate `pck`, and with the versions in
    /// `domain` if it is for a virtual machine: what the first level says of which it has all versions.
    pub(super) fn judge(&self, pck: &Pck, domain: Option<&DomainReport>) -> Option<Judged> {
        let reached = |level: &&Level<PlatformTcb>| {
            at_least(&pck.components, &level.tcb.sgx)
                && level.tcb.pce_svn <= pck.pce_svn
                && domain.is_none_or(|domain| level.tcb.is_reached_by(domain))
        };
        self.tcb_levels.iter().find(reached).map(Into::into)
    }

    /// What is to be thought of the TDX module under a virtual machine; and if nothing is known of it,
    /// why.
    pub(super) fn judge_module(&self, domain: &DomainReport) -> Result<Judged, String> {
        let [minor, major, ..] = domain.tee_tcb_svn;
        if major == 0 {
            let identity = self.tdx_module.as_ref().ok_or("Intel's TCB info names no module")?;
            identity.check(domain)?;
            return Ok(Judged { status: TcbStatus::UpToDate, advisories: Vec::new() });
        }
        let id = format!("TDX_{major:02X}");
        let version = self.tdx_module_identities.iter().find(|version| version.id == id);
        let version = version.ok_or_else(|| format!("Intel's TCB info knows no module `{id}`"))?;
        version.identity.check(domain)?;
        let level = version.tcb_levels.iter().find(|level| level.tcb.isvsvn <= u16::from(minor));
        level.map(Into::into).ok_or_else(|| {
            format!("Intel's TCB info has no level for version {minor} of the module `{id}`")
        })
    }
}

impl PlatformTcb {
    /// Whether a virtual machine has these versions of what is TDX's. From the first major version on,
    /// the versions of the module itself (the first two) are judged apart.
    fn is_reached_by(&self, domain: &DomainReport) -> bool {
        let judged_apart = if domain.tee_tcb_svn[1] == 0 { 0 } else { 2 };
        self.tdx.is_some_and(|tdx| {
            let versions = domain.tee_tcb_svn.iter().zip(tdx).skip(judged_apart);
            versions.into_iter().all(|(has, needs)| needs <= *has)
        })
    }
}

fn at_least(has: &[u8; 16], needs: &[u8; 16]) -> bool {
    has.iter().zip(needs).all(|(has, needs)| needs <= has)
}

impl ModuleIdentity {
    fn check(&self, domain: &DomainReport) -> Result<(), String> {
        if domain.mr_signer_seam != self.mrsigner {
            return Err("somebody else signed the TDX module".to_owned());
        }
        if !is_masked(&domain.seam_attributes, &self.attributes_mask, &self.attributes) {
            return Err("the TDX module has other attributes than Intel's".to_owned());
        }
        Ok(())
    }
}

/// Whether those bits of `value` that are in `mask` are `expected`.
pub(super) fn is_masked<const N: usize>(
    value: &[u8; N],
    mask: &[u8; N],
    expected: &[u8; N],
) -> bool {
    value.iter().zip(mask).zip(expected).all(|((value, mask), expected)| value & mask == *expected)
}

/// The versions of a platform as they are written, in one of two ways.
#[derive(Deserialize)]
struct WrittenTcb {
    pcesvn: u16,
    sgxtcbcomponents: Option<[Component; 16]>,
    tdxtcbcomponents: Option<[Component; 16]>,
    #[serde(flatten)]
    one_by_one: BTreeMap<String, Value>,
}

#[derive(Clone, Copy, Deserialize)]
struct Component {
    svn: u8,
}

impl TryFrom<WrittenTcb> for PlatformTcb {
    type Error = NotUnderstood;

    fn try_from(written: WrittenTcb) -> Result<Self, NotUnderstood> {
        let versions = |list: [Component; 16]| list.map(|component| component.svn);
        let sgx = match written.sgxtcbcomponents {
            Some(list) => versions(list),
            None => one_by_one(&written.one_by_one)?,
        };
        Ok(Self { sgx, tdx: written.tdxtcbcomponents.map(versions), pce_svn: written.pcesvn })
    }
}

/// The versions as TCB info of version 2 has them.
fn one_by_one(members: &BTreeMap<String, Value>) -> Result<[u8; 16], NotUnderstood> {
    let mut versions = [0; 16];
    for (number, version) in (1..).zip(&mut versions) {
        let value = members.get(&format!("sgxtcbcomp{number:02}svn")).and_then(Value::as_u64);
        let value = value.and_then(|value| u8::try_from(value).ok());
        *version = value.ok_or(NotUnderstood)?;
    }
    Ok(versions)
}

/// What Intel signed is not understood.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("it is no JSON of the form and version that is known")]
pub(super) struct NotUnderstood;
