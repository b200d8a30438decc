//! A quote (Intel's "SGX ECDSA QuoteLibReferenceDCAPAPI" and "TDX DCAP Quoting Library API", appendix
//! A): what the processor says, signed by the quoting enclave, whose key Intel certified.
//!
//! ```text
//! header 48 | body 384, 584 or 648 | length 4 | signature 64 | attestation key 64 | …
//!   version 3:      … report of the quoting enclave 384 | its signature 64 | 2+n | certification data
//!   versions 4, 5:  … certification data of type 6, which is the same as that
//! ```
//!
//! Before the body, version 5 has its type and its length. Certification data is a type, a length and,
//! of the type that is understood here (5), the chain of the PCK certificate in PEM.

use super::Tee;
use super::bytes::{Reader, Short};
use super::report::{DomainReport, EnclaveReport, is_zero};

/// A quote, of which nothing is verified yet.
#[derive(Clone, Copy, Debug)]
pub struct Quote<'a> {
    /// The version of the format: 3, 4 or 5.
    pub version: u16,
    /// What the processor says.
    pub body: Body,
    /// What the attestation key signed: header and body.
    pub(super) signed: &'a [u8],
    /// By the attestation key: `r || s`.
    pub(super) signature: &'a [u8],
    /// `x || y`, on P-256.
    pub(super) attestation_key: &'a [u8],
    /// What the processor says of the quoting enclave.
    pub(super) qe_report: EnclaveReport,
    /// The same, as it was signed.
    pub(super) qe_report_signed: &'a [u8],
    /// By the PCK certificate's key: `r || s`.
    pub(super) qe_report_signature: &'a [u8],
    /// What the quoting enclave's report stands for beside the key.
    pub(super) qe_authentication_data: &'a [u8],
    /// The chain of the PCK certificate, in PEM.
    pub(super) pck_chain: &'a [u8],
}

/// Of what the quote is.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::large_enum_variant, reason = "one of them is made for each quote, on the stack")]
pub enum Body {
    /// Of an SGX enclave.
    Enclave(EnclaveReport),
    /// Of a TDX virtual machine.
    Domain(DomainReport),
}

const HEADER: usize = 48;
/// ECDSA on P-256 with SHA-256; the only one that is in use.
const ECDSA_256: u16 = 2;
/// Who made the quoting enclave: Intel.
const INTEL: [u8; 16] = [
    0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07,
];
const PCK_CHAIN_PEM: u16 = 5;
const QE_REPORT: u16 = 6;

impl<'a> Quote<'a> {
    /// The most bytes of a quote; real ones have 5,000.
    pub const MAX: usize = 32 << 10;

    /// Reads a quote.
    ///
    /// Zeros may follow it: the services that make TDX quotes hand out the room that they reserved,
    /// and not how much of it they filled. They mean nothing and are not looked at any further.
    ///
    /// # Errors
    ///
    /// [`QuoteError`] if it is none of those that are understood.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, QuoteError> {
        if Self::MAX < bytes.len() {
            return Err(QuoteError::Long);
        }
        let mut reader = Reader::new(bytes);
        let (version, tee) = header(&mut reader)?;
        let body = body(&mut reader, version, tee)?;
        let signed_length = bytes.len().saturating_sub(reader.rest().len());
        let signed = bytes.get(..signed_length).ok_or(QuoteError::Short)?;
        let mut signature_data = Reader::new(reader.prefixed()?);
        if !is_zero(reader.rest()) {
            return Err(QuoteError::Trailing);
        }
        let signature = signature_data.take(64)?;
        let attestation_key = signature_data.take(64)?;
        let mut certified = signature_data;
        if version != 3 {
            certified = Reader::new(certification_data(&mut signature_data, QE_REPORT)?);
            end(signature_data)?;
        }
        let qe_report_signed = certified.take(EnclaveReport::LENGTH)?;
        let qe_report = EnclaveReport::read(&mut Reader::new(qe_report_signed))?;
        let qe_report_signature = certified.take(64)?;
        let authentication_data = certified.u16()?;
        let qe_authentication_data = certified.take(usize::from(authentication_data))?;
        let pck_chain = certification_data(&mut certified, PCK_CHAIN_PEM)?;
        end(certified)?;
        Ok(Self {
            version,
            body,
            signed,
            signature,
            attestation_key,
            qe_report,
            qe_report_signed,
            qe_report_signature,
            qe_authentication_data,
            pck_chain,
        })
    }

    /// Whether these bytes begin as a quote of `tee` does, whatever follows.
    #[must_use]
    pub fn looks_like(bytes: &[u8], tee: Tee) -> bool {
        header(&mut Reader::new(bytes)).is_ok_and(|(_, found)| found == tee)
    }

    /// Of what it is.
    #[must_use]
    pub const fn tee(&self) -> Tee {
        match self.body {
            Body::Enclave(_) => Tee::Sgx,
            Body::Domain(_) => Tee::Tdx,
        }
    }
}

