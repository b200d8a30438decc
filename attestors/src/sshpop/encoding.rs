//! SSH's own encoding (RFC 4251 §5): numbers of fixed size, and strings with their length in front.

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        str::from_utf8(self.string()?).ok()
    }

    /// The digits of a number that is not negative.
    pub(super) fn mpint(&mut self) -> Option<&'a [u8]> {
        self.string().filter(|digits| digits.first().is_none_or(|first| *first < 0x80))
    }

    /// How much is left, in bytes.
    pub(super) const fn left(&self) -> usize {
        self.0.len()
    }

    /// `value`, if nothing is left.
    pub(super) fn finish<T>(self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }
}

/// Appends a number, given by its digits without leading zeros; nothing if it is too long to be one.
pub(super) fn write_mpint(out: &mut Vec<u8>, digits: &[u8]) -> Option<()> {
    let sign = digits.first().is_some_and(|first| 0x80 <= *first);
    let length = u32::try_from(digits.len()).ok()?.checked_add(u32::from(sign))?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend(sign.then_some(0));
    out.extend_from_slice(digits);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_ends_where_its_length_says() {
        let mut reader = Reader::new(b"\0\0\0\x02abc");
        assert_eq!(reader.string(), Some(&b"ab"[..]));
        assert_eq!((reader.left(), reader.finish(())), (1, None));
        assert_eq!(Reader::new(b"\0\0\0\x03ab").string(), None);
        assert_eq!(Reader::new(b"\xff\xff\xff\xffab").string(), None);
        assert_eq!(Reader::new(b"\0\0").u32(), None);
        assert_eq!(Reader::new(b"\0\0\0\x01\xff").text(), None);
    }

    #[test]
    fn numbers_come_back_as_they_went() {
        for digits in [&[][..], &[0x7f], &[0x80], &[1, 2, 3]] {
            let mut bytes = Vec::new();
            write_mpint(&mut bytes, digits).unwrap();
            let mut reader = Reader::new(&bytes);
            let read = reader.mpint().unwrap();
            assert_eq!(read.strip_prefix(&[0]).unwrap_or(read), digits);
            assert_eq!(reader.left(), 0);
        }
        assert_eq!(Reader::new(b"\0\0\0\x01\x80").mpint(), None);
    }
}
