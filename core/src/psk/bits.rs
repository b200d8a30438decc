//! How long the keys of machines are that are no TLS stacks of ours: routers, hosts, other programs.

use serde::{Deserialize, Serialize};

/// The length of a key for another machine, in bits: 64 to 1024, a multiple of 8.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct KeyBits(u16);

impl KeyBits {
    /// The bounds, in bits.
    pub const RANGE: std::ops::RangeInclusive<u16> = 64..=1_024;

    /// The length in bits.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The length in bytes.
    #[must_use]
    pub fn bytes(self) -> usize {
        usize::from(self.0 >> 3)
    }
}

impl Default for KeyBits {
    fn default() -> Self {
        Self(256)
    }
}

impl TryFrom<u16> for KeyBits {
    type Error = KeyBitsError;

    fn try_from(bits: u16) -> Result<Self, KeyBitsError> {
        if bits & 7 != 0 {
            return Err(KeyBitsError::NotBytes);
        }
        if Self::RANGE.contains(&bits) {
            Ok(Self(bits))
        } else {
            Err(KeyBitsError::OutOfRange(bits))
        }
    }
}

impl From<KeyBits> for u16 {
    fn from(bits: KeyBits) -> Self {
        bits.0
    }
}

/// No key has that length.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyBitsError {
    /// It is no whole number of bytes. The words are those of ETSI GS QKD 014 §6.
    #[error("size shall be a multiple of 8")]
    NotBytes,
    /// It is too short or too long.
    #[error("a key has {min} to {max} bits, not {0}", min = KeyBits::RANGE.start(), max = KeyBits::RANGE.end())]
    OutOfRange(u16),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_some_whole_bytes() {
        assert_eq!((KeyBits::default().get(), KeyBits::default().bytes()), (256, 32));
        assert_eq!(KeyBits::try_from(1_024).unwrap().bytes(), 128);
        assert_eq!(KeyBits::try_from(250), Err(KeyBitsError::NotBytes));
        for bits in [0, 56, 1_032, 65_528] {
            assert_eq!(KeyBits::try_from(bits), Err(KeyBitsError::OutOfRange(bits)));
        }
    }
}
