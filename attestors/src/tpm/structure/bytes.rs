//! Reading and writing of what the TPM's structures are made of: big-endian numbers, and buffers
//! behind their length in two bytes (`TPM2B_…`).

/// Bytes that are no structure of the TPM's, and where they end to be one.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub(in crate::tpm) struct Malformed(pub(in crate::tpm) &'static str);

/// Reads a structure from front to back. No length is believed beyond what is there, and nothing is
/// copied.
#[derive(Clone, Copy, Debug)]
pub(in crate::tpm) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(in crate::tpm) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next `length` bytes.
    pub(in crate::tpm) fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(TOO_SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(TOO_SHORT)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(in crate::tpm) fn byte(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    pub(in crate::tpm) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(in crate::tpm) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(in crate::tpm) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// A `TPM2B_…` of at most `max` bytes.
    pub(in crate::tpm) fn sized(&mut self, max: usize) -> Result<&'a [u8], Malformed> {
        let length = usize::from(self.u16()?);
        if max < length {
            return Err(Malformed("a buffer is longer than there can be"));
        }
        self.take(length)
    }

    /// All that is left.
    pub(in crate::tpm) const fn rest(self) -> &'a [u8] {
        self.0
    }

    /// That nothing is left.
    pub(in crate::tpm) const fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("bytes come after it")) }
    }
}

const TOO_SHORT: Malformed = Malformed("it ends too early");

/// Writes a structure from front to back.
#[derive(Debug, Default)]
pub(in crate::tpm) struct Writer(Vec<u8>);

impl Writer {
    pub(in crate::tpm) fn u8(self, number: u8) -> Self {
        self.bytes(&[number])
    }

    pub(in crate::tpm) fn u16(self, number: u16) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    pub(in crate::tpm) fn u32(self, number: u32) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    pub(in crate::tpm) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A `TPM2B_…`. What has no length of two bytes is written as if it had the largest, which no
    /// reader takes; nothing that is written here is as long.
    pub(in crate::tpm) fn sized(self, bytes: &[u8]) -> Self {
        self.u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX)).bytes(bytes)
    }

    pub(in crate::tpm) fn finish(self) -> Vec<u8> {
        self.0
    }
}
