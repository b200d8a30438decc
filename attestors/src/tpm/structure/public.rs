//! The public areas of keys: `TPMT_PUBLIC` (Part 2 §12.2.4).

use super::{Hash, Malformed, Reader, Writer};
use crate::possession::ecdsa::Curve;

/// What a key may be used for, and how it came to be: `TPMA_OBJECT` (Part 2 §8.3).
pub(in crate::tpm) mod attribute {
    /// It can't leave this TPM.
    pub(in crate::tpm) const FIXED_TPM: u32 = 1 << 1;
    /// It can't be put below another key.
    pub(in crate::tpm) const FIXED_PARENT: u32 = 1 << 4;
    /// The TPM made the secret part itself.
    pub(in crate::tpm) const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
    /// It may be used by whoever has its password.
    pub(in crate::tpm) const USER_WITH_AUTH: u32 = 1 << 6;
    /// It may be administered by its policy only.
    pub(in crate::tpm) const ADMIN_WITH_POLICY: u32 = 1 << 7;
    /// Wrong passwords don't lock it.
    pub(in crate::tpm) const NO_DA: u32 = 1 << 10;
    /// It works on what the TPM made and on nothing else.
    pub(in crate::tpm) const RESTRICTED: u32 = 1 << 16;
    /// It decrypts.
    pub(in crate::tpm) const DECRYPT: u32 = 1 << 17;
    /// It signs.
    pub(in crate::tpm) const SIGN: u32 = 1 << 18;
}

/// `TPM_ALG_NULL`.
pub(in crate::tpm) const NULL: u16 = 0x0010;
const RSA: u16 = 0x0001;
const ECC: u16 = 0x0023;
const AES: u16 = 0x0006;
const CFB: u16 = 0x0043;
const RSAES: u16 = 0x0015;
const ECDAA: u16 = 0x001a;
const P256: u16 = 0x0003;
const P384: u16 = 0x0004;

/// The longest modulus that is read: of 4,096 bits.
pub(super) const MAX_RSA: usize = 512;
/// The longest coordinate of a point, and number of a signature, that is read.
pub(super) const MAX_ECC: usize = 48;
/// The longest digest.
const MAX_DIGEST: usize = 64;
/// The longest public area that is read: with a modulus, a policy, and some numbers.
const MAX_PUBLIC: usize = 640;

/// The public area of a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::tpm) struct Public {
    /// The whole of it, as it is hashed for the key's name.
    area: Vec<u8>,
    /// By which it is hashed.
    pub(in crate::tpm) name_hash: Hash,
    /// See [`attribute`].
    pub(in crate::tpm) attributes: u32,
    /// How it protects what is below it, if anything can be.
    pub(in crate::tpm) symmetric: Option<Symmetric>,
    /// How it signs or decrypts, if it does so in one way only: the algorithm (`TPM_ALG_ID`), and the
    /// hash that goes with it.
    pub(in crate::tpm) scheme: Option<(u16, Hash)>,
    /// The key itself.
    pub(in crate::tpm) key: Key,
}

/// A symmetric cipher: AES in CFB mode, which is what every TPM has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::tpm) enum Symmetric {
    Aes128,
    Aes256,
}

/// A public key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::tpm) enum Key {
    /// Big-endian numbers.
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    /// An uncompressed point (SEC 1 §2.3.3).
    Ecc { curve: Curve, point: Vec<u8> },
}

