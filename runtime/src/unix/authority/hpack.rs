//! Walking over a field block (RFC 7541) without decoding it.

/// The static table's entry for `:authority` (RFC 7541, appendix A).
const AUTHORITY: usize = 1;
/// The same, spelt out: gRPC's C core does not use the static table here.
const SPELT_OUT: Text<&[u8]> = Text::Raw(b":authority");
/// The same, compressed.
const COMPRESSED: Text<&[u8]> = Text::Huffman(&[0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f]);

/// Replaces every `%` and `/` in the value of each `:authority` by a `-`, until the end or until
/// something is malformed.
pub(super) fn edit(block: &mut [u8]) {
    let mut rest = Some(block);
    while let Some(block) = rest {
        rest = edit_field(block);
    }
}

/// Edits the first field, and returns what follows it (RFC 7541 §6).
fn edit_field(block: &mut [u8]) -> Option<&mut [u8]> {
    let (index_bits, has_value) = match *block.first()? {
        0x80.. => (7, false),     // in a table
        0x40..0x80 => (6, true),  // to be added to the table
        0x20..0x40 => (5, false), // the table's size
        0..0x20 => (4, true),     // not to be added
    };
    let (name, rest) = integer(block, index_bits)?;
    if !has_value {
        return Some(rest);
    }
    let (is_authority, rest) = if name == 0 {
        let (name, rest) = text(rest)?;
        (name == SPELT_OUT || name == COMPRESSED, rest)
    } else {
        (name == AUTHORITY, rest)
    };
    let (value, rest) = text(rest)?;
    if is_authority {
        match value {
            Text::Raw(bytes) => edit_raw(bytes),
            Text::Huffman(bytes) => edit_huffman(bytes),
        }
    }
    Some(rest)
}

/// A string literal (RFC 7541 §5.2).
enum Text<B> {
    Raw(B),
    Huffman(B),
}

impl PartialEq<Text<&[u8]>> for Text<&mut [u8]> {
    fn eq(&self, other: &Text<&[u8]>) -> bool {
        match (self, other) {
            (Self::Raw(one), Text::Raw(two)) | (Self::Huffman(one), Text::Huffman(two)) => {
                one == two
            }
            (Self::Raw(_), Text::Huffman(_)) | (Self::Huffman(_), Text::Raw(_)) => false,
        }
    }
}

fn text(block: &mut [u8]) -> Option<(Text<&mut [u8]>, &mut [u8])> {
    let huffman = 0x80 <= *block.first()?;
    let (length, rest) = integer(block, 7)?;
    let (bytes, rest) = rest.split_at_mut_checked(length)?;
    Some((if huffman { Text::Huffman(bytes) } else { Text::Raw(bytes) }, rest))
}

/// An integer that begins in the last `bits` bits of the first byte (RFC 7541 §5.1); none above two
/// million, which is more than any frame holds.
fn integer(block: &mut [u8], bits: u32) -> Option<(usize, &mut [u8])> {
    let (first, mut rest) = block.split_first_mut()?;
    let most = u8::MAX >> 8_u32.saturating_sub(bits);
    let mut value = usize::from(*first & most);
    if value < most.into() {
        return Some((value, rest));
    }
    for shift in [0, 7, 14] {
        let (byte, more) = rest.split_first_mut()?;
        rest = more;
        value += usize::from(*byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some((value, rest));
        }
    }
    None
}

fn edit_raw(text: &mut [u8]) {
    for byte in text {
        if matches!(byte, b'%' | b'/') {
            *byte = b'-';
        }
    }
}

/// How many codes have no, one, two… bits (RFC 7541, appendix B). The code is canonical, so this
/// suffices to find where each symbol ends.
const CODES: [u32; 31] = [
    0, 0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19,
    29, 0, 4,
];

/// Codes of six bits.
const PERCENT: u32 = 0b01_0101;
const SLASH: u32 = 0b01_1000;
const HYPHEN: u32 = 0b01_0110;

