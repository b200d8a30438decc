//! What the processor says of an enclave or a virtual machine.

use super::bytes::{Reader, Short};

/// The report of an SGX enclave (Intel SDM volume 3D, `REPORT`): its first 384 bytes, which are signed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EnclaveReport {
    /// `MISCSELECT`: what more is saved when the enclave is left.
    pub misc_select: [u8; 4],
    /// `ISVEXTPRODID`: the product, in a longer form.
    pub isv_ext_prod_id: [u8; 16],
    /// `ATTRIBUTES`: 64 flags, and the processor's states that the enclave uses (XFRM).
    pub attributes: [u8; 16],
    /// `MRENCLAVE`: the digest of what the enclave was made of.
    pub mr_enclave: [u8; 32],
    /// `MRSIGNER`: the digest of the key that signed the enclave.
    pub mr_signer: [u8; 32],
    /// `CONFIGID`: what whoever launched it chose.
    pub config_id: [u8; 64],
    /// `ISVPRODID`: the signer's number for the product.
    pub isv_prod_id: u16,
    /// `ISVSVN`: the signer's number for the product's security version.
    pub isv_svn: u16,
    /// `CONFIGSVN`: the version of what whoever launched it chose.
    pub config_svn: u16,
    /// `ISVFAMILYID`: the signer's name for a family of products.
    pub isv_family_id: [u8; 16],
    /// What the enclave wants to say.
    pub report_data: [u8; 64],
    /// Whether everything that is reserved is zero.
    pub reserved_is_zero: bool,
}

impl EnclaveReport {
    /// How many bytes it has.
    pub const LENGTH: usize = 384;

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Short> {
        let _cpu_svn: [u8; 16] = reader.array()?;
        let misc_select = reader.array()?;
        let reserved_1: [u8; 12] = reader.array()?;
        let isv_ext_prod_id = reader.array()?;
        let attributes = reader.array()?;
        let mr_enclave = reader.array()?;
        let reserved_2: [u8; 32] = reader.array()?;
        let mr_signer = reader.array()?;
        let reserved_3: [u8; 32] = reader.array()?;
        let config_id = reader.array()?;
        let (isv_prod_id, isv_svn, config_svn) = (reader.u16()?, reader.u16()?, reader.u16()?);
        let reserved_4: [u8; 42] = reader.array()?;
        let isv_family_id = reader.array()?;
        let report_data = reader.array()?;
        let reserved = [&reserved_1[..], &reserved_2, &reserved_3, &reserved_4];
        Ok(Self {
            misc_select,
            isv_ext_prod_id,
            attributes,
            mr_enclave,
            mr_signer,
            config_id,
            isv_prod_id,
            isv_svn,
            config_svn,
            isv_family_id,
            report_data,
            reserved_is_zero: reserved.iter().all(|bytes| is_zero(bytes)),
        })
    }

    /// The flags among its attributes.
    #[must_use]
    pub const fn flags(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.attributes;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

/// The report of a TDX virtual machine (a trust domain), as a quote has it: 584 bytes, and 64 more
/// since TDX 1.5.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DomainReport {
    /// `TEE_TCB_SVN`: the versions of the TDX module and of what it stands on. The first byte is the
    /// module's minor version, the second its major version.
    pub tee_tcb_svn: [u8; 16],
    /// `MRSEAM`: the digest of the TDX module.
    pub mr_seam: [u8; 48],
    /// `MRSIGNERSEAM`: who signed the TDX module; zero if it is Intel.
    pub mr_signer_seam: [u8; 48],
    /// `SEAMATTRIBUTES`: the TDX module's attributes.
    pub seam_attributes: [u8; 8],
    /// `TDATTRIBUTES`: the machine's attributes.
    pub td_attributes: u64,
    /// `XFAM`: the processor's states that the machine may use.
    pub xfam: u64,
    /// `MRTD`: the digest of the memory that the machine began with: its firmware.
    pub mr_td: [u8; 48],
    /// `MRCONFIGID`: what whoever launched it chose.
    pub mr_config_id: [u8; 48],
    /// `MROWNER`: whose whoever launched it says that it is.
    pub mr_owner: [u8; 48],
    /// `MROWNERCONFIG`: the owner's configuration, as whoever launched it says.
    pub mr_owner_config: [u8; 48],
    /// `RTMR0` to `RTMR3`: what was measured since.
    pub rtmr: [[u8; 48]; 4],
    /// What the machine wants to say.
    pub report_data: [u8; 64],
    /// What TDX 1.5 says besides.
    pub more: Option<MoreOfDomain>,
}

/// What TDX 1.5 says of a virtual machine besides.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MoreOfDomain {
    /// `TEE_TCB_SVN2`: the versions that a machine would have that is launched now.
    pub tee_tcb_svn_2: [u8; 16],
    /// `MRSERVICETD`: the digest of the machines that may serve this one, such as to migrate it.
    pub mr_service_td: [u8; 48],
}

impl DomainReport {
    /// How many bytes it has in TDX 1.0.
    pub const LENGTH: usize = 584;
    /// How many bytes it has since TDX 1.5.
    pub const LENGTH_1_5: usize = 648;

    pub(super) fn read(reader: &mut Reader<'_>, is_1_5: bool) -> Result<Self, Short> {
        let mut report = Self {
            tee_tcb_svn: reader.array()?,
            mr_seam: reader.array()?,
            mr_signer_seam: reader.array()?,
            seam_attributes: reader.array()?,
            td_attributes: reader.u64()?,
            xfam: reader.u64()?,
            mr_td: reader.array()?,
            mr_config_id: reader.array()?,
            mr_owner: reader.array()?,
            mr_owner_config: reader.array()?,
            rtmr: [reader.array()?, reader.array()?, reader.array()?, reader.array()?],
            report_data: reader.array()?,
            more: None,
        };
        if is_1_5 {
            let (tee_tcb_svn_2, mr_service_td) = (reader.array()?, reader.array()?);
            report.more = Some(MoreOfDomain { tee_tcb_svn_2, mr_service_td });
        }
        Ok(report)
    }
}

/// Whether there is nothing but zeros.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
