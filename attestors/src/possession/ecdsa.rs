//! The three curves of NIST's that nodes have keys on.

use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED, ECDSA_P521_SHA512_FIXED_SIGNING,
    EcdsaSigningAlgorithm, EcdsaVerificationAlgorithm,
};

/// One of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    pub(crate) const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    /// Verifies `r || s`, over the hash that belongs to the curve (RFC 5656 §6.2.1).
    pub(crate) const fn verification(self) -> &'static EcdsaVerificationAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED,
            Self::P384 => &ECDSA_P384_SHA384_FIXED,
            Self::P521 => &ECDSA_P521_SHA512_FIXED,
        }
    }

    /// Makes what [`verification`](Self::verification) verifies.
    pub(crate) const fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            Self::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
            Self::P521 => &ECDSA_P521_SHA512_FIXED_SIGNING,
        }
    }

    /// The bytes in one number of a signature.
    const fn width(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// `r || s`, each in the curve's width; nothing if either does not fit, so that no number of
    /// any other size is ever computed with.
    pub(crate) fn fixed(self, r: &[u8], s: &[u8]) -> Option<Vec<u8>> {
        let mut signature = Vec::with_capacity(self.width().saturating_mul(2));
        for number in [r, s] {
            let digits = without_leading_zeros(number);
            let padding = self.width().checked_sub(digits.len())?;
            signature.extend(std::iter::repeat_n(0, padding));
            signature.extend_from_slice(digits);
        }
        Some(signature)
    }

    /// The two numbers in a signature of `r || s`, without leading zeros.
    pub(crate) fn numbers(self, signature: &[u8]) -> Option<(&[u8], &[u8])> {
        let (r, s) = signature.split_at_checked(self.width())?;
        Some((without_leading_zeros(r), without_leading_zeros(s)))
    }

    /// The SHA-256 of `message` in the place of the curve's own hash.
    ///
    /// ECDSA takes a hash no longer than the curve as a number (FIPS 186-5 §6.4.1), and zeros in
    /// front of a number do not change it. The library knows each curve with its own hash only.
    pub(crate) fn sha256(self, message: &[u8]) -> Result<Digest, Unspecified> {
        let own = match self {
            Self::P256 => &digest::SHA256,
            Self::P384 => &digest::SHA384,
            Self::P521 => &digest::SHA512,
        };
        let hash = digest::digest(&digest::SHA256, message);
        let padding = own.output_len().saturating_sub(hash.as_ref().len());
        let mut padded = vec![0; padding];
        padded.extend_from_slice(hash.as_ref());
        Digest::import_less_safe(&padded, own)
    }
}

/// The digits of a big-endian number.
pub(crate) fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA256_ASN1, ECDSA_P521_SHA256_FIXED, EcdsaKeyPair,
        KeyPair, UnparsedPublicKey, VerificationAlgorithm,
    };

    use super::*;

    /// `SEQUENCE { INTEGER r, INTEGER s }`, for numbers of at most 48 bytes.
    fn asn1(r: &[u8], s: &[u8]) -> Vec<u8> {
        let integers: Vec<u8> = [r, s]
            .iter()
            .flat_map(|number| {
                let sign = if 0x80 <= number[0] { &[0][..] } else { &[] };
                let length = u8::try_from(sign.len() + number.len()).unwrap();
                [&[2, length], sign, number].concat()
            })
            .collect();
        [&[0x30, u8::try_from(integers.len()).unwrap()], integers.as_slice()].concat()
    }

    #[test]
    fn the_padded_hash_is_the_hash() {
        for curve in Curve::ALL {
            let key = EcdsaKeyPair::generate(curve.signing()).unwrap();
            let made = key.sign_digest(&curve.sha256(b"message").unwrap()).unwrap();
            let (r, s) = curve.numbers(made.as_ref()).unwrap();
            // What others verify it by: the curve with SHA-256.
            let (algorithm, signature): (&dyn VerificationAlgorithm, _) = match curve {
                Curve::P256 => (&ECDSA_P256_SHA256_FIXED, curve.fixed(r, s).unwrap()),
                Curve::P384 => (&ECDSA_P384_SHA256_ASN1, asn1(r, s)),
                Curve::P521 => (&ECDSA_P521_SHA256_FIXED, curve.fixed(r, s).unwrap()),
            };
            let public = UnparsedPublicKey::new(algorithm, key.public_key());
            public.verify(b"message", &signature).unwrap();
            public.verify(b"massage", &signature).unwrap_err();
            let public = UnparsedPublicKey::new(curve.verification(), key.public_key());
            let signature = curve.fixed(r, s).unwrap();
            public.verify_digest(&curve.sha256(b"message").unwrap(), &signature).unwrap();
        }
    }

    #[test]
    fn a_signature_is_as_wide_as_its_curve() {
        let key = EcdsaKeyPair::generate(Curve::P384.signing()).unwrap();
        let made = key.sign(&SystemRandom::new(), b"message").unwrap();
        let (r, s) = Curve::P384.numbers(made.as_ref()).unwrap();
        assert_eq!(Curve::P384.fixed(r, s).unwrap(), made.as_ref());
        assert_eq!(Curve::P256.fixed(&[0, 0, 1], &[]).unwrap().len(), 64);
        assert_eq!(Curve::P256.fixed(&[1; 33], &[1]), None);
        assert_eq!(Curve::P521.fixed(&[1], &[1; 60_000]), None);
        assert_eq!(Curve::P521.numbers(&[1; 65]), None);
    }
}