fn edit_huffman(text: &mut [u8]) {
    let (mut code, mut first, mut length) = (0_u32, 0_u32, 0_usize);
    for at in 0..text.len().saturating_mul(8) {
        code = code << 1 | u32::from(bit(text, at));
        first <<= 1;
        length += 1;
        let Some(count) = CODES.get(length) else { return };
        if code.wrapping_sub(first) < *count {
            if length == 6 && matches!(code, PERCENT | SLASH) {
                for back in 0..6 {
                    set_bit(text, at.saturating_sub(back), HYPHEN >> back & 1 == 1);
                }
            }
            (code, first, length) = (0, 0, 0);
        } else {
            first = first.wrapping_add(*count);
        }
    }
}

fn bit(text: &[u8], at: usize) -> bool {
    text.get(at / 8).is_some_and(|byte| byte & mask(at) != 0)
}

fn set_bit(text: &mut [u8], at: usize, to: bool) {
    if let Some(byte) = text.get_mut(at / 8) {
        *byte = if to { *byte | mask(at) } else { *byte & !mask(at) };
    }
}

const fn mask(at: usize) -> u8 {
    0x80 >> (at % 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn becomes(before: &[u8], after: &[u8]) {
        let mut block = before.to_vec();
        edit(&mut block);
        assert_eq!(block, after, "{block:x?}");
    }

    /// Encoded with Python's `hpack`.
    #[test]
    fn compressed_paths_become_names() {
        let field = |hex| [b"\x41\x80".as_slice(), &hex::decode(hex).unwrap()].concat();
        for (path, name) in [
            // %2Frun%2Fclaviger%2Fagent.sock
            (
                "54586cb6a54584940fb9a62d8a8b08e62d495d07275f",
                "58586cb6a58584940fb9a62d8b0b08e62d495d07275f",
            ),
            // /run/a.sock
            ("62cb6a606ba0e4eb", "5acb6a586ba0e4eb"),
            // a, 0x01 of 23 bits, %, 0xff of 26 bits, /
            ("1ffffd857ffffee63f", "1ffffd85bffffee5bf"),
        ] {
            let (mut path, mut name) = (field(path), field(name));
            let length = u8::try_from(path.len() - 2).unwrap();
            (path[1], name[1]) = (0x80 | length, 0x80 | length);
            becomes(&path, &name);
        }
    }

    /// RFC 7541, appendix C.4.1.
    #[test]
    fn names_stay() {
        let request = hex::decode("828684418cf1e3c2e5f23a6ba0ab90f4ff").unwrap();
        becomes(&request, &request);
    }

    #[test]
    fn only_authorities_are_edited() {
        // GET, http, :path /%, a new name with a value, a field that is not to be added, a size.
        let others = b"\x82\x86\x44\x02/%\x40\x02x%\x02/%\x0f\x00\x02/%\x3f\x01";
        let before = [others.as_slice(), b"\x41\x02/%", others, b"\x01\x02%/"].concat();
        let after = [others.as_slice(), b"\x41\x02--", others, b"\x01\x02--"].concat();
        becomes(&before, &after);
    }

    #[test]
    fn a_name_that_is_spelt_out_is_known() {
        becomes(b"\x40\x0a:authority\x03a%2", b"\x40\x0a:authority\x03a-2");
        let name = hex::decode("4088b83b5339ec327d7f").unwrap();
        becomes(&[&name, b"\x01/".as_slice()].concat(), &[&name, b"\x01-".as_slice()].concat());
    }

    #[test]
    fn malformed_blocks_are_left_alone() {
        for malformed in [
            b"\x41\x05/%".as_slice(), // cut short
            b"\x41",
            b"\x41\x7f\xff\xff\xff\xff\x01/", // a length beyond any frame
            b"\xff\xff\xff\xff\xff",
            b"\x40\x7f\x80",
        ] {
            becomes(malformed, malformed);
        }
    }
}
