//! What a TPM signs: `TPMS_ATTEST` (Part 2 §10.12.8).

use super::{Malformed, Reader, Selection};

/// The first bytes of whatever a TPM made by itself (`TPM_GENERATED_VALUE`). A restricted key signs
/// nothing else that begins so.
pub(in crate::tpm) const GENERATED: u32 = 0xff54_4347;

/// The type of a quote (`TPM_ST_ATTEST_QUOTE`).
pub(in crate::tpm) const QUOTE: u16 = 0x8018;

/// What was signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::tpm) struct Attest<'a> {
    /// [`GENERATED`], if a TPM made it.
    pub(in crate::tpm) magic: u32,
    /// What it is about, such as [`QUOTE`].
    pub(in crate::tpm) kind: u16,
    /// The qualified name of the key that signed it: its place in the TPM's hierarchies.
    pub(in crate::tpm) signer: &'a [u8],
    /// What whoever asked wanted to have in it.
    pub(in crate::tpm) extra: &'a [u8],
    /// The TPM's clock and counters.
    pub(in crate::tpm) clock: Clock,
    /// The version of the TPM's firmware, as its vendor counts.
    pub(in crate::tpm) firmware: u64,
    /// What is said of PCRs, if it is a quote.
    pub(in crate::tpm) quote: Option<Quote<'a>>,
}

/// `TPMS_CLOCK_INFO` (Part 2 §10.11.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::tpm) struct Clock {
    /// Milliseconds in which the TPM had power, ever since it was cleared.
    pub(in crate::tpm) milliseconds: u64,
    /// How often it was reset since it was cleared: how often the machine booted.
    pub(in crate::tpm) resets: u32,
    /// How often it was restarted or resumed since the last reset.
    pub(in crate::tpm) restarts: u32,
    /// Whether no greater value of the clock was ever reported.
    pub(in crate::tpm) is_safe: bool,
}

/// `TPMS_QUOTE_INFO` (Part 2 §10.12.4).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::tpm) struct Quote<'a> {
    /// Which PCRs.
    pub(in crate::tpm) selection: Selection,
    /// The digest of what is in them.
    pub(in crate::tpm) digest: &'a [u8],
}

/// The longest name of a key: the number of a hash algorithm, and a digest of 64 bytes.
const MAX_NAME: usize = 66;
/// The longest digest.
const MAX_DIGEST: usize = 64;

impl<'a> Attest<'a> {
    /// Reads all of `bytes`. What is no quote is read as far as all kinds are alike.
    pub(in crate::tpm) fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let (magic, kind) = (reader.u32()?, reader.u16()?);
        let signer = reader.sized(MAX_NAME)?;
        // A `TPM2B_DATA` has room for the number of an algorithm beside the digest.
        let extra = reader.sized(MAX_NAME)?;
        let clock = Clock {
            milliseconds: reader.u64()?,
            resets: reader.u32()?,
            restarts: reader.u32()?,
            is_safe: match reader.byte()? {
                0 => false,
                1 => true,
                _ => return Err(Malformed("what is yes or no is neither")),
            },
        };
        let firmware = reader.u64()?;
        let quote = if kind == QUOTE {
            let selection = Selection::read(&mut reader)?;
            let digest = reader.sized(MAX_DIGEST)?;
            reader.end()?;
            Some(Quote { selection, digest })
        } else {
            None
        };
        Ok(Self { magic, kind, signer, extra, clock, firmware, quote })
    }
}
