//! Secrets sealed to the key of an enclave: HPKE in base mode (RFC 9180). What ties a secret to the
//! evidence that earned it is in [`claviger_core::seal`].
//!
//! The suite follows from the key:
//!
//! | key | KEM | KDF | AEAD |
//! |---|---|---|---|
//! | X25519 | DHKEM(X25519, HKDF-SHA256), 0x0020 | HKDF-SHA256, 0x0001 | AES-256-GCM, 0x0002 |
//! | P-256 | DHKEM(P-256, HKDF-SHA256), 0x0010 | HKDF-SHA256, 0x0001 | AES-256-GCM, 0x0002 |
//! | P-384 | DHKEM(P-384, HKDF-SHA384), 0x0011 | HKDF-SHA384, 0x0002 | AES-256-GCM, 0x0002 |

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use claviger_core::seal::Context;
use rustls::crypto::aws_lc_rs::hpke;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey, HpkePublicKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// The kinds of keys that secrets can be sealed to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Curve {
    /// RFC 7748.
    X25519,
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
}

impl Curve {
    const ALL: [Self; 3] = [Self::X25519, Self::P256, Self::P384];

    /// The suite that goes with it.
    fn hpke(self) -> &'static dyn Hpke {
        match self {
            Self::X25519 => hpke::DH_KEM_X25519_HKDF_SHA256_AES_256,
            Self::P256 => hpke::DH_KEM_P256_HKDF_SHA256_AES_256,
            Self::P384 => hpke::DH_KEM_P384_HKDF_SHA384_AES_256,
        }
    }

    const fn suite(self) -> Suite {
        match self {
            Self::X25519 => Suite { kem: 0x20, kdf: 1, aead: 2 },
            Self::P256 => Suite { kem: 0x10, kdf: 1, aead: 2 },
            Self::P384 => Suite { kem: 0x11, kdf: 2, aead: 2 },
        }
    }

    /// A SubjectPublicKeyInfo in DER up to the key itself (RFC 8410 §4, RFC 5480 §2), and how many
    /// bytes the key has. There is one encoding.
    const fn spki(self) -> (&'static [u8], usize) {
        match self {
            Self::X25519 => (b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x6e\x03\x21\x00", 32),
            Self::P256 => (
                b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\
                  \x03\x01\x07\x03\x42\x00",
                65,
            ),
            Self::P384 => (
                b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\
                  \x03\x62\x00",
                97,
            ),
        }
    }
}

/// The numbers of a suite in IANA's registry for HPKE.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    kem: u16,
    kdf: u16,
    aead: u16,
}

/// A public key that a secret can be sealed to.
#[derive(Clone, Debug)]
pub struct SealingKey {
    curve: Curve,
    key: HpkePublicKey,
    spki: Vec<u8>,
}

impl SealingKey {
    /// Reads a SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    ///
    /// [`NotSealable`] if it is none, or of another kind of key.
    pub fn parse(spki: &[u8]) -> Result<Self, NotSealable> {
        let found = Curve::ALL.into_iter().find_map(|curve| {
            let (prefix, length) = curve.spki();
            let key = spki.strip_prefix(prefix).filter(|key| key.len() == length)?;
            Some(Self { curve, key: HpkePublicKey(key.to_vec()), spki: spki.to_vec() })
        });
        found.ok_or(NotSealable)
    }

    /// Its SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Seals `secret`, for `context` and nothing else.
    ///
    /// # Errors
    ///
    /// [`SealError`] if the key is no point of its curve.
    pub fn seal(&self, context: &Context<'_>, secret: &[u8]) -> Result<Sealed, SealError> {
        let (info, aad) = (context.info(), context.aad());
        let sealed = self.curve.hpke().seal(&info, &aad, secret, &self.key);
        let (EncapsulatedSecret(enc), ciphertext) = sealed.map_err(SealError)?;
        Ok(Sealed { enc, ciphertext, suite: self.curve.suite() })
    }
}

/// A sealed secret.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// The encapsulated key.
    #[serde(deserialize_with = "from_base64", serialize_with = "to_base64")]
    enc: Vec<u8>,
    /// The secret and its tag.
    #[serde(deserialize_with = "from_base64", serialize_with = "to_base64")]
    ciphertext: Vec<u8>,
    suite: Suite,
}

fn to_base64<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&STANDARD.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    STANDARD.decode(String::deserialize(from)?).map_err(serde::de::Error::custom)
}

/// The key of whoever opens: made for one attestation, kept nowhere, and wiped.
pub struct Recipient {
    curve: Curve,
    private: HpkePrivateKey,
    spki: Vec<u8>,
}

impl Recipient {
    /// A new key.
    ///
    /// # Errors
    ///
    /// [`SealError`] if the system gives no random bytes.
    pub fn generate(curve: Curve) -> Result<Self, SealError> {
        let (HpkePublicKey(public), private) =
            curve.hpke().generate_key_pair().map_err(SealError)?;
        let (prefix, _length) = curve.spki();
        Ok(Self { curve, private, spki: [prefix, &public].concat() })
    }

