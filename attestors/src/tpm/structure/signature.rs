//! Signatures: `TPMT_SIGNATURE` (Part 2 §11.3.4).

use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RsaParameters, UnparsedPublicKey,
};

use super::public::{MAX_ECC, MAX_RSA};
use super::{Hash, Key, Malformed, Reader};
use crate::possession::ecdsa::Curve;
use crate::possession::rsa::{MAX_BITS, RsaKey};

const RSASSA: u16 = 0x0014;
const RSAPSS: u16 = 0x0016;
pub(in crate::tpm) const ECDSA: u16 = 0x0018;

/// A signature, and by which algorithms it is one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::tpm) struct Signature {
    /// The algorithm (`TPM_ALG_ID`) and the hash, as keys name them as their scheme.
    pub(in crate::tpm) scheme: (u16, Hash),
    value: Value,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Value {
    Rsa(Vec<u8>),
    Ecdsa { r: Vec<u8>, s: Vec<u8> },
}

impl Signature {
    /// Reads all of `bytes`.
    pub(in crate::tpm) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let algorithm = reader.u16()?;
        let hash = Hash::parse(reader.u16()?)?;
        let value = match algorithm {
            RSASSA | RSAPSS => Value::Rsa(reader.sized(MAX_RSA)?.to_vec()),
            ECDSA => {
                let (r, s) = (reader.sized(MAX_ECC)?, reader.sized(MAX_ECC)?);
                Value::Ecdsa { r: r.to_vec(), s: s.to_vec() }
            }
            _ => return Err(Malformed("a signature is neither RSA nor ECDSA")),
        };
        reader.end()?;
        Ok(Self { scheme: (algorithm, hash), value })
    }

    /// Whether `key` made it over `message`.
    pub(in crate::tpm) fn is_by(&self, key: &Key, message: &[u8]) -> bool {
        match (key, &self.value) {
            (Key::Rsa { modulus, exponent }, Value::Rsa(signature)) => {
                let Some(parameters) = parameters(self.scheme) else { return false };
                let key = RsaKey::measure(modulus, exponent, MAX_BITS);
                key.is_ok_and(|key| key.has_signed(parameters, message, signature))
            }
            (Key::Ecc { curve, point }, Value::Ecdsa { r, s }) => {
                if !belong(*curve, self.scheme) {
                    return false;
                }
                let key = UnparsedPublicKey::new(curve.verification(), point);
                let fixed = curve.fixed(r, s);
                fixed.is_some_and(|signature| key.verify(message, &signature).is_ok())
            }
            (Key::Rsa { .. }, Value::Ecdsa { .. }) | (Key::Ecc { .. }, Value::Rsa(_)) => false,
        }
    }
}

impl Key {
    /// Whether it is one that signs by `scheme` in a way that is believed: RSA with 2,048 bits or
    /// more, or ECDSA with the hash that is as long as the curve.
    pub(in crate::tpm) fn signs_by(&self, scheme: (u16, Hash)) -> Result<(), &'static str> {
        match self {
            Self::Rsa { modulus, exponent } => {
                if RsaKey::measure(modulus, exponent, MAX_BITS).is_err() {
                    return Err("it is RSA with less than 2048 bits, or has no usable exponent");
                }
                parameters(scheme).map(|_| ()).ok_or("it is RSA, and neither RSASSA nor RSAPSS")
            }
            Self::Ecc { curve, .. } if belong(*curve, scheme) => Ok(()),
            Self::Ecc { .. } => {
                Err("it is on a curve, and not for ECDSA with the curve's own hash")
            }
        }
    }
}

fn belong(curve: Curve, (algorithm, hash): (u16, Hash)) -> bool {
    let own = match curve {
        Curve::P256 => Some(Hash::Sha256),
        Curve::P384 => Some(Hash::Sha384),
        Curve::P521 => None,
    };
    algorithm == ECDSA && own == Some(hash)
}

fn parameters(scheme: (u16, Hash)) -> Option<&'static RsaParameters> {
    match scheme {
        (RSASSA, Hash::Sha256) => Some(&RSA_PKCS1_2048_8192_SHA256),
        (RSASSA, Hash::Sha384) => Some(&RSA_PKCS1_2048_8192_SHA384),
        (RSAPSS, Hash::Sha256) => Some(&RSA_PSS_2048_8192_SHA256),
        (RSAPSS, Hash::Sha384) => Some(&RSA_PSS_2048_8192_SHA384),
        _ => None,
    }
}
