//! Secrets that lie in a store which others can read: wrapped by a key that every server has from elsewhere.
//!
//! AES-256-GCM, with what the secret is for as additional data: a wrapped secret that was put in another's
//! place does not open.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::error::Unspecified;
use zeroize::Zeroizing;

use super::secret_file;

/// The key that wraps others.
pub(crate) struct WrappingKey(RandomizedNonceKey);

impl fmt::Debug for WrappingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WrappingKey(..)")
    }
}

/// The key that wraps others can't be had.
#[derive(Debug, thiserror::Error)]
pub enum WrappingKeyError {
    /// The operating system refuses.
    #[error(
        "cannot read `{path}`; `store.key-file` has to be a file that this server may read: make one with \
         `openssl rand -hex 32` and give it to every server of this database",
        path = path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// Somebody else may have read it.
    #[error(
        "`{path}` has mode {mode:o}, so other users can read it; `chmod 600` it if you know that nobody has",
        path = path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is no key.
    #[error(
        "`{path}` has to hold 64 hexadecimal digits, as `openssl rand -hex 32` makes them",
        path = path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

impl WrappingKey {
    /// The key in the file at `path`: 64 hexadecimal digits, perhaps with a line break behind them.
    ///
    /// # Errors
    ///
    /// [`WrappingKeyError`].
    pub(crate) fn read(path: &Path) -> Result<Self, WrappingKeyError> {
        const OTHERS: u32 = 0o077;
        let failed = |source| WrappingKeyError::Read { path: path.to_owned(), source };
        let malformed = || WrappingKeyError::Malformed { path: path.to_owned() };
        let mode = fs::metadata(path).map_err(failed)?.mode() & 0o777;
        if mode & OTHERS != 0 {
            return Err(WrappingKeyError::Exposed { path: path.to_owned(), mode });
        }
        let text = match secret_file::read(path, 66) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(malformed()),
            text => text.map_err(failed)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?,
        };
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim_ascii(), &mut *key).map_err(|_detail| malformed())?;
        Self::new(&key).map_err(|_unspecified| malformed())
    }

    fn new(key: &[u8; 32]) -> Result<Self, Unspecified> {
        RandomizedNonceKey::new(&AES_256_GCM, key).map(Self)
    }

    /// Wraps `secret` for `purpose`.
    ///
    /// # Errors
    ///
    /// [`Unspecified`] if there are no random bytes.
    pub(crate) fn wrap(&self, purpose: &str, secret: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let mut sealed = Zeroizing::new(secret.to_vec());
        let purpose = Aad::from(purpose.as_bytes());
        let tag = self.0.seal_in_place_separate_tag(purpose, &mut sealed)?;
        let (nonce, tag): (Nonce, _) = tag;
        Ok([&nonce.as_ref()[..], &sealed, tag.as_ref()].concat())
    }

    /// The secret that was wrapped for `purpose`; `None` if it was by another key, for something else, or
    /// was changed.
    pub(crate) fn unwrap(&self, purpose: &str, wrapped: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = wrapped.split_first_chunk::<12>()?;
        let mut secret = Zeroizing::new(sealed.to_vec());
        let purpose = Aad::from(purpose.as_bytes());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.0.open_in_place(nonce, purpose, &mut secret).ok()?.len();
        secret.truncate(length);
        Some(secret)
    }

    #[cfg(test)]
    pub(crate) fn of_tests() -> Self {
        Self::new(&[7; 32]).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn opens_with_the_same_key_for_the_same_purpose_only() {
        let key = WrappingKey::of_tests();
        let wrapped = key.wrap("root 1", b"secret").unwrap();
        assert_ne!(wrapped, key.wrap("root 1", b"secret").unwrap());
        assert_eq!(key.unwrap("root 1", &wrapped).unwrap().as_slice(), b"secret");
        assert!(key.unwrap("root 2", &wrapped).is_none());
        assert!(WrappingKey::new(&[8; 32]).unwrap().unwrap("root 1", &wrapped).is_none());
        for at in 0..wrapped.len() {
            let mut changed = wrapped.clone();
            changed[at] ^= 1;
            assert!(key.unwrap("root 1", &changed).is_none(), "byte {at}");
        }
        assert!(key.unwrap("root 1", b"short").is_none());
    }

    #[test]
    fn a_file_says_what_it_has_to_be() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        assert!(WrappingKey::read(&path).unwrap_err().to_string().contains("openssl rand"));
        let write = |text: &str, mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        write(&"07".repeat(32), 0o640);
        assert!(WrappingKey::read(&path).unwrap_err().to_string().contains("chmod 600"));
        for wrong in ["", "07", &"0g".repeat(32), &"07".repeat(33), &"07".repeat(99)] {
            write(wrong, 0o600);
            let refused = WrappingKey::read(&path).unwrap_err().to_string();
            assert!(refused.contains("64 hexadecimal"), "{refused}");
        }
        write(&format!("{}\n", "07".repeat(32)), 0o600);
        let wrapped = WrappingKey::of_tests().wrap("a", b"b").unwrap();
        assert!(WrappingKey::read(&path).unwrap().unwrap("a", &wrapped).is_some());
    }
}
