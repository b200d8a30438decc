//! The private keys of authorities, on disk.
//!
//! One file per key, named after what it signs (`keys/x509-<id>.key`, `jwt-<id>.key`,
//! `wit-<id>.key`), PKCS#8 in DER, readable by the server's user only. Memory that held a key is
//! wiped; while it is in use, it is the crypto library's.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, KeyPair as _,
};
use claviger_core::evidence::KeyDigest;
use claviger_core::svid::Profile;
use rcgen::{PublicKeyData, SignatureAlgorithm, SigningKey};
use zeroize::Zeroizing;

use crate::storage::secret_file;

/// The largest file that is read as a key; one for P-256 has 138 bytes.
const MAX_BYTES: usize = 1_024;

/// The private key of an authority: ECDSA P-256.
pub struct AuthorityKey {
    pair: EcdsaKeyPair,
}

impl AuthorityKey {
    /// A new key for `profile`, and its PKCS#8 form to keep.
    ///
    /// # Errors
    ///
    /// [`KeyFileError::Generate`] if there is no randomness.
    pub fn generate(profile: Profile) -> Result<(Self, Zeroizing<Vec<u8>>), KeyFileError> {
        let generate = || {
            let pair = EcdsaKeyPair::generate(algorithm(profile))?;
            let pkcs8 = Zeroizing::new(pair.to_pkcs8v1()?.as_ref().to_vec());
            Ok((Self { pair }, pkcs8))
        };
        generate().map_err(|_unspecified: aws_lc_rs::error::Unspecified| KeyFileError::Generate)
    }

    /// Names the key without carrying it.
    #[must_use]
    pub fn digest(&self) -> KeyDigest {
        KeyDigest::of_spki(&self.subject_public_key_info())
    }

    /// Signs `message`, in the form that the key's profile has it in.
    ///
    /// # Errors
    ///
    /// None that is known of: with a sound key and randomness there is always a signature.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, aws_lc_rs::error::Unspecified> {
        Ok(self.pair.sign(&SystemRandom::new(), message)?.as_ref().to_vec())
    }
}

/// In certificates a signature is ASN.1 (RFC 5758 §3.2), in tokens it is two numbers of 32 bytes
/// (RFC 7518 §3.4).
fn algorithm(profile: Profile) -> &'static EcdsaSigningAlgorithm {
    match profile {
        Profile::X509 => &ECDSA_P256_SHA256_ASN1_SIGNING,
        Profile::Jwt | Profile::Wit => &ECDSA_P256_SHA256_FIXED_SIGNING,
    }
}

impl PublicKeyData for AuthorityKey {
    fn der_bytes(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for AuthorityKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Self::sign(self, message).map_err(|_unspecified| rcgen::Error::RingUnspecified)
    }
}

impl fmt::Debug for AuthorityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthorityKey(..)")
    }
}

/// The keys of one profile, in a folder where others lie too.
#[derive(Clone, Debug)]
pub struct KeyFolder {
    folder: PathBuf,
    profile: Profile,
}

impl KeyFolder {
    /// The keys for `profile` in `folder`, which exists and is the server's alone.
    #[must_use]
    pub const fn new(folder: PathBuf, profile: Profile) -> Self {
        Self { folder, profile }
    }

    /// Writes the key named `id`; it would survive a power cut when this returns.
    ///
    /// # Errors
    ///
    /// [`KeyFileError::Io`].
    pub fn write(&self, id: &str, pkcs8: &[u8]) -> Result<(), KeyFileError> {
        let path = self.path(id);
        secret_file::write(&path, pkcs8).map_err(|source| KeyFileError::io("write", &path, source))
    }