impl Public {
    /// Reads a `TPM2B_PUBLIC`, and nothing after it.
    pub(in crate::tpm) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let public = Self::read(&mut reader)?;
        reader.end()?;
        Ok(public)
    }

    /// Reads a `TPM2B_PUBLIC`.
    pub(in crate::tpm) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let area = reader.sized(MAX_PUBLIC)?;
        let mut reader = Reader::new(area);
        let kind = reader.u16()?;
        let name_hash = Hash::parse(reader.u16()?)?;
        let attributes = reader.u32()?;
        let _policy = reader.sized(MAX_DIGEST)?;
        let symmetric = Symmetric::read(&mut reader)?;
        let scheme = scheme(&mut reader)?;
        let key = match kind {
            RSA => Key::read_rsa(&mut reader)?,
            ECC => Key::read_ecc(&mut reader)?,
            _ => return Err(Malformed("a key is neither RSA nor on an elliptic curve")),
        };
        reader.end()?;
        Ok(Self { area: area.to_vec(), name_hash, attributes, symmetric, scheme, key })
    }

    /// As [`parse`](Self::parse) reads it.
    pub(in crate::tpm) fn to_bytes(&self) -> Vec<u8> {
        Writer::default().sized(&self.area).finish()
    }

    /// The area without its length.
    pub(in crate::tpm) fn area(&self) -> &[u8] {
        &self.area
    }

    /// The name of the key: the hash of its public area, and by which hash (Part 1 §16).
    pub(in crate::tpm) fn name(&self) -> Vec<u8> {
        let digest = self.name_hash.of(&self.area);
        Writer::default().u16(self.name_hash.number()).bytes(digest.as_ref()).finish()
    }

    /// Whether it has all the attributes `wanted`.
    pub(in crate::tpm) const fn has(&self, wanted: u32) -> bool {
        self.attributes & wanted == wanted
    }
}

impl Symmetric {
    /// A `TPMT_SYM_DEF_OBJECT` (Part 2 §11.1.7).
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        match reader.u16()? {
            NULL => return Ok(None),
            AES => {}
            _ => return Err(UNKNOWN_CIPHER),
        }
        match (reader.u16()?, reader.u16()?) {
            (128, CFB) => Ok(Some(Self::Aes128)),
            (256, CFB) => Ok(Some(Self::Aes256)),
            _ => Err(UNKNOWN_CIPHER),
        }
    }

    /// How long its keys are, in bits.
    pub(in crate::tpm) const fn bits(self) -> u16 {
        match self {
            Self::Aes128 => 128,
            Self::Aes256 => 256,
        }
    }
}

const UNKNOWN_CIPHER: Malformed = Malformed("a cipher is not AES-128 or AES-256 in CFB mode");

/// A `TPMT_RSA_SCHEME` or `TPMT_ECC_SCHEME` (Part 2 §11.2.4.2, §11.2.5.6).
fn scheme(reader: &mut Reader<'_>) -> Result<Option<(u16, Hash)>, Malformed> {
    match reader.u16()? {
        NULL => Ok(None),
        RSAES | ECDAA => Err(Malformed("a key is for RSAES or ECDAA")),
        algorithm => Ok(Some((algorithm, Hash::parse(reader.u16()?)?))),
    }
}

impl Key {
    fn read_rsa(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let bits = usize::from(reader.u16()?);
        let exponent = match reader.u32()? {
            // Part 2 §12.2.3.5: the default.
            0 => 65_537,
            exponent => exponent,
        };
        let modulus = reader.sized(MAX_RSA)?;
        let is_full = modulus.first().is_some_and(|first| 0x80 <= *first);
        if modulus.len().saturating_mul(8) != bits || !is_full {
            return Err(Malformed("an RSA key has not as many bits as it says"));
        }
        Ok(Self::Rsa { modulus: modulus.to_vec(), exponent: exponent.to_be_bytes().to_vec() })
    }

    fn read_ecc(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let curve = match reader.u16()? {
            P256 => Curve::P256,
            P384 => Curve::P384,
            _ => return Err(Malformed("a key is on another curve than P-256 and P-384")),
        };
        if reader.u16()? != NULL {
            // Part 2 §12.2.3.6: no curve has one.
            return Err(Malformed("a key on a curve has a key derivation function"));
        }
        let (x, y) = (reader.sized(MAX_ECC)?, reader.sized(MAX_ECC)?);
        let numbers =
            curve.fixed(x, y).ok_or(Malformed("a point has longer numbers than its curve"))?;
        Ok(Self::Ecc { curve, point: [&[4], numbers.as_slice()].concat() })
    }
}
