//! Public keys: from and to JWK and DER, and checking signatures.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{ParsedPublicKey, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521,
    OID_PKCS1_RSAENCRYPTION,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey as Parsed;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::Algorithm;

/// A public key that can check a token: EC on P-256, P-384 or P-521, or RSA with 2048 to 8192 bits.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublicKey {
    kind: Kind,
    /// SubjectPublicKeyInfo in DER, in its one spelling.
    spki: Box<[u8]>,
    /// The same as a JWK.
    jwk: Jwk,
}

/// What a key can be used with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    P256,
    P384,
    P521,
    Rsa,
}

/// A curve: what it is, and how its keys are framed.
struct Curve {
    kind: Kind,
    /// Its name in a JWK (RFC 7518 §6.2.1.1).
    name: &'static str,
    /// The length of a coordinate, in bytes.
    size: usize,
    /// What stands before the point in a SubjectPublicKeyInfo, up to and with the 4 that says that
    /// both coordinates follow (RFC 5480 §2, SEC 1 §2.3.3).
    prefix: &'static [u8],
}

const CURVES: [Curve; 3] = [
    Curve {
        kind: Kind::P256,
        name: "P-256",
        size: 32,
        prefix: b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\
                  \x03\x01\x07\x03\x42\x00\x04",
    },
    Curve {
        kind: Kind::P384,
        name: "P-384",
        size: 48,
        prefix: b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\
                  \x03\x62\x00\x04",
    },
    Curve {
        kind: Kind::P521,
        name: "P-521",
        size: 66,
        prefix: b"\x30\x81\x9b\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\
                  \x23\x03\x81\x86\x00\x04",
    },
];

/// A public key as a JWK (RFC 7517 §4, RFC 7518 §6); other members are somebody else's.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "kty")]
pub enum Jwk {
    /// On an elliptic curve.
    #[serde(rename = "EC")]
    Ec {
        /// The curve.
        crv: String,
        /// One coordinate, base64url.
        x: String,
        /// The other.
        y: String,
    },
    /// RSA.
    #[serde(rename = "RSA")]
    Rsa {
        /// The modulus, base64url.
        n: String,
        /// The exponent, base64url.
        e: String,
    },
}

impl PublicKey {
    /// The largest SubjectPublicKeyInfo that is read, in bytes; RSA with 8192 bits needs 1,062.
    pub const MAX_SPKI: usize = 1_100;

    /// Reads a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7) in DER.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if it is malformed, of another kind, or spelled in an unusual way.
    pub fn from_spki(spki: &[u8]) -> Result<Self, KeyError> {
        if Self::MAX_SPKI < spki.len() {
            return Err(KeyError::Malformed);
        }
        let key = parse(spki)?;
        // Whatever would be written differently is another key's name.
        if *key.spki == *spki { Ok(key) } else { Err(KeyError::Malformed) }
    }

    /// Reads a JWK.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if it is malformed or of another kind.
    pub fn from_jwk(jwk: &Jwk) -> Result<Self, KeyError> {
        let decode = |text: &str| {
            if Self::MAX_SPKI.saturating_mul(2) < text.len() {
                return Err(KeyError::Malformed);
            }
            URL_SAFE_NO_PAD.decode(text).map_err(|_no_base64| KeyError::Malformed)
        };
        match jwk {
            Jwk::Ec { crv, x, y } => {
                let curve = CURVES.iter().find(|curve| curve.name == crv).ok_or(KeyError::Kind)?;
                let (x, y) = (decode(x)?, decode(y)?);
                if x.len() != curve.size || y.len() != curve.size {
                    return Err(KeyError::Malformed);
                }
                Self::on_curve(curve, &[x, y].concat())
            }
            Jwk::Rsa { n, e } => Self::rsa(&decode(n)?, &decode(e)?),
        }
    }

