//! A file that only the agent's own private key opens; two of them do while it changes its key.
//!
//! ```text
//! magic ‖ how many keys open it (1 byte)
//!       ‖ for each: 32 random bytes ‖ the file's key, by AES-256-GCM with the tag at its end
//!       ‖ the contents, by AES-256-GCM under the file's key, with the tag at its end
//! ```
//!
//! AES-256-GCM is NIST SP 800-38D's. The file's key is random. What it is encrypted with is derived by
//! HKDF-SHA256 (RFC 5869) from the agent's private key, with the 32 bytes as the salt. Every key encrypts
//! once, so each nonce is zero. All that is before the contents is authenticated with them.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

const MAGIC: &[u8; 8] = b"clvsvid2";
const SALT: usize = 32;
const KEY: usize = 32;
const TAG: usize = 16;
const SLOT: usize = SALT + KEY + TAG;

/// An agent has one key, and another one on its way.
const MAX_KEYS: usize = 2;

/// `contents`, for whoever has one of `keys`.
pub(super) fn seal(contents: &[u8], keys: &[&[u8]]) -> Result<Vec<u8>, SealError> {
    let random = SystemRandom::new();
    let mut file_key = Zeroizing::new([0; KEY]);
    random.fill(&mut *file_key)?;
    let count = u8::try_from(keys.len()).ok().filter(|_| keys.len() <= MAX_KEYS);
    let mut head = [&MAGIC[..], &[count.ok_or(Unspecified)?]].concat();
    for key in keys {
        let mut salt = [0; SALT];
        random.fill(&mut salt)?;
        let slot = encrypt(&wrapping(&salt, key)?, MAGIC, &*file_key)?;
        head.extend_from_slice(&salt);
        head.extend_from_slice(&slot);
    }
    let body = encrypt(&cipher(&*file_key)?, &head, contents)?;
    Ok([&head[..], &body].concat())
}

/// What was sealed for whoever has `key`.
pub(super) fn open(sealed: &[u8], key: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let rest = sealed.strip_prefix(MAGIC).ok_or(SealError::Foreign)?;
    let (count, rest) = rest.split_first().ok_or(SealError::Foreign)?;
    let slots = SLOT.saturating_mul(usize::from(*count).min(MAX_KEYS));
    let (slots, body) = rest.split_at_checked(slots).ok_or(SealError::Foreign)?;
    let head = sealed.get(..sealed.len().saturating_sub(body.len())).ok_or(SealError::Foreign)?;
    let file_key = slots.chunks_exact(SLOT).find_map(|slot| {
        let (salt, slot) = slot.split_first_chunk::<SALT>()?;
        decrypt(&wrapping(salt, key).ok()?, MAGIC, slot).ok()
    });
    let file_key = file_key.ok_or(SealError::OtherKey)?;
    decrypt(&cipher(&file_key)?, head, body).map_err(|_unspecified| SealError::OtherKey)
}

/// What the file's key is encrypted with.
fn wrapping(salt: &[u8; SALT], key: &[u8]) -> Result<LessSafeKey, Unspecified> {
    let secret = Salt::new(HKDF_SHA256, salt).extract(key);
    let expanded = secret.expand(&[b"claviger agent svids v2"], &AES_256_GCM)?;
    Ok(LessSafeKey::new(UnboundKey::from(expanded)))
}

fn cipher(file_key: &[u8]) -> Result<LessSafeKey, Unspecified> {
    Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, file_key)?))
}

/// Encrypted where it lies; the plain text is wiped should that fail.
fn encrypt(key: &LessSafeKey, aad: &[u8], plain: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unspecified> {
    let mut text = Zeroizing::new(Vec::with_capacity(plain.len().saturating_add(TAG)));
    text.extend_from_slice(plain);
    key.seal_in_place_append_tag(nonce(), Aad::from(aad), &mut *text)?;
    Ok(text)
}

fn decrypt(key: &LessSafeKey, aad: &[u8], text: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unspecified> {
    let mut plain = Zeroizing::new(text.to_vec());
    let length = key.open_in_place(nonce(), Aad::from(aad), &mut plain)?.len();
    plain.truncate(length);
    Ok(plain)
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// It can't be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum SealError {
    /// Somebody else wrote it.
    #[error("it is not a file of ours")]
    Foreign,
    /// The agent has attested anew since, or the file is damaged.
    #[error("it was sealed with another key, or is damaged")]
    OtherKey,
    /// The cryptographic library refuses.
    #[error("the cryptographic library refuses")]
    Library(#[from] Unspecified),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_opened_by_the_same_key_only_and_only_as_a_whole() {
        let sealed = seal(b"secret", &[b"key"]).unwrap();
        assert_eq!(open(&sealed, b"key").unwrap().as_slice(), b"secret");
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_ne!(sealed, seal(b"secret", &[b"key"]).unwrap());
        open(&sealed, b"yek").unwrap_err();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            open(&changed, b"key").unwrap_err();
            open(&sealed[..at], b"key").unwrap_err();
        }
    }

    #[test]
    fn either_of_two_keys_opens_it_and_no_third() {
        let sealed = seal(b"secret", &[b"old", b"new"]).unwrap();
        for key in [b"old", b"new"] {
            assert_eq!(open(&sealed, key).unwrap().as_slice(), b"secret");
        }
        open(&sealed, b"own").unwrap_err();
        seal(b"secret", &[b"one", b"two", b"six"]).unwrap_err();
        // Nobody gets at it by cutting off the other's part.
        let mut one = sealed[..9 + SLOT].to_vec();
        one[8] = 1;
        one.extend_from_slice(&sealed[9 + 2 * SLOT..]);
        open(&one, b"old").unwrap_err();
    }
}
