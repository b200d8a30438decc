//! Reading TLS's presentation language (RFC 8446 §3) without an index that could be out of bounds.

/// The part of a slice that has not been read.
#[derive(Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

/// Fewer bytes than announced, or more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Short;

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Requires that everything has been read.
    pub(super) fn end(&self) -> Result<(), Short> {
        if self.is_empty() { Ok(()) } else { Err(Short) }
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Short> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Short> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Short> {
        self.array().map(u16::from_be_bytes)
    }

    /// A vector whose length has one byte.
    pub(super) fn vector8(&mut self) -> Result<&'a [u8], Short> {
        let length = self.u8()?;
        self.take(length.into())
    }

    /// A vector whose length has two bytes.
    pub(super) fn vector16(&mut self) -> Result<&'a [u8], Short> {
        let length = self.u16()?;
        self.take(length.into())
    }

    /// A handshake message's body, whose length has three bytes.
    pub(super) fn vector24(&mut self) -> Result<&'a [u8], Short> {
        let [high, low @ ..] = self.array::<3>()?;
        // What we read never needs the high byte: the first flight is bounded far below.
        if high == 0 { self.take(u16::from_be_bytes(low).into()) } else { Err(Short) }
    }
}
