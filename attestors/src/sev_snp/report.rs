//! The layout of an ATTESTATION_REPORT (publication 56860 revision 1.58, table 23). Numbers are
//! little-endian.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use super::guest_policy::{GuestPolicy, PlatformInfo};
use super::product::Product;
use super::tcb::TcbVersion;

/// The key that signed a report.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SigningKey {
    /// One that is derived from secrets of the chip and from the version of its firmware.
    Vcek,
    /// One that AMD lent to the operator of a cloud.
    Vlek,
    /// None: the report is not signed. Or one that is not specified.
    Other,
}

impl SigningKey {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Vcek => "vcek",
            Self::Vlek => "vlek",
            Self::Other => "none",
        }
    }
}

const SIZE: usize = 0x4a0;

/// What a report says. Nothing of it is verified.
#[derive(Debug)]
pub struct Report<'a> {
    pub(super) version: u32,
    pub(super) guest_svn: u32,
    pub(super) policy: GuestPolicy,
    pub(super) family_id: [u8; 16],
    pub(super) image_id: [u8; 16],
    pub(super) vmpl: u32,
    pub(super) algorithm: u32,
    pub(super) current_tcb: TcbVersion,
    pub(super) platform: PlatformInfo,
    key_info: u32,
    pub(super) report_data: [u8; 64],
    pub(super) measurement: [u8; 48],
    pub(super) host_data: [u8; 32],
    pub(super) id_key_digest: [u8; 48],
    pub(super) author_key_digest: [u8; 48],
    pub(super) report_id: [u8; 32],
    pub(super) report_id_ma: [u8; 32],
    pub(super) reported_tcb: TcbVersion,
    /// Family, model and stepping of the processor. Since version 3.
    pub(super) cpu: Option<[u8; 3]>,
    pub(super) chip_id: [u8; 64],
    pub(super) committed_tcb: TcbVersion,
    pub(super) current: Firmware,
    pub(super) committed: Firmware,
    pub(super) launch_tcb: TcbVersion,
    /// Mitigations that were in force at launch, and that are now. Since version 5.
    pub(super) mitigations: Option<(u64, u64)>,
    /// `r || s`, each of 48 bytes and big-endian.
    pub(super) signature: [u8; 96],
    /// What is signed.
    pub(super) signed: &'a [u8],
    /// Whether everything that has to be zero is.
    pub(super) reserved_is_zero: bool,
}

impl<'a> Report<'a> {
    /// How many bytes a report has.
    pub const SIZE: usize = SIZE;
    /// How many of them are signed.
    const SIGNED: usize = 0x2a0;
    /// The versions whose layout is known.
    pub(super) const VERSIONS: std::ops::RangeInclusive<u32> = 2..=5;

    /// Reads a report.
    ///
    /// # Errors
    ///
    /// [`NotAReport`] if it does not have the length of one. Its version says whether its layout is
    /// known; that is not judged here.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, NotAReport> {
        let wrong = || NotAReport { length: bytes.len() };
        let whole: &[u8; SIZE] = bytes.try_into().map_err(|_other_length| wrong())?;
        Self::read(whole).ok_or_else(wrong)
    }

    fn read(whole: &'a [u8; SIZE]) -> Option<Self> {
        let (signed, signature) = whole.split_at_checked(Self::SIGNED)?;
        let mut fields = Fields { rest: signed, reserved_is_zero: true };
        let version = fields.number()?;
        let report = Self {
            version,
            guest_svn: fields.number()?,
            policy: GuestPolicy(fields.long()?),
            family_id: fields.take()?,
            image_id: fields.take()?,
            vmpl: fields.number()?,
            algorithm: fields.number()?,
            current_tcb: TcbVersion(fields.take()?),
            platform: PlatformInfo(fields.long()?),
            key_info: fields.number()?,
            report_data: {
                fields.skip::<4>()?;
                fields.take()?
            },
            measurement: fields.take()?,
            host_data: fields.take()?,
            id_key_digest: fields.take()?,
            author_key_digest: fields.take()?,
            report_id: fields.take()?,
            report_id_ma: fields.take()?,
            reported_tcb: TcbVersion(fields.take()?),
            cpu: fields.take_since(version, 3)?,
            chip_id: {
                fields.skip::<21>()?;
                fields.take()?
            },
            committed_tcb: TcbVersion(fields.take()?),
            current: fields.firmware()?,
            committed: fields.firmware()?,
            launch_tcb: TcbVersion(fields.take()?),
            mitigations: fields.mitigations(version)?,
            signature: [0; 96],
            signed,
            reserved_is_zero: true,
        };
        fields.skip::<152>()?;
        let mut numbers =
            Fields { rest: signature, reserved_is_zero: fields.reserved_is_zero & report.flags() };
        let signature = numbers.signature()?;
        Some(Self { signature, reserved_is_zero: numbers.reserved_is_zero, ..report })
    }

    /// Whether the reserved bits of the key's description are zero.
    const fn flags(&self) -> bool {
        self.key_info >> 5 == 0
    }

    pub(super) const fn signing_key(&self) -> SigningKey {
        match self.key_info >> 2 & 7 {
            0 => SigningKey::Vcek,
            1 => SigningKey::Vlek,
            _ => SigningKey::Other,
        }
    }

    /// Whether the host set the firmware not to sign by a VCEK (MASK_CHIP_KEY).
    pub(super) const fn masks_chip_key(&self) -> bool {
        self.key_info & 2 != 0
    }

    /// Whether an author's key certified the key that the owner signed the guest with.
    pub(super) const fn has_author_key(&self) -> bool {
        self.key_info & 1 != 0
    }

    /// The generation of the processor, if the report says so.
    pub(super) fn product(&self) -> Option<Product> {
        self.cpu.and_then(|[family, model, _stepping]| Product::of_cpu(family, model))
    }
}