    fn on_curve(curve: &Curve, coordinates: &[u8]) -> Result<Self, KeyError> {
        let spki = [curve.prefix, coordinates].concat();
        let algorithm = match curve.kind {
            Kind::P256 => Algorithm::Es256,
            Kind::P384 => Algorithm::Es384,
            Kind::P521 | Kind::Rsa => Algorithm::Es512,
        };
        ParsedPublicKey::new(algorithm.verifier(), &spki)
            .map_err(|_not_on_the_curve| KeyError::Malformed)?;
        let (x, y) = coordinates.split_at_checked(curve.size).ok_or(KeyError::Malformed)?;
        let jwk = Jwk::Ec { crv: curve.name.to_owned(), x: text(x), y: text(y) };
        Ok(Self { kind: curve.kind, spki: spki.into(), jwk })
    }

    fn rsa(n: &[u8], e: &[u8]) -> Result<Self, KeyError> {
        // A DER INTEGER may begin with a zero, a Base64urlUInt may not (RFC 7518 §2).
        let number = |bytes: &'_ [u8]| {
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            bytes.get(zeros..).unwrap_or_default().to_vec()
        };
        let (n, e) = (number(n), number(e));
        let zeros = n.first().map_or(0, |first| first.leading_zeros());
        let bits =
            n.len().saturating_mul(8).saturating_sub(usize::try_from(zeros).unwrap_or_default());
        if !(2_048..=8_192).contains(&bits) {
            return Err(KeyError::RsaSize(bits));
        }
        let components = PublicKeyComponents { n: n.as_slice(), e: e.as_slice() };
        let spki: Result<PublicKeyX509Der<'_>, _> = components.as_der();
        let spki = spki.map_err(|_unspecified| KeyError::Malformed)?;
        let jwk = Jwk::Rsa { n: text(&n), e: text(&e) };
        Ok(Self { kind: Kind::Rsa, spki: spki.as_ref().into(), jwk })
    }

    /// As SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// As a JWK.
    #[must_use]
    pub fn to_jwk(&self) -> Jwk {
        self.jwk.clone()
    }

    /// The algorithm that is used with this key where nobody says otherwise.
    #[must_use]
    pub const fn default_algorithm(&self) -> Algorithm {
        match self.kind {
            Kind::P256 => Algorithm::Es256,
            Kind::P384 => Algorithm::Es384,
            Kind::P521 => Algorithm::Es512,
            Kind::Rsa => Algorithm::Rs256,
        }
    }

    /// Whether `signature` is this key's over `message`.
    #[must_use]
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        algorithm.kind() == self.kind
            && UnparsedPublicKey::new(algorithm.verifier(), &self.spki)
                .verify(message, signature)
                .is_ok()
    }
}

/// Bytes in a JWK.
fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn parse(spki: &[u8]) -> Result<PublicKey, KeyError> {
    let Ok(([], info)) = SubjectPublicKeyInfo::from_der(spki) else {
        return Err(KeyError::Malformed);
    };
    let algorithm = &info.algorithm.algorithm;
    if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let name = info.algorithm.parameters.as_ref().and_then(|named| named.as_oid().ok());
        let kind = match name.ok_or(KeyError::Malformed)? {
            name if name == OID_EC_P256 => Kind::P256,
            name if name == OID_NIST_EC_P384 => Kind::P384,
            name if name == OID_NIST_EC_P521 => Kind::P521,
            _ => return Err(KeyError::Kind),
        };
        let curve = CURVES.iter().find(|curve| curve.kind == kind).ok_or(KeyError::Kind)?;
        let coordinates = info.subject_public_key.data.strip_prefix(&[4]);
        let coordinates = coordinates.filter(|both| both.len() == curve.size.saturating_mul(2));
        PublicKey::on_curve(curve, coordinates.ok_or(KeyError::Malformed)?)
    } else if *algorithm == OID_PKCS1_RSAENCRYPTION {
        let Ok(Parsed::RSA(key)) = info.parsed() else { return Err(KeyError::Malformed) };
        PublicKey::rsa(key.modulus, key.exponent)
    } else {
        Err(KeyError::Kind)
    }
}