fn header(reader: &mut Reader<'_>) -> Result<(u16, Tee), QuoteError> {
    let mut header = Reader::new(reader.take(HEADER)?);
    let (version, key_type, tee) = (header.u16()?, header.u16()?, header.u32()?);
    if !(3..=5).contains(&version) {
        return Err(QuoteError::Version(version));
    }
    // Versions of the quoting enclave and of the PCE; what counts of them is in what is signed.
    header.take(4)?;
    let vendor: [u8; 16] = header.array()?;
    let tee = match tee {
        0x00 => Tee::Sgx,
        0x81 if version != 3 => Tee::Tdx,
        other => return Err(QuoteError::Tee(other)),
    };
    if key_type != ECDSA_256 {
        return Err(QuoteError::KeyType(key_type));
    }
    if vendor != INTEL {
        return Err(QuoteError::Vendor);
    }
    Ok((version, tee))
}

fn body(reader: &mut Reader<'_>, version: u16, tee: Tee) -> Result<Body, QuoteError> {
    const ENCLAVE: (u16, usize) = (1, EnclaveReport::LENGTH);
    const DOMAIN: (u16, usize) = (2, DomainReport::LENGTH);
    const DOMAIN_1_5: (u16, usize) = (3, DomainReport::LENGTH_1_5);

    let kind = match (version, tee) {
        (5, _) => {
            let (kind, length) = (reader.u16()?, reader.u32()?);
            (kind, usize::try_from(length).map_err(|_huge| QuoteError::Body)?)
        }
        (_, Tee::Sgx) => ENCLAVE,
        (_, Tee::Tdx) => DOMAIN,
    };
    match (kind, tee) {
        (ENCLAVE, Tee::Sgx) => Ok(Body::Enclave(EnclaveReport::read(reader)?)),
        (DOMAIN, Tee::Tdx) => Ok(Body::Domain(DomainReport::read(reader, false)?)),
        (DOMAIN_1_5, Tee::Tdx) => Ok(Body::Domain(DomainReport::read(reader, true)?)),
        _ => Err(QuoteError::Body),
    }
}

fn certification_data<'a>(reader: &mut Reader<'a>, kind: u16) -> Result<&'a [u8], QuoteError> {
    let found = reader.u16()?;
    if found != kind {
        return Err(QuoteError::Certification { found, wanted: kind });
    }
    Ok(reader.prefixed()?)
}

const fn end(reader: Reader<'_>) -> Result<(), QuoteError> {
    if reader.rest().is_empty() { Ok(()) } else { Err(QuoteError::Trailing) }
}

/// Why bytes are no quote, or none that is understood.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum QuoteError {
    /// They end too early.
    #[error("it ends in the middle")]
    Short,
    /// There are too many.
    #[error("it has more than {} bytes", Quote::MAX)]
    Long,
    /// The version is not known.
    #[error("its version is {0}; 3, 4 and 5 are known")]
    Version(u16),
    /// The key is of a type that is not known.
    #[error("the type of its attestation key is {0}; only 2 is known, which is ECDSA on P-256")]
    KeyType(u16),
    /// It is of neither an enclave nor a virtual machine, or its version knows none of these.
    #[error("its TEE type is {0:#x}, which its version does not know")]
    Tee(u32),
    /// It is not by Intel's quoting enclave.
    #[error("its quoting enclave is not Intel's")]
    Vendor,
    /// Its body is of a type or a length that does not belong to its TEE type.
    #[error("its body has a type or a length that does not belong to its TEE type")]
    Body,
    /// Its key is certified in a way that is not understood.
    #[error("its certification data is of type {found} where only {wanted} is understood")]
    Certification {
        /// In which way.
        found: u16,
        /// In which it should be.
        wanted: u16,
    },
    /// Something follows.
    #[error("something other than zeros follows its end, or the end of a part of it")]
    Trailing,
}

impl From<Short> for QuoteError {
    fn from(Short: Short) -> Self {
        Self::Short
    }
}
