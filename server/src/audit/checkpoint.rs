//! Signed checkpoints: the server's memory of its own log, kept by others.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use claviger_core::audit::checkpoint::origin;
use claviger_core::audit::note::{Kind, SigningKey, VerifierKey};
use claviger_core::audit::{Checkpoint, Head, SignedCheckpoint};
use claviger_core::id::TrustDomain;
use claviger_core::time::UnixTime;
use tracing::warn;

use super::tiles;
use crate::epoch::{Doubt, Epochs};
use crate::journal::{Change, CommitError, Journal, Require};
use crate::storage::secret_file;
use crate::storage::wrapping::WrappingKey;
use crate::store::{Space, StoreError, Write, meta};

/// The most bytes of a key.
const MAX_BYTES: usize = 1_024;

/// What a checkpoint that comes back tells.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The log contains it.
    Fine,
    /// The log does not contain it: this server is a restored backup. The caller begins a new
    /// epoch: `epochs.fence(epoch, &doubt)`.
    Behind {
        /// The epoch of the checkpoint, above which the new one has to be.
        epoch: u64,
        /// The reason.
        doubt: Doubt,
    },
    /// This server did not sign it.
    NotOurs,
}

/// Signs checkpoints, and judges those that come back.
pub struct Checkpoints {
    key: SigningKey,
    trust_domain: TrustDomain,
    journal: Journal,
    epochs: Epochs,
    /// The newest that witnesses have signed.
    witnessed: ArcSwapOption<SignedCheckpoint>,
}

impl fmt::Debug for Checkpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoints").field("key", &self.key).finish_non_exhaustive()
    }
}

/// The key that signs checkpoints can't be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file can't be read or written.
    #[error("cannot read or write it")]
    File(#[from] io::Error),
    /// The file holds no such key.
    #[error("it is not an Ed25519 key in PKCS#8; if it is damaged beyond repair, remove it")]
    Malformed,
    /// No key could be made.
    #[error("the cryptographic library makes no key")]
    Generate,
    /// The store can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It could not be written down.
    #[error("cannot write it")]
    Commit(#[source] CommitError),
    /// It does not open.
    #[error(
        "it was wrapped by another key; give every server of the database the same `store.key-file`"
    )]
    OtherWrapping,
}

/// Where the key that signs checkpoints is.
#[derive(Debug)]
pub(crate) enum KeyPlace {
    /// In this file: one server's own.
    File(PathBuf),
    /// In the store that servers share, wrapped by this key. They write one log, and have one name in it.
    Shared(Arc<WrappingKey>),
}

/// What a wrapped key is for.
const PURPOSE: &str = "claviger audit key v1";

impl KeyPlace {
    /// The key called `name`, which is made if there is none.
    async fn key(&self, name: &str, journal: &Journal) -> Result<SigningKey, KeyError> {
        match self {
            Self::File(path) => key(path, name),
            Self::Shared(wrapping) => shared_key(wrapping, name, journal).await,
        }
    }

    /// The write that puts the key in the file at `path`, if there is one, where servers share it.
    pub(crate) fn share(path: &Path, wrapping: &WrappingKey) -> Result<Option<Write>, KeyError> {
        let Some(pkcs8) = secret_file::read(path, MAX_BYTES)? else { return Ok(None) };
        let wrapped = wrapping.wrap(PURPOSE, &pkcs8).map_err(|_unspecified| KeyError::Generate)?;
        Ok(Some(Write::put(Space::Meta, meta::AUDIT_KEY, wrapped)))
    }
}

/// The key called `name` that servers share. Several that begin at the same time take the first's.
async fn shared_key(
    wrapping: &WrappingKey,
    name: &str,
    journal: &Journal,
) -> Result<SigningKey, KeyError> {
    loop {
        if let Some(wrapped) = journal.store().get(Space::Meta, meta::AUDIT_KEY).await? {
            let pkcs8 = wrapping.unwrap(PURPOSE, &wrapped).ok_or(KeyError::OtherWrapping)?;
            let key = SigningKey::from_pkcs8(name, Kind::Author, &pkcs8);
            return key.map_err(|_wrong| KeyError::Malformed);
        }
        let made = Ed25519KeyPair::generate().and_then(|pair| pair.to_pkcs8v1());
        let wrapped = made.and_then(|pkcs8| wrapping.wrap(PURPOSE, pkcs8.as_ref()));
        let wrapped = wrapped.map_err(|_unspecified| KeyError::Generate)?;
        let first = Change {
            require: vec![Require::absent(Space::Meta, meta::AUDIT_KEY)],
            writes: vec![Write::put(Space::Meta, meta::AUDIT_KEY, wrapped)],
            ..Change::default()
        };
        match journal.commit(first).await {
            Ok(_) | Err(CommitError::Conflict { .. }) => {}
            Err(error) => return Err(KeyError::Commit(error)),
        }
    }
}

