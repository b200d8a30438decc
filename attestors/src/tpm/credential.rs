//! A secret that only one TPM can read, and only if it holds a certain key: what
//! `TPM2_MakeCredential` does, without a TPM (Part 1 §24; Part 3 §12.6).

use aws_lc_rs::agreement::{self, ECDH_P256, ECDH_P384, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand;
use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OaepPublicEncryptingKey, PublicEncryptingKey,
    PublicKeyComponents,
};
use aws_lc_rs::{digest, hmac};
use zeroize::Zeroizing;

use super::structure::{Hash, Key, Public, Symmetric, Writer};
use crate::possession::ecdsa::Curve;

/// What a TPM needs to find out a secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Credential {
    /// The secret, encrypted and authenticated: the inside of a `TPM2B_ID_OBJECT`.
    pub(super) blob: Vec<u8>,
    /// What its keys are derived from, encrypted to the EK: the inside of a `TPM2B_ENCRYPTED_SECRET`.
    pub(super) seed: Vec<u8>,
}

impl Credential {
    /// Hides `secret` so that the TPM with the key `ek` finds it if it holds the key with this `name`.
    ///
    /// # Errors
    ///
    /// [`Unspecified`] if nothing can be encrypted to such a key.
    pub(super) fn make(ek: &Public, name: &[u8], secret: &[u8]) -> Result<Self, Unspecified> {
        let cipher = ek.symmetric.ok_or(Unspecified)?;
        let (seed, encrypted) = match &ek.key {
            Key::Rsa { modulus, exponent } => by_rsa(ek.name_hash, modulus, exponent)?,
            Key::Ecc { curve, point } => by_ecdh(ek.name_hash, *curve, point)?,
        };
        let key = kdfa(ek.name_hash, &seed, "STORAGE", name, cipher.bits())?;
        let mut hidden = Writer::default().sized(secret).finish();
        encrypt(cipher, &key, &mut hidden)?;
        let bits = u16::try_from(ek.name_hash.length().saturating_mul(8));
        let bits = bits.map_err(|_no_hash_is_as_long| Unspecified)?;
        let key = kdfa(ek.name_hash, &seed, "INTEGRITY", &[], bits)?;
        let key = hmac::Key::new(ek.name_hash.hmac(), &key);
        let tag = hmac::sign(&key, &[hidden.as_slice(), name].concat());
        let blob = Writer::default().sized(tag.as_ref()).bytes(&hidden).finish();
        Ok(Self { blob, seed: encrypted })
    }
}

type Seed = (Zeroizing<Vec<u8>>, Vec<u8>);

/// A seed, and what it is encrypted to: OAEP with the EK's own hash (Part 1 appendix B.10.4).
fn by_rsa(hash: Hash, modulus: &[u8], exponent: &[u8]) -> Result<Seed, Unspecified> {
    let first = exponent.iter().position(|byte| *byte != 0).ok_or(Unspecified)?;
    let exponent = exponent.get(first..).ok_or(Unspecified)?;
    let key: PublicEncryptingKey = PublicKeyComponents { n: modulus, e: exponent }.try_into()?;
    let key = OaepPublicEncryptingKey::new(key)?;
    let mut seed = Zeroizing::new(vec![0; hash.length()]);
    rand::fill(&mut seed)?;
    let padding = match hash {
        Hash::Sha256 => &OAEP_SHA256_MGF1SHA256,
        Hash::Sha384 => &OAEP_SHA384_MGF1SHA384,
    };
    let mut encrypted = vec![0; key.ciphertext_size()];
    let encrypted = key.encrypt(padding, &seed, &mut encrypted, Some(b"IDENTITY\0"))?.to_vec();
    Ok((seed, encrypted))
}

/// A seed that both ends can agree on, and our end's public key (Part 1 appendix C.6.1).
fn by_ecdh(hash: Hash, curve: Curve, point: &[u8]) -> Result<Seed, Unspecified> {
    let algorithm: &'static agreement::Algorithm = match curve {
        Curve::P256 => &ECDH_P256,
        Curve::P384 => &ECDH_P384,
        Curve::P521 => return Err(Unspecified),
    };
    let ours = PrivateKey::generate(algorithm)?;
    let public = ours.compute_public_key()?;
    let (x, y) = coordinates(public.as_ref())?;
    let (their_x, _) = coordinates(point)?;
    let theirs = UnparsedPublicKey::new(algorithm, point);
    let seed = agree(&ours, theirs, Unspecified, |shared| Ok(kdfe(hash, shared, x, their_x)))?;
    Ok((seed, Writer::default().sized(x).sized(y).finish()))
}

/// The two numbers of an uncompressed point.
fn coordinates(point: &[u8]) -> Result<(&[u8], &[u8]), Unspecified> {
    let numbers = point.strip_prefix(&[4]).ok_or(Unspecified)?;
    numbers.split_at_checked(numbers.len() / 2).ok_or(Unspecified)
}

/// `KDFe` (Part 1 §11.4.10.3), for as many bits as the hash has: one round.
pub(super) fn kdfe(hash: Hash, shared: &[u8], ours: &[u8], theirs: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut context = digest::Context::new(hash.algorithm());
    for part in [&1u32.to_be_bytes()[..], shared, b"IDENTITY\0", ours, theirs] {
        context.update(part);
    }
    Zeroizing::new(context.finish().as_ref().to_vec())
}

/// `KDFa` (Part 1 §11.4.10.2), for at most as many bits as the hash has: one round.
pub(super) fn kdfa(
    hash: Hash,
    seed: &[u8],
    label: &str,
    name: &[u8],
    bits: u16,
) -> Result<Zeroizing<Vec<u8>>, Unspecified> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hash.hmac(), seed));
    let bits = u32::from(bits).to_be_bytes();
    for part in [&1u32.to_be_bytes()[..], label.as_bytes(), &[0], name, &bits] {
        context.update(part);
    }
    let bytes = usize::try_from(u32::from_be_bytes(bits) / 8);
    let bytes = bytes.map_err(|_never_as_many| Unspecified)?;
    let tag = context.sign();
    let key = tag.as_ref().get(..bytes).ok_or(Unspecified)?;
    Ok(Zeroizing::new(key.to_vec()))
}

/// AES-CFB with an initialization vector of zeros, which is no harm: the key is used once.
fn encrypt(cipher: Symmetric, key: &[u8], text: &mut [u8]) -> Result<(), Unspecified> {
    let algorithm = match cipher {
        Symmetric::Aes128 => &AES_128,
        Symmetric::Aes256 => &AES_256,
    };
    let key = EncryptingKey::cfb128(UnboundCipherKey::new(algorithm, key)?)?;
    let start = EncryptionContext::Iv128(FixedLength::from([0; 16]));
    key.less_safe_encrypt(text, start).map(drop)
}
