//! What a device says of itself beside its measurements: the opaque data of its response, which is
//! NVIDIA's own. A list of fields, each a type and a length of two little-endian bytes, and a value.

use std::collections::BTreeMap;

use super::report::{Bytes, Malformed};

const DRIVER_VERSION: u16 = 3;
const VBIOS_VERSION: u16 = 6;
const FIRMWARE_ID: u16 = 20;

/// The fields, by their type. Types that are not known are kept: newer devices have more.
#[derive(Debug)]
pub(super) struct Opaque(BTreeMap<u16, Vec<u8>>);

impl Opaque {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut bytes = Bytes(bytes);
        let mut fields = BTreeMap::new();
        while !bytes.0.is_empty() {
            let (field, length) = (bytes.u16()?, bytes.u16()?);
            let value = bytes.take(length.into())?.to_vec();
            if fields.insert(field, value).is_some() {
                return Err(Malformed("a field of its opaque data comes twice"));
            }
        }
        Ok(Self(fields))
    }

    /// The version of the driver, such as `570.86.10`.
    pub(super) fn driver(&self) -> Option<&str> {
        let text = self.0.get(&DRIVER_VERSION)?;
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
        let (text, padding) = text.split_at_checked(end)?;
        let is_plain = text.iter().all(|b| b.is_ascii_alphanumeric() || b".-_+".contains(b));
        let is_plain = is_plain && !text.is_empty() && padding.iter().all(|byte| *byte == 0);
        is_plain.then(|| str::from_utf8(text).ok())?
    }

    /// The version of the VBIOS, as it is sent.
    pub(super) fn vbios(&self) -> Option<[u8; 8]> {
        self.0.get(&VBIOS_VERSION)?.as_slice().try_into().ok()
    }

    /// The digest of the firmware that the device's key was made for.
    pub(super) fn firmware(&self) -> Option<&[u8]> {
        self.0.get(&FIRMWARE_ID).map(Vec::as_slice)
    }
}

/// The version of a VBIOS as NVIDIA writes it, such as `96.00.A5.00.01`: one number of four bytes,
/// least first, and the first byte of another.
pub(super) fn vbios_name(version: [u8; 8]) -> String {
    let [a, b, c, d, e, ..] = version;
    format!("{d:02X}.{c:02X}.{b:02X}.{a:02X}.{e:02X}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_written_as_nvidia_writes_them() {
        let opaque = Opaque::parse(
            b"\x06\0\x08\0\x00\xa5\x00\x96\x01\0\0\0\x03\0\x0a\x00570.86.10\0\x63\0\x01\0x",
        );
        let opaque = opaque.unwrap();
        assert_eq!(opaque.driver(), Some("570.86.10"));
        assert_eq!(vbios_name(opaque.vbios().unwrap()), "96.00.A5.00.01");
        assert_eq!(opaque.firmware(), None);
    }

    #[test]
    fn a_driver_that_is_no_plain_text_has_no_name() {
        for text in [&b""[..], b"\0", b"570 86", b"570\0x", b"570\n", b"57\xff"] {
            let length = u8::try_from(text.len()).unwrap();
            let opaque = Opaque::parse(&[&[3, 0, length, 0], text].concat()).unwrap();
            assert_eq!(opaque.driver(), None, "{text:?}");
        }
    }

    #[test]
    fn fields_end_where_the_data_ends_and_none_comes_twice() {
        for bytes in [&[3, 0, 1][..], &[3, 0, 1, 0], &[3], &[3, 0, 0, 0, 3, 0, 0, 0]] {
            Opaque::parse(bytes).unwrap_err();
        }
        Opaque::parse(&[]).unwrap();
    }
}
