//! How a key is called: the 16 bytes of its identity on the wire, as a UUID or in hexadecimal.

use claviger_core::psk::identity::WireIdentity;

/// The name of a key. Not a secret: nothing of the key follows from it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct KeyId([u8; 16]);

impl KeyId {
    /// Where the hyphens of a UUID are (RFC 9562 §4).
    const HYPHENS: [usize; 4] = [8, 13, 18, 23];

    /// Reads a UUID, in either case.
    pub(crate) fn from_uuid(text: &str) -> Option<Self> {
        let hyphens = Self::HYPHENS.iter().all(|at| text.as_bytes().get(*at) == Some(&b'-'));
        let digits: String = text.chars().filter(|char| *char != '-').collect();
        let whole = text.len() == 36 && digits.len() == 32;
        if hyphens && whole { Self::from_hex(&digits) } else { None }
    }

    /// Reads 32 hexadecimal digits, in either case.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| digits)?;
        Some(Self(number.to_be_bytes()))
    }

    /// As a UUID.
    pub(crate) fn uuid(self) -> String {
        let mut text = self.hex();
        // From the end, so that those before stay where they are.
        for at in
            Self::HYPHENS.iter().enumerate().rev().map(|(before, at)| at.saturating_sub(before))
        {
            text.insert(at, '-');
        }
        text
    }

    /// In hexadecimal.
    pub(crate) fn hex(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }
}

impl From<WireIdentity> for KeyId {
    fn from(identity: WireIdentity) -> Self {
        Self(*identity.as_bytes())
    }
}

impl From<KeyId> for WireIdentity {
    fn from(KeyId(bytes): KeyId) -> Self {
        Self::from_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_name_in_two_forms() {
        let id = KeyId([0x0a, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        assert_eq!(id.hex(), "0a0102030405060708090a0b0c0d0e0f");
        assert_eq!(id.uuid(), "0a010203-0405-0607-0809-0a0b0c0d0e0f");
        assert_eq!(KeyId::from_uuid(&id.uuid().to_uppercase()), Some(id));
        assert_eq!(KeyId::from_hex(&id.hex()), Some(id));
        assert_eq!(KeyId::from(WireIdentity::from(id)), id);
        for bad in [
            "",
            &id.hex(),
            "0a010203-0405-0607-0809-0a0b0c0d0e0",
            "0a0102030-405-0607-0809-0a0b0c0d0e0f",
        ] {
            assert_eq!(KeyId::from_uuid(bad), None, "{bad}");
        }
        for bad in ["", "+a0102030405060708090a0b0c0d0e0f", &id.uuid(), "0a"] {
            assert_eq!(KeyId::from_hex(bad), None, "{bad}");
        }
    }
}