/// Reads fields one after the other.
struct Fields<'a> {
    rest: &'a [u8],
    reserved_is_zero: bool,
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*field)
    }

    /// Bytes that are reserved.
    fn skip<const N: usize>(&mut self) -> Option<()> {
        self.reserved_is_zero &= self.take::<N>()?.iter().all(|byte| *byte == 0);
        Some(())
    }

    /// A field that is reserved in reports of a version before `first`.
    fn take_since<const N: usize>(&mut self, version: u32, first: u32) -> Option<Option<[u8; N]>> {
        if first <= version { self.take().map(Some) } else { self.skip::<N>().map(|()| None) }
    }

    fn number(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn long(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn firmware(&mut self) -> Option<Firmware> {
        let [build, minor, major] = self.take()?;
        self.skip::<1>()?;
        Some(Firmware { major, minor, build })
    }

    fn mitigations(&mut self, version: u32) -> Option<Option<(u64, u64)>> {
        let launch = self.take_since(version, 5)?.map(u64::from_le_bytes);
        let current = self.take_since(version, 5)?.map(u64::from_le_bytes);
        Some(launch.zip(current))
    }

    /// Two numbers of 72 bytes, of which 48 can differ from zero on P-384, and room for larger ones.
    fn signature(&mut self) -> Option<[u8; 96]> {
        let mut signature = [0; 96];
        let (r, s) = signature.split_first_chunk_mut::<48>()?;
        for number in [r.as_mut_slice(), s] {
            let mut digits = self.take::<48>()?;
            digits.reverse();
            number.copy_from_slice(&digits);
            self.skip::<24>()?;
        }
        self.skip::<368>()?;
        Some(signature)
    }
}

/// These bytes are no report.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("it has {length} bytes, and a report has {}", Report::SIZE)]
pub struct NotAReport {
    /// How many bytes there are.
    pub length: usize,
}

/// A version of the SEV-SNP firmware, from the oldest to the newest.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "String")]
pub struct Firmware {
    /// The version of its interface.
    pub major: u8,
    /// The same, after the dot.
    pub minor: u8,
    /// Which build.
    pub build: u8,
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.build)
    }
}

impl FromStr for Firmware {
    type Err = ParseFirmwareError;

    /// Reads `1.55`, or `1.55.22`.
    fn from_str(text: &str) -> Result<Self, ParseFirmwareError> {
        let numbers: Result<Vec<u8>, _> = text.split('.').map(str::parse).collect();
        match numbers.as_deref() {
            Ok([major, minor]) => Ok(Self { major: *major, minor: *minor, build: 0 }),
            Ok([major, minor, build]) => Ok(Self { major: *major, minor: *minor, build: *build }),
            Ok(_) | Err(_) => Err(ParseFirmwareError),
        }
    }
}

impl TryFrom<String> for Firmware {
    type Error = ParseFirmwareError;

    fn try_from(text: String) -> Result<Self, ParseFirmwareError> {
        text.parse()
    }
}

/// This is no version of firmware.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("write a version of the SEV-SNP firmware, such as `1.55` or `1.55.22`")]
pub struct ParseFirmwareError;
