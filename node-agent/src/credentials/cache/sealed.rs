//! A file that only the agent's own private key opens.
//!
//! `magic`, 32 random bytes, then AES-256-GCM (NIST SP 800-38D) of the contents, the tag at its end. The key
//! is derived by HKDF-SHA256 (RFC 5869) from the agent's private key, with the random bytes as the salt:
//! each file has a key of its own, so its nonce is zero. An agent that renews its SVID has another key.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

const MAGIC: &[u8; 8] = b"clvsvid1";
const SALT: usize = 32;

/// `contents`, for whoever has `key`.
pub(super) fn seal(contents: &[u8], key: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut salt = [0; SALT];
    SystemRandom::new().fill(&mut salt)?;
    // Encrypted where it lies; the plain text is wiped should that fail.
    let mut body = Zeroizing::new(Vec::with_capacity(contents.len().saturating_add(16)));
    body.extend_from_slice(contents);
    sealing(&salt, key)?.seal_in_place_append_tag(nonce(), Aad::from(MAGIC), &mut *body)?;
    Ok([&MAGIC[..], &salt, &body].concat())
}

/// What was sealed.
pub(super) fn open(sealed: &[u8], key: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let rest = sealed.strip_prefix(MAGIC).ok_or(SealError::Foreign)?;
    let (salt, body) = rest.split_first_chunk::<SALT>().ok_or(SealError::Foreign)?;
    let mut body = Zeroizing::new(body.to_vec());
    let length = {
        let opened = sealing(salt, key)?.open_in_place(nonce(), Aad::from(MAGIC), &mut body);
        opened.map_err(|_unspecified| SealError::OtherKey)?.len()
    };
    body.truncate(length);
    Ok(body)
}

fn sealing(salt: &[u8; SALT], key: &[u8]) -> Result<LessSafeKey, Unspecified> {
    let secret = Salt::new(HKDF_SHA256, salt).extract(key);
    let expanded = secret.expand(&[b"claviger agent svids v1"], &AES_256_GCM)?;
    Ok(LessSafeKey::new(UnboundKey::from(expanded)))
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
    /// The agent has renewed its SVID since, or the file is damaged.
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
        let sealed = seal(b"secret", b"key").unwrap();
        assert_eq!(open(&sealed, b"key").unwrap().as_slice(), b"secret");
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_ne!(sealed, seal(b"secret", b"key").unwrap());
        open(&sealed, b"yek").unwrap_err();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            open(&changed, b"key").unwrap_err();
            open(&sealed[..at], b"key").unwrap_err();
        }
    }
}