/// Why bytes are not a key that can check a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// It is not what it says it is.
    #[error("the key is malformed")]
    Malformed,
    /// It is of a kind that no permitted algorithm uses.
    #[error("the key is neither EC (P-256, P-384, P-521) nor RSA")]
    Kind,
    /// It is too weak, or too expensive to use.
    #[error("the RSA key has {0} bits; 2048 to 8192 are allowed")]
    RsaSize(usize),
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
        ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _,
        RSA_PKCS1_SHA256, RSA_PSS_SHA384, RsaKeyPair,
    };

    use super::*;

    fn ec(algorithm: &'static EcdsaSigningAlgorithm) -> (EcdsaKeyPair, PublicKey) {
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let key = PublicKey::from_spki(spki.as_ref()).unwrap();
        (pair, key)
    }

    #[test]
    fn a_key_has_one_spelling_in_der_and_one_as_jwk() {
        let (_, p256) = ec(&ECDSA_P256_SHA256_FIXED_SIGNING);
        let (_, p384) = ec(&ECDSA_P384_SHA384_FIXED_SIGNING);
        let (_, p521) = ec(&ECDSA_P521_SHA512_FIXED_SIGNING);
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let rsa: PublicKeyX509Der<'_> = rsa.public_key().as_der().unwrap();
        let rsa = PublicKey::from_spki(rsa.as_ref()).unwrap();
        for (key, kty) in [(p256, "EC"), (p384, "EC"), (p521, "EC"), (rsa, "RSA")] {
            let jwk = key.to_jwk();
            assert_eq!(PublicKey::from_jwk(&jwk).as_ref(), Ok(&key));
            assert_eq!(serde_json::to_value(&jwk).unwrap()["kty"], kty);
            let mut longer = key.spki().to_vec();
            longer.push(0);
            assert_eq!(PublicKey::from_spki(&longer), Err(KeyError::Malformed));
        }
    }

    #[test]
    fn a_signature_is_checked_with_the_keys_own_kind_of_algorithm() {
        let (pair, key) = ec(&ECDSA_P256_SHA256_FIXED_SIGNING);
        let signature = pair.sign(&SystemRandom::new(), b"message").unwrap();
        assert!(key.verifies(Algorithm::Es256, b"message", signature.as_ref()));
        assert!(!key.verifies(Algorithm::Es256, b"massage", signature.as_ref()));
        for other in Algorithm::ALL.into_iter().filter(|other| *other != Algorithm::Es256) {
            assert!(!key.verifies(other, b"message", signature.as_ref()), "{other}");
        }
    }

    #[test]
    fn rsa_signs_in_both_ways() {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let key = PublicKey::from_spki(spki.as_ref()).unwrap();
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), b"m", &mut signature).unwrap();
        assert!(key.verifies(Algorithm::Rs256, b"m", &signature));
        assert!(!key.verifies(Algorithm::Ps256, b"m", &signature));
        pair.sign(&RSA_PSS_SHA384, &SystemRandom::new(), b"m", &mut signature).unwrap();
        assert!(key.verifies(Algorithm::Ps384, b"m", &signature));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let ec = |crv: &str, x: &[u8], y: &[u8]| {
            let text = |bytes| URL_SAFE_NO_PAD.encode(bytes);
            PublicKey::from_jwk(&Jwk::Ec { crv: crv.to_owned(), x: text(x), y: text(y) })
        };
        assert_eq!(ec("P-256", &[1; 32], &[2; 32]), Err(KeyError::Malformed), "not on the curve");
        assert_eq!(ec("P-256", &[1; 31], &[2; 33]), Err(KeyError::Malformed));
        assert_eq!(ec("secp256k1", &[1; 32], &[2; 32]), Err(KeyError::Kind));
        let rsa = |bytes: usize| {
            let n = URL_SAFE_NO_PAD.encode(vec![0xff; bytes]);
            PublicKey::from_jwk(&Jwk::Rsa { n, e: "AQAB".to_owned() })
        };
        assert_eq!(rsa(128), Err(KeyError::RsaSize(1_024)));
        assert_eq!(rsa(1_025), Err(KeyError::RsaSize(8_200)));
        assert_eq!(PublicKey::from_spki(b"\x30\x00"), Err(KeyError::Malformed));
    }
}