/// The key called `name` in the file at `path`, which is made if it does not exist. In the place of
/// one of the first versions, of ECDSA, comes a new one.
fn key(path: &Path, name: &str) -> Result<SigningKey, KeyError> {
    let of = |pkcs8: &[u8]| SigningKey::from_pkcs8(name, Kind::Author, pkcs8);
    if let Some(pkcs8) = secret_file::read(path, MAX_BYTES)? {
        match of(&pkcs8) {
            Ok(key) => return Ok(key),
            Err(_) if EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8).is_ok() => {
                warn!("checkpoints of the audit log are signed by a new key, of Ed25519");
            }
            Err(_) => return Err(KeyError::Malformed),
        }
    }
    let made = Ed25519KeyPair::generate().and_then(|pair| pair.to_pkcs8v1());
    let pkcs8 = made.map_err(|_unspecified| KeyError::Generate)?;
    secret_file::write(path, pkcs8.as_ref())?;
    of(pkcs8.as_ref()).map_err(|_wrong| KeyError::Generate)
}

impl Checkpoints {
    /// By the key at `place`, which is made if it does not exist.
    ///
    /// # Errors
    ///
    /// [`KeyError`].
    pub(crate) async fn open(
        place: &KeyPlace,
        trust_domain: TrustDomain,
        journal: Journal,
        epochs: Epochs,
    ) -> Result<Self, KeyError> {
        let key = place.key(&origin(&trust_domain), &journal).await?;
        Ok(Self { key, trust_domain, journal, epochs, witnessed: ArcSwapOption::empty() })
    }

    /// What others verify checkpoints with.
    #[must_use]
    pub const fn key(&self) -> &VerifierKey {
        self.key.public()
    }

    /// A checkpoint of the log as it is now.
    #[must_use]
    pub fn sign_now(&self) -> SignedCheckpoint {
        // The epoch first: a head that is newer than it should be does no harm.
        let epoch = self.epochs.current().number;
        let head = *self.journal.head().borrow();
        self.sign(head, epoch, self.epochs.time().now())
    }

    /// A checkpoint that says the log went as far as `head` in `epoch` at `time`.
    #[must_use]
    pub fn sign(&self, head: Head, epoch: u64, time: UnixTime) -> SignedCheckpoint {
        let checkpoint = Checkpoint { trust_domain: self.trust_domain.clone(), epoch, head, time };
        SignedCheckpoint::sign(checkpoint, &self.key)
    }

    /// The newest checkpoint that witnesses have signed, too; if any has.
    #[must_use]
    pub fn witnessed(&self) -> Option<Arc<SignedCheckpoint>> {
        self.witnessed.load_full()
    }

    /// Keeps a checkpoint that witnesses have signed.
    pub(super) fn remember_witnessed(&self, signed: SignedCheckpoint) {
        self.witnessed.store(Some(Arc::new(signed)));
    }

    /// Compares a checkpoint that somebody remembers with the log.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the log can't be read.
    pub async fn judge(&self, note: &str) -> Result<Verdict, StoreError> {
        let Ok(presented) = SignedCheckpoint::open(note, self.key()) else {
            return Ok(Verdict::NotOurs);
        };
        let presented = presented.checkpoint();
        if self.contains(presented).await? {
            return Ok(Verdict::Fine);
        }
        if self.journal.store().is_shared() {
            // Another server may have written it, and here it is not known yet.
            let known = self.journal.commit(Change::default()).await;
            known.map_err(|error| StoreError::failed("be brought up to date", error))?;
            self.journal.catch_up().await;
            if self.contains(presented).await? {
                return Ok(Verdict::Fine);
            }
        }
        let Checkpoint { epoch, head, .. } = presented;
        let doubt = Doubt::CheckpointAhead { epoch: *epoch, sequence: head.size };
        Ok(Verdict::Behind { epoch: *epoch, doubt })
    }

    /// Whether the log, as far as this server knows it, has what was `presented`; or went on in another
    /// epoch, so that it does not matter.
    async fn contains(&self, presented: &Checkpoint) -> Result<bool, StoreError> {
        let Checkpoint { epoch, head, .. } = presented;
        let current = self.epochs.current().number;
        if *epoch < current {
            return Ok(true);
        }
        let reached = self.journal.head().borrow().size;
        let store = &**self.journal.store();
        Ok(*epoch == current
            && head.size <= reached
            && tiles::head_at(store, head.size).await? == *head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stays_and_one_of_the_first_versions_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.key");
        let made = key(&path, "example.org/audit").unwrap();
        assert_eq!(key(&path, "example.org/audit").unwrap().public(), made.public());

        let old = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        secret_file::write(&path, old.to_pkcs8v1().unwrap().as_ref()).unwrap();
        let new = key(&path, "example.org/audit").unwrap();
        assert_ne!(new.public(), made.public());
        assert_eq!(key(&path, "example.org/audit").unwrap().public(), new.public());

        secret_file::write(&path, b"damaged").unwrap();
        let error = key(&path, "example.org/audit").unwrap_err();
        assert!(matches!(error, KeyError::Malformed), "{error}");
    }
}
