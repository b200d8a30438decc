//! Reading fields one after the other: little-endian, of fixed lengths.

/// There are fewer bytes than a field needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Short;

/// What is still to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next `length` bytes.
    pub(super) const fn take(&mut self, length: usize) -> Result<&'a [u8], Short> {
        match self.0.split_at_checked(length) {
            Some((taken, rest)) => {
                self.0 = rest;
                Ok(taken)
            }
            None => Err(Short),
        }
    }

    /// The next `N` bytes.
    pub(super) const fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        match self.0.split_first_chunk() {
            Some((taken, rest)) => {
                self.0 = rest;
                Ok(*taken)
            }
            None => Err(Short),
        }
    }

    pub(super) fn u16(&mut self) -> Result<u16, Short> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Short> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Short> {
        self.array().map(u64::from_le_bytes)
    }

    /// The next bytes, as many as four bytes before them say.
    pub(super) fn prefixed(&mut self) -> Result<&'a [u8], Short> {
        let length = usize::try_from(self.u32()?).map_err(|_huge| Short)?;
        self.take(length)
    }

    /// What is left.
    pub(super) const fn rest(self) -> &'a [u8] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_in_order_and_never_past_the_end() {
        let mut reader = Reader::new(&[1, 0, 2, 0, 0, 0, 7, 8, 9]);
        assert_eq!(reader.u16(), Ok(1));
        assert_eq!(reader.prefixed(), Ok(&[7, 8][..]));
        assert_eq!(reader.u16(), Err(Short));
        assert_eq!(reader.take(2), Err(Short));
        assert_eq!((reader.array(), reader.rest()), (Ok([9]), &[][..]));
        assert_eq!(Reader::new(&[0xff; 8]).prefixed(), Err(Short));
    }
}
