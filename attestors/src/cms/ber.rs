//! Reading BER (X.690 §8): the part of it that signed documents are written in.
//!
//! AWS writes constructed values of indefinite length around DER, and cuts the content into pieces.
//! So indefinite length is read here; everything else that BER allows and DER does not is refused,
//! such as a length that is longer than it has to be. What was signed is compared and hashed as the
//! bytes that came, never as bytes written anew.

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const NULL: u8 = 0x05;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
/// `[0]`, constructed.
pub(crate) const CONTEXT_0: u8 = 0xa0;
/// `[1]`, constructed.
pub(crate) const CONTEXT_1: u8 = 0xa1;

const CONSTRUCTED: u8 = 0x20;
/// The end of a value of indefinite length (X.690 §8.1.5).
const END_OF_CONTENTS: [u8; 2] = [0, 0];
/// How deep values may lie in each other. Those that are looked into lie seven deep; the rest may
/// only be looked through for their end.
const MAX_DEPTH: u8 = 16;

/// These bytes are not what is read here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NotBer;

/// One value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    /// What is in it.
    pub(crate) content: &'a [u8],
    /// All of it.
    pub(crate) whole: &'a [u8],
    depth: u8,
}

impl<'a> Element<'a> {
    /// The values in it, if it can have any.
    pub(crate) fn inside(&self) -> Result<Reader<'a>, NotBer> {
        if self.tag & CONSTRUCTED == 0 {
            return Err(NotBer);
        }
        Ok(Reader { rest: self.content, depth: self.depth.saturating_add(1) })
    }
}

/// Reads values one after the other.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    depth: u8,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, depth: 0 }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Refuses whatever is left.
    pub(crate) const fn finish(self) -> Result<(), NotBer> {
        if self.rest.is_empty() { Ok(()) } else { Err(NotBer) }
    }

    /// The next value, which must have this tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Result<Element<'a>, NotBer> {
        self.optional(tag)?.ok_or(NotBer)
    }

    /// The next value, if there is one with this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, NotBer> {
        if self.rest.first() == Some(&tag) { self.next().map(Some) } else { Ok(None) }
    }

    /// The bytes of the next value, an OCTET STRING in one piece or in several (X.690 §8.7.3).
    pub(crate) fn octets(&mut self) -> Result<Vec<u8>, NotBer> {
        let Some(pieces) = self.optional(OCTET_STRING | CONSTRUCTED)? else {
            return Ok(self.expect(OCTET_STRING)?.content.to_vec());
        };
        let mut pieces = pieces.inside()?;
        let mut whole = Vec::new();
        while !pieces.is_empty() {
            whole.extend_from_slice(pieces.expect(OCTET_STRING)?.content);
        }
        Ok(whole)
    }

    /// The next value.
    pub(crate) fn next(&mut self) -> Result<Element<'a>, NotBer> {
        let start = self.rest;
        let (&[tag, first], after) = start.split_first_chunk().ok_or(NotBer)?;
        // Zero is no value but the end of one; a tag of several bytes is none that we know.
        if tag == 0 || tag & 0x1f == 0x1f || MAX_DEPTH < self.depth {
            return Err(NotBer);
        }
        let (content, rest) = match first {
            0..=0x7f => after.split_at_checked(usize::from(first)).ok_or(NotBer)?,
            0x80 if tag & CONSTRUCTED != 0 => self.split_at_end(after)?,
            0x81 => long::<1>(after, 0x80)?,
            0x82 => long::<2>(after, 0x100)?,
            // Three bytes of length are more than a document has; so are more than three.
            _ => return Err(NotBer),
        };
        self.rest = rest;
        let length = start.len().saturating_sub(rest.len());
        let whole = start.get(..length).ok_or(NotBer)?;
        Ok(Element { tag, content, whole, depth: self.depth })
    }

    /// The values in front of the end-of-contents that belongs to them, and what comes after it.
    fn split_at_end(&self, after: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), NotBer> {
        let mut inside = Reader { rest: after, depth: self.depth.saturating_add(1) };
        loop {
            if let Some(rest) = inside.rest.strip_prefix(&END_OF_CONTENTS) {
                let length = after.len().saturating_sub(inside.rest.len());
                return Ok((after.get(..length).ok_or(NotBer)?, rest));
            }
            inside.next()?;
        }
    }
}

/// A value whose length takes `N` bytes, which it must need, and what comes after it.
fn long<const N: usize>(bytes: &[u8], least: usize) -> Result<(&[u8], &[u8]), NotBer> {
    let (octets, after) = bytes.split_first_chunk::<N>().ok_or(NotBer)?;
    let length = octets.iter().fold(0, |sum, octet| (sum << 8) | usize::from(*octet));
    if length < least {
        return Err(NotBer);
    }
    after.split_at_checked(length).ok_or(NotBer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_indefinite_length_ends_where_its_own_end_is() {
        // A SEQUENCE of an INTEGER and of a SEQUENCE that is as indefinite, with one INTEGER in it.
        let bytes = [0x30, 0x80, 2, 1, 7, 0x30, 0x80, 2, 1, 8, 0, 0, 0, 0, 5, 0];
        let mut reader = Reader::new(&bytes);
        let sequence = reader.expect(SEQUENCE).unwrap();
        assert_eq!(sequence.content, &bytes[2..12]);
        assert_eq!(sequence.whole, &bytes[..14]);
        assert_eq!(reader.expect(NULL).unwrap().whole, [5, 0]);
        reader.finish().unwrap();
        let mut inside = sequence.inside().unwrap();
        assert_eq!(inside.expect(INTEGER).unwrap().content, [7]);
        assert_eq!(inside.expect(SEQUENCE).unwrap().content, [2, 1, 8]);
        inside.finish().unwrap();
    }

    #[test]
    fn an_octet_string_may_come_in_pieces() {
        for bytes in [&[4, 3, 1, 2, 3][..], &[0x24, 0x80, 4, 2, 1, 2, 4, 1, 3, 0, 0]] {
            assert_eq!(Reader::new(bytes).octets().unwrap(), [1, 2, 3]);
        }
        // Pieces of pieces, and pieces of something else.
        for bytes in [&[0x24, 5, 0x24, 3, 4, 1, 1][..], &[0x24, 3, 2, 1, 1], &[0x24, 2, 4, 1]] {
            Reader::new(bytes).octets().unwrap_err();
        }
    }

    #[test]
    fn what_is_longer_than_it_has_to_be_is_refused() {
        for bytes in [
            &[0x30, 0x81, 1, 0][..],
            &[0x30, 0x82, 0, 0x80],
            &[0x30, 0x83, 1, 0, 0],
            &[0x30, 0x84, 0, 0, 0, 1, 0],
            &[0x1f, 0x01, 0],
            &[0x04, 0x80, 0, 0],
            &[0, 0],
            &[0x30],
            &[0x30, 1],
            &[0x30, 0x80, 2, 1, 7],
        ] {
            Reader::new(bytes).next().unwrap_err();
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| [[0x30, 0x80].repeat(depth), vec![0; 2 * depth]].concat();
        Reader::new(&nested(17)).next().unwrap();
        Reader::new(&nested(18)).next().unwrap_err();
        Reader::new(&nested(10_000)).next().unwrap_err();
    }
}
