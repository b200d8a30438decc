//! Signed checkpoints: the server's memory of its own log, kept by others.

use std::fmt;
use std::io;
use std::path::Path;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use claviger_core::audit::{Checkpoint, Head};
use claviger_core::id::TrustDomain;
use claviger_core::time::UnixTime;

use super::record;
use crate::epoch::{Doubt, Epochs};
use crate::journal::Journal;
use crate::storage::secret_file;
use crate::store::StoreError;

/// How far the log went, in the server's own signed words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignedCheckpoint {
    /// What is said.
    pub checkpoint: Checkpoint,
    /// ECDSA P-256 with SHA-256, in ASN.1, over [`Checkpoint::to_signed_bytes`].
    pub signature: Vec<u8>,
    /// The DER SubjectPublicKeyInfo of the key that signed.
    pub public_key: Vec<u8>,
}

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
    key: EcdsaKeyPair,
    public_key: Vec<u8>,
    trust_domain: TrustDomain,
    journal: Journal,
    epochs: Epochs,
}

impl fmt::Debug for Checkpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoints")
            .field("trust_domain", &self.trust_domain)
            .field("key", &format_args!(".."))
            .finish_non_exhaustive()
    }
}

/// The key that signs checkpoints can't be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file can't be read or written.
    #[error("cannot read or write it")]
    File(#[from] io::Error),
    /// The file holds no such key.
    #[error("it is not an ECDSA P-256 key in PKCS#8; if it is damaged beyond repair, remove it")]
    Malformed,
    /// No key could be made.
    #[error("the cryptographic library makes no key")]
    Generate,
}

impl Checkpoints {
    /// The key in the file at `path`, which is made if it does not exist.
    ///
    /// # Errors
    ///
    /// [`KeyError`].
    pub(crate) fn open(
        path: &Path,
        trust_domain: TrustDomain,
        journal: Journal,
        epochs: Epochs,
    ) -> Result<Self, KeyError> {
        let key = if let Some(pkcs8) = secret_file::read(path, 1_024)? {
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8)
                .map_err(|_rejected| KeyError::Malformed)?
        } else {
            let failed = |_: Unspecified| KeyError::Generate;
            let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(failed)?;
            secret_file::write(path, key.to_pkcs8v1().map_err(failed)?.as_ref())?;
            key
        };
        let spki: Result<PublicKeyX509Der<'_>, Unspecified> = key.public_key().as_der();
        let public_key = spki.map_err(|_unspecified| KeyError::Malformed)?.as_ref().to_vec();
        Ok(Self { key, public_key, trust_domain, journal, epochs })
    }

    /// A checkpoint of the log as it is now.
    ///
    /// # Errors
    ///
    /// [`Unspecified`] if the cryptographic library refuses, which it has no reason to.
    pub fn sign_now(&self) -> Result<SignedCheckpoint, Unspecified> {
        // The epoch first: a head that is newer than it should be does no harm.
        let epoch = self.epochs.current().number;
        let head = *self.journal.head().borrow();
        self.sign(head, epoch, self.epochs.time().now())
    }

    /// A checkpoint that says the log went as far as `head` in `epoch` at `time`.
    ///
    /// # Errors
    ///
    /// As [`Self::sign_now`].
    pub fn sign(
        &self,
        head: Head,
        epoch: u64,
        time: UnixTime,
    ) -> Result<SignedCheckpoint, Unspecified> {
        let checkpoint = Checkpoint { trust_domain: self.trust_domain.clone(), epoch, head, time };
        let signature = self.key.sign(&SystemRandom::new(), &checkpoint.to_signed_bytes())?;
        let signature = signature.as_ref().to_vec();
        Ok(SignedCheckpoint { checkpoint, signature, public_key: self.public_key.clone() })
    }

    /// Compares a checkpoint that somebody remembers with the log.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the log can't be read.
    pub async fn judge(&self, presented: &SignedCheckpoint) -> Result<Verdict, StoreError> {
        let SignedCheckpoint { checkpoint, .. } = presented;
        if !self.signed(presented) {
            return Ok(Verdict::NotOurs);
        }
        let (epoch, sequence) = (checkpoint.epoch, checkpoint.head.sequence);
        let current = self.epochs.current().number;
        if epoch < current {
            return Ok(Verdict::Fine);
        }
        let contained = epoch == current
            && (sequence == 0
                || record::link(&**self.journal.store(), sequence).await?
                    == Some(checkpoint.head.link));
        if contained {
            return Ok(Verdict::Fine);
        }
        Ok(Verdict::Behind { epoch, doubt: Doubt::CheckpointAhead { epoch, sequence } })
    }

    fn signed(&self, presented: &SignedCheckpoint) -> bool {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.public_key);
        presented.public_key == self.public_key
            && presented.checkpoint.trust_domain == self.trust_domain
            && key.verify(&presented.checkpoint.to_signed_bytes(), &presented.signature).is_ok()
    }
}
