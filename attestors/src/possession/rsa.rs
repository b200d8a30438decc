//! RSA public keys of strangers.
//!
//! The cost of a verification grows with the square of the modulus and with the exponent, and both
//! are the stranger's. So they are measured before anything is computed with them.

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::RsaParameters;

use super::ecdsa::without_leading_zeros;

/// The fewest bits of a modulus that anybody should trust, and the library computes with.
pub(crate) const MIN_BITS: usize = 2_048;

/// The most bits that the library computes with, and SPIRE's default.
pub(crate) const MAX_BITS: usize = 8_192;

/// A public key that is cheap enough to compute with.
///
/// Invariant: the modulus has [`MIN_BITS`] to [`MAX_BITS`] bits; the exponent is odd, at least 3 and
/// has at most 32 bits.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct RsaKey {
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

impl RsaKey {
    /// The key with these big-endian numbers, if its modulus has at most `max_bits` bits.
    pub(crate) fn measure(
        modulus: &[u8],
        exponent: &[u8],
        max_bits: usize,
    ) -> Result<Self, RsaKeyError> {
        let modulus = without_leading_zeros(modulus);
        let bits = bits(modulus);
        let max = max_bits.min(MAX_BITS);
        if !(MIN_BITS..=max).contains(&bits) {
            return Err(RsaKeyError::Modulus { bits, max });
        }
        let exponent = without_leading_zeros(exponent);
        let is_odd = exponent.last().is_some_and(|last| last % 2 == 1);
        if !is_odd || exponent == [1] || 4 < exponent.len() {
            return Err(RsaKeyError::Exponent);
        }
        Ok(Self { modulus: modulus.to_vec(), exponent: exponent.to_vec() })
    }

    /// Whether `signature` is this key's, of `message`, by the rules of `parameters`.
    pub(crate) fn has_signed(
        &self,
        parameters: &RsaParameters,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        let key = PublicKeyComponents { n: &self.modulus, e: &self.exponent };
        key.verify(parameters, message, signature).is_ok()
    }
}

/// How many bits the number has.
fn bits(digits: &[u8]) -> usize {
    let unused = digits.first().map_or(0, |first| first.leading_zeros());
    let unused = usize::try_from(unused).unwrap_or(0);
    digits.len().saturating_mul(8).saturating_sub(unused)
}

/// A key that is not computed with.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum RsaKeyError {
    /// It would be too easy to break, or too dear to verify with.
    #[error("an RSA key has {bits} bits; {MIN_BITS} to {max} are allowed")]
    Modulus {
        /// Of the modulus.
        bits: usize,
        /// The most that are allowed.
        max: usize,
    },
    /// It would be too dear to verify with, or verify anything.
    #[error("the exponent of an RSA key is not an odd number of 3 to 32 bits")]
    Exponent,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_measured_before_it_is_computed_with() {
        let number = |bits: usize| {
            let mut digits = vec![0xff; bits.div_ceil(8)];
            digits[0] = u8::MAX >> (digits.len() * 8 - bits);
            digits
        };
        let of_bits = |bits| RsaKey::measure(&number(bits), &[1, 0, 1], MAX_BITS).map(drop);
        for bits in [2_048, 2_049, 4_095, 4_096, 8_192] {
            assert_eq!(of_bits(bits), Ok(()));
        }
        for bits in [1, 1_024, 2_047, 8_193, 16_384, 400_000] {
            assert_eq!(of_bits(bits), Err(RsaKeyError::Modulus { bits, max: 8_192 }));
        }
        let small = RsaKey::measure(&number(4_096), &[3], 3_072).unwrap_err();
        assert_eq!(small, RsaKeyError::Modulus { bits: 4_096, max: 3_072 });
        let padded = [&[0; 9_999][..], &number(2_048)].concat();
        assert_eq!(RsaKey::measure(&padded, &[0, 0, 3], 2_048).unwrap().modulus.len(), 256);
    }

    #[test]
    fn an_exponent_is_odd_and_short() {
        let of = |exponent: &[u8]| RsaKey::measure(&[0xff; 256], exponent, MAX_BITS).map(drop);
        for good in [&[3][..], &[17], &[1, 0, 1], &[0, 0xff, 0xff, 0xff, 0xff]] {
            assert_eq!(of(good), Ok(()));
        }
        for bad in [&[][..], &[0], &[1], &[2], &[1, 0], &[1, 0, 0, 0, 1], &[0xff; 256]] {
            assert_eq!(of(bad), Err(RsaKeyError::Exponent));
        }
    }
}