    /// What to show the server, and to bind evidence to: the SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Opens what was sealed to this key for `context`.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if it was sealed to another key, for another context, or changed on its way.
    pub fn open(
        &self,
        sealed: Sealed,
        context: &Context<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        if sealed.suite != self.curve.suite() {
            return Err(OpenError::Suite(sealed.suite));
        }
        let (info, aad, enc) = (context.info(), context.aad(), EncapsulatedSecret(sealed.enc));
        let opened = self.curve.hpke().open(&enc, &info, &aad, &sealed.ciphertext, &self.private);
        opened.map(Zeroizing::new).map_err(OpenError::Other)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recipient").field("curve", &self.curve).finish_non_exhaustive()
    }
}

/// Not a key that secrets can be sealed to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("is not the SubjectPublicKeyInfo of an X25519, P-256 or P-384 key in DER")]
pub struct NotSealable;

/// A secret can't be sealed.
#[derive(Debug, thiserror::Error)]
#[error("the key is not a point of its curve, or there is no randomness")]
pub struct SealError(#[source] rustls::Error);

/// A sealed secret does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It was sealed by other means than this key's.
    #[error("it is sealed with the suite {0:?}, which is not that of this key")]
    Suite(Suite),
    /// It was sealed to another key or for something else, or was changed on its way.
    #[error("it was sealed to another key, or for another identity, evidence or answer")]
    Other(#[source] rustls::Error),
}

#[cfg(test)]
mod tests {
    use claviger_core::evidence::{Binding, BindingDigest};
    use claviger_core::id::SpiffeId;

    use super::*;

    fn id() -> SpiffeId {
        "spiffe://example.org/enclave".parse().unwrap()
    }

    fn binding(key: &[u8], nonce: u8) -> BindingDigest {
        Binding::new("aws_nitro", key, &"example.org".parse().unwrap()).digest(&[nonce; 32])
    }

    #[test]
    fn what_is_sealed_opens_for_the_same_context_and_key_only() {
        let (id, other_id) = (id(), "spiffe://example.org/other".parse().unwrap());
        for curve in Curve::ALL {
            let (recipient, other) =
                (Recipient::generate(curve).unwrap(), Recipient::generate(curve).unwrap());
            let (ours, later) = (binding(recipient.spki(), 7), binding(recipient.spki(), 8));
            let context = Context { id: &id, binding: &ours, evidence: b"e", grant: "g" };
            let key = SealingKey::parse(recipient.spki()).unwrap();
            let sealed = key.seal(&context, b"secret").unwrap();
            let json = serde_json::to_string(&sealed).unwrap();
            let sealed = || serde_json::from_str::<Sealed>(&json).unwrap();
            assert_eq!(*recipient.open(sealed(), &context).unwrap(), b"secret", "{curve:?}");

            for wrong in [
                Context { id: &other_id, ..context },
                Context { binding: &later, ..context },
                Context { evidence: b"f", ..context },
                Context { grant: "h", ..context },
            ] {
                let error = recipient.open(sealed(), &wrong).unwrap_err();
                assert!(matches!(error, OpenError::Other(_)), "{wrong:?}");
            }
            other.open(sealed(), &context).unwrap_err();
            let mut changed = sealed();
            changed.ciphertext[0] ^= 1;
            recipient.open(changed, &context).unwrap_err();
            let mut changed = sealed();
            changed.enc[5] ^= 1;
            recipient.open(changed, &context).unwrap_err();
            let changed = Sealed { suite: Suite { aead: 3, ..curve.suite() }, ..sealed() };
            let error = recipient.open(changed, &context).unwrap_err();
            assert!(matches!(error, OpenError::Suite(_)), "{error}");
        }
    }

    /// Sealed by `tests/vectors/seal.py`, which does the whole of RFC 9180 by itself.
    #[test]
    fn another_implementation_seals_what_we_open() {
        let vectors = include_str!("../../tests/vectors/seal.json");
        let vectors: serde_json::Value = serde_json::from_str(vectors).unwrap();
        let bytes = |name: &str| hex::decode(vectors[name].as_str().unwrap()).unwrap();
        let recipient =
            Recipient { curve: Curve::X25519, private: bytes("private").into(), spki: Vec::new() };
        let (id, binding) = (id(), binding(b"a key", 7));
        let context = Context { id: &id, binding: &binding, evidence: b"evidence", grant: "g1" };
        let suite = Curve::X25519.suite();
        let sealed = Sealed { enc: bytes("enc"), ciphertext: bytes("ciphertext"), suite };
        let opened = recipient.open(sealed, &context).unwrap();
        assert_eq!(str::from_utf8(&opened).unwrap(), vectors["plaintext"]);
    }

    #[test]
    fn keys_have_one_spelling() {
        for curve in Curve::ALL {
            let spki = Recipient::generate(curve).unwrap().spki().to_vec();
            SealingKey::parse(&spki).unwrap();
            let longer = [spki.as_slice(), &[0]].concat();
            for bad in [&spki[1..], &spki[..spki.len() - 1], &longer, b""] {
                assert_eq!(SealingKey::parse(bad).unwrap_err(), NotSealable);
            }
        }
        let rsa = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
        assert_eq!(SealingKey::parse(rsa).unwrap_err(), NotSealable);
    }

    #[test]
    fn what_is_no_point_is_sealed_to_by_nobody() {
        let (id, binding) = (id(), binding(b"", 0));
        let context = Context { id: &id, binding: &binding, evidence: b"", grant: "" };
        for curve in Curve::ALL {
            let (prefix, length) = curve.spki();
            let zeros = [prefix, &vec![0; length]].concat();
            SealingKey::parse(&zeros).unwrap().seal(&context, b"secret").unwrap_err();
        }
    }
}
