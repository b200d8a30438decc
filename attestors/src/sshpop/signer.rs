//! Private keys of hosts, in OpenSSH's format.

use std::fmt;

use aws_lc_rs::error::{KeyRejected, Unspecified};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeyPairComponents, PublicKeyComponents};
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256};
use ssh_key::private::{EcdsaKeypair, RsaKeypair};
use ssh_key::{EcdsaCurve, Mpint, PrivateKey};
use zeroize::Zeroizing;

use super::encoding::write_mpint;
use super::key::ecdsa_name;
use super::wire::WrittenSignature;
use crate::possession::Base64;
use crate::possession::ecdsa::{Curve, without_leading_zeros};

/// A host's private key, ready to sign.
pub(super) enum Signer {
    Ed25519(Ed25519KeyPair),
    Ecdsa(Curve, EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(..)")
    }
}

impl Signer {
    /// The key in `text`.
    pub(super) fn parse(text: &[u8]) -> Result<Self, SignerError> {
        let key = PrivateKey::from_openssh(text).map_err(SignerError::Format)?;
        if key.is_encrypted() {
            return Err(SignerError::Encrypted);
        }
        let data = key.key_data();
        if let Some(key) = data.ed25519() {
            let (seed, public) = (Zeroizing::new(key.private.to_bytes()), &key.public.0);
            let key = Ed25519KeyPair::from_seed_and_public_key(seed.as_slice(), public)?;
            Ok(Self::Ed25519(key))
        } else if let Some(key) = data.ecdsa() {
            ecdsa(key)
        } else if let Some(key) = data.rsa() {
            rsa(key)
        } else {
            Err(SignerError::Kind)
        }
    }

    /// Signs `message` with the strongest hash that every server knows.
    pub(super) fn sign(&self, message: &[u8]) -> Result<WrittenSignature, Unspecified> {
        let (format, blob) = match self {
            Self::Ed25519(key) => ("ssh-ed25519", key.sign(message).as_ref().to_vec()),
            Self::Ecdsa(curve, key) => {
                let signature = key.sign(&SystemRandom::new(), message)?;
                let (r, s) = curve.numbers(signature.as_ref()).ok_or(Unspecified)?;
                let mut blob = Vec::new();
                for number in [r, s] {
                    write_mpint(&mut blob, number).ok_or(Unspecified)?;
                }
                (ecdsa_name(*curve), blob)
            }
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)?;
                ("rsa-sha2-256", signature)
            }
        };
        Ok(WrittenSignature { format: format.to_owned(), blob: Base64(blob) })
    }
}

fn ecdsa(key: &EcdsaKeypair) -> Result<Signer, SignerError> {
    let curve = match key.curve() {
        EcdsaCurve::NistP256 => Curve::P256,
        EcdsaCurve::NistP384 => Curve::P384,
        EcdsaCurve::NistP521 => Curve::P521,
    };
    let (private, public) = (key.private_key_bytes(), key.public_key_bytes());
    let key = EcdsaKeyPair::from_private_key_and_public_key(curve.signing(), private, public)?;
    Ok(Signer::Ecdsa(curve, key))
}

/// OpenSSH leaves out two of the numbers that the library wants, and the library checks all of them.
fn rsa(key: &RsaKeypair) -> Result<Signer, SignerError> {
    let digits = |number: &Mpint| {
        let digits = number.as_positive_bytes().ok_or(SignerError::Kind)?;
        Ok::<_, SignerError>(Zeroizing::new(without_leading_zeros(digits).to_vec()))
    };
    let public_key = PublicKeyComponents { n: digits(&key.public.n)?, e: digits(&key.public.e)? };
    let (d, q_inv) = (digits(&key.private.d)?, digits(&key.private.iqmp)?);
    let (p, q) = (digits(&key.private.p)?, digits(&key.private.q)?);
    let (d_p, d_q) = (remainder(&d, &less_one(&p)), remainder(&d, &less_one(&q)));
    let components = KeyPairComponents { public_key, d, p, q, dP: d_p, dQ: d_q, qInv: q_inv };
    Ok(Signer::Rsa(RsaKeyPair::from_components(&components)?))
}

/// A prime less one: it is odd, so one bit goes.
fn less_one(prime: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut number = Zeroizing::new(prime.to_vec());
    if let Some(last) = number.last_mut() {
        *last &= 0xfe;
    }
    number
}

/// `dividend mod divisor`, bit by bit, in memory that is wiped: both are secrets.
fn remainder(dividend: &[u8], divisor: &[u8]) -> Zeroizing<Vec<u8>> {
    // One byte more than the divisor has, for the bit that doubling brings.
    let divisor: Zeroizing<Vec<u8>> = Zeroizing::new([&[0], divisor].concat());
    let mut rest = Zeroizing::new(vec![0; divisor.len()]);
    for byte in dividend {
        for bit in (0..8).rev() {
            let mut carry = (byte >> bit) & 1;
            for digit in rest.iter_mut().rev() {
                let doubled = (u16::from(*digit) << 1) | u16::from(carry);
                [carry, *digit] = doubled.to_be_bytes();
            }
            if *divisor <= *rest {
                subtract(&mut rest, &divisor);
            }
        }
    }
    rest
}

/// `minuend - subtrahend`, which is not negative; both have the same length.
fn subtract(minuend: &mut [u8], subtrahend: &[u8]) {
    let mut borrow = false;
    for (digit, other) in minuend.iter_mut().zip(subtrahend).rev() {
        let (less, first) = digit.overflowing_sub(*other);
        let (less, second) = less.overflowing_sub(u8::from(borrow));
        (*digit, borrow) = (less, first || second);
    }
}

/// Why a private key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// It is not in OpenSSH's format.
    #[error("it is not in OpenSSH's format; `ssh-keygen -p -f FILE` converts it")]
    Format(#[source] ssh_key::Error),
    /// It has a passphrase.
    #[error("it has a passphrase, and nobody is there to enter it")]
    Encrypted,
    /// It is of a kind that no certificate is taken for.
    #[error("it is neither Ed25519 nor ECDSA nor RSA")]
    Kind,
    /// It contradicts itself, or is too small.
    #[error("it is not a sound key")]
    Rejected(#[from] KeyRejected),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: u64) -> Vec<u8> {
        without_leading_zeros(&value.to_be_bytes()).to_vec()
    }

    #[test]
    fn remainders_are_what_is_left() {
        for (dividend, divisor) in [
            (0, 1),
            (6, 7),
            (7, 7),
            (1_000_003, 255),
            (u64::MAX, 256),
            (u64::MAX, 4_294_967_291),
            (0xfedc_ba98_7654_3210, 0x8000_0000_0000_0001),
        ] {
            let rest = remainder(&number(dividend), &number(divisor));
            assert_eq!(without_leading_zeros(&rest), number(dividend % divisor));
        }
        assert_eq!(less_one(&[3, 1]).as_slice(), &[3, 0]);
    }
}