    /// Reads the key named `id`.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`] if it is missing, readable by others or damaged.
    pub fn read(&self, id: &str) -> Result<AuthorityKey, KeyFileError> {
        const OTHERS: u32 = 0o077;
        let path = self.path(id);
        let failed = |source| KeyFileError::io("read", &path, source);
        let mode = fs::metadata(&path).map_err(failed)?.mode() & 0o777;
        if mode & OTHERS != 0 {
            return Err(KeyFileError::Exposed { path, mode });
        }
        let pkcs8 = secret_file::read(&path, MAX_BYTES).map_err(failed)?;
        pkcs8
            .and_then(|pkcs8| EcdsaKeyPair::from_pkcs8(algorithm(self.profile), &pkcs8).ok())
            .map(|pair| AuthorityKey { pair })
            .ok_or(KeyFileError::Damaged { path })
    }

    /// Removes every key of this profile but those named in `keep`.
    ///
    /// # Errors
    ///
    /// [`KeyFileError::Io`].
    pub fn keep_only(&self, keep: &[String]) -> Result<(), KeyFileError> {
        let failed = |source| KeyFileError::io("clean up", &self.folder, source);
        let ours = format!("{}-", self.profile);
        let kept: Vec<_> = keep.iter().map(|id| self.path(id)).collect();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with(&ours) && !kept.contains(&path) {
                secret_file::destroy(&path).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Where the key named `id` is.
    pub(super) fn path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{}-{id}.key", self.profile))
    }
}

/// Why an authority's key is not at hand.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The operating system gives no random bytes.
    #[error("no randomness to make a key from")]
    Generate,
    /// The operating system refused.
    #[error("cannot {doing} `{path}`", path = path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// Somebody else may have read it.
    #[error(
        "key file `{path}` has mode {mode:o}, so other users can get at it; `chmod 600` it if you \
         know that nobody has, otherwise remove the data directory and start anew",
        path = path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not a key.
    #[error("key file `{path}` is not an EC P-256 key in PKCS#8; restore it from a backup", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

impl KeyFileError {
    /// Whether there is no such file.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { doing, path: path.to_owned(), source }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use claviger_core::jose::{Algorithm, PublicKey};

    use super::*;

    fn folder(path: &Path) -> KeyFolder {
        KeyFolder::new(path.into(), Profile::X509)
    }

    #[test]
    fn a_key_comes_back_as_it_went() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path());
        let (key, pkcs8) = AuthorityKey::generate(Profile::X509).unwrap();
        folder.write("a", &pkcs8).unwrap();
        assert_eq!(folder.read("a").unwrap().der_bytes(), key.der_bytes());
        let path = dir.path().join("x509-a.key");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(format!("{key:?}"), "AuthorityKey(..)");
    }

    #[test]
    fn what_is_no_longer_needed_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path());
        let (_, pkcs8) = AuthorityKey::generate(Profile::X509).unwrap();
        folder.write("a", &pkcs8).unwrap();
        folder.write("b", &pkcs8).unwrap();
        fs::write(dir.path().join("x509-c.new"), "left by a crash").unwrap();
        fs::write(dir.path().join("jwt-a.key"), "another profile's").unwrap();
        folder.keep_only(&["b".to_owned()]).unwrap();
        folder.read("b").unwrap();
        let mut names: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["jwt-a.key", "x509-b.key"]);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path());
        let (_, pkcs8) = AuthorityKey::generate(Profile::X509).unwrap();
        folder.write("a", &pkcs8).unwrap();
        let path = dir.path().join("x509-a.key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = folder.read("a").unwrap_err().to_string();
        assert!(error.contains("mode 640") && error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_key_that_is_missing_or_damaged_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path());
        let error = folder.read("a").unwrap_err().to_string();
        assert!(error.contains("x509-a.key"), "{error}");
        folder.write("a", b"junk").unwrap();
        assert!(matches!(folder.read("a").unwrap_err(), KeyFileError::Damaged { .. }));
    }

    #[test]
    fn tokens_are_signed_as_tokens_are() {
        for profile in [Profile::Jwt, Profile::Wit] {
            let (key, _) = AuthorityKey::generate(profile).unwrap();
            let public = PublicKey::from_spki(&key.subject_public_key_info()).unwrap();
            let signature = key.sign(b"message").unwrap();
            assert_eq!(signature.len(), 64);
            assert!(public.verifies(Algorithm::Es256, b"message", &signature));
        }
    }
}
