//! The server's witness: remembers the newest checkpoint that it signed, and shows it when asked.
//!
//! A server that was restored from a backup has forgotten what it did after; its agents have not.
//! The key that signs checkpoints is pinned when it is first seen: whoever takes the server's place
//! with an older log cannot sign a newer checkpoint for it.

use std::future::pending;
use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use claviger_core::audit::{Checkpoint, Head, Link};
use claviger_core::id::TrustDomain;
use claviger_core::time::UnixTime;
use claviger_proto::claviger::agent::v1 as wire;
use claviger_runtime::telemetry::Chain;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::{error, info};

use crate::files::{DataDir, DataDirError};
use crate::metrics;

const FILE: &str = "checkpoint.json";

/// Larger than any key or signature of ours, in bytes.
const MAX_PART: usize = 256;

/// The file is written at most this often. A crash in between forgets a few seconds of the server's
/// past, of which its other agents know.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// What is remembered.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    newest: Option<Signed>,
    /// Whether it changed since it was last written, and when that was.
    unsaved: bool,
    saved: Option<Instant>,
}

/// A checkpoint and the proof that the server made it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    checkpoint: Checkpoint,
    #[serde(with = "hex::serde")]
    signature: Vec<u8>,
    #[serde(with = "hex::serde")]
    public_key: Vec<u8>,
}

impl Witness {
    /// What was remembered before the last stop.
    pub(crate) async fn load(dir: &DataDir) -> Result<Self, LoadWitnessError> {
        let Some(text) = dir.read(FILE).await? else { return Ok(Self::default()) };
        let path = dir.path(FILE).display().to_string();
        let signed: Signed = serde_json::from_slice(&text)
            .map_err(|source| LoadWitnessError::Damaged { path: path.clone(), source })?;
        signed.verify().map_err(|source| LoadWitnessError::Forged { path, source })?;
        Ok(Self { newest: Some(signed), ..Self::default() })
    }

    /// The newest checkpoint, to show.
    pub(crate) fn newest(&self) -> Option<wire::SignedCheckpoint> {
        self.newest.as_ref().map(Into::into)
    }

    /// Looks at a checkpoint: remembers it if it is newer, and raises an alarm if it contradicts
    /// what is remembered.
    pub(super) fn see(&mut self, wire: wire::SignedCheckpoint, trust_domain: &TrustDomain) {
        match self.judge(wire, trust_domain) {
            Ok(true) => self.unsaved = true,
            Ok(false) => {}
            Err(alarm) => {
                metrics::checkpoint_alarm();
                error!(error = %Chain(&alarm), "the server's checkpoint is not believed");
            }
        }
    }

    fn judge(
        &mut self,
        wire: wire::SignedCheckpoint,
        trust_domain: &TrustDomain,
    ) -> Result<bool, Alarm> {
        let seen = Signed::parse(wire, trust_domain)?;
        seen.verify()?;
        let Some(newest) = &self.newest else {
            info!(sequence = seen.checkpoint.head.sequence, "first checkpoint: its key is pinned");
            self.newest = Some(seen);
            return Ok(true);
        };
        if newest.public_key != seen.public_key {
            return Err(Alarm::OtherKey);
        }
        let (old, new) = (&newest.checkpoint, &seen.checkpoint);
        if !new.supersedes(old) {
            return Err(Alarm::Behind { remembered: old.head.sequence, shown: new.head.sequence });
        }
        if (new.epoch, new.head.sequence) == (old.epoch, old.head.sequence) {
            return if new.head == old.head { Ok(false) } else { Err(Alarm::Forked) };
        }
        self.newest = Some(seen);
        Ok(true)
    }

    /// Waits until there is something to write, and it is time to.
    pub(super) async fn due(&self) {
        if !self.unsaved {
            pending::<()>().await;
        }
        if let Some(saved) = self.saved {
            tokio::time::sleep_until(saved + SAVE_EVERY).await;
        }
    }

    /// Writes what changed.
    pub(super) async fn save(&mut self, dir: &DataDir) {
        let Some(newest) = self.newest.as_ref().filter(|_| self.unsaved) else { return };
        // Even if it fails: it is tried again with the next checkpoint, and not in a loop.
        self.unsaved = false;
        self.saved = Some(Instant::now());
        let saved = match serde_json::to_vec_pretty(newest) {
            Ok(text) => dir.write(FILE, text.into()).await,
            Err(error) => return error!(%error, "cannot write a checkpoint"),
        };
        if let Err(error) = saved {
            error!(error = %Chain(&error), "cannot remember the server's checkpoint");
        }
    }
}

impl Signed {
    fn parse(wire: wire::SignedCheckpoint, trust_domain: &TrustDomain) -> Result<Self, Alarm> {
        let wire::SignedCheckpoint { epoch, sequence, hash, time, signature, public_key } = wire;
        let hash = <[u8; 32]>::try_from(hash).map_err(|_wrong_length| Alarm::Malformed)?;
        if MAX_PART < signature.len() || MAX_PART < public_key.len() {
            return Err(Alarm::Malformed);
        }
        let head = Head { sequence, link: Link::from_bytes(hash) };
        let time = UnixTime::from_secs(time);
        let trust_domain = trust_domain.clone();
        let checkpoint = Checkpoint { trust_domain, epoch, head, time };
        Ok(Self { checkpoint, signature, public_key })
    }

    fn verify(&self) -> Result<(), Alarm> {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.public_key);
        let signed = self.checkpoint.to_signed_bytes();
        key.verify(&signed, &self.signature).map_err(|_unspecified| Alarm::Signature)
    }
}

impl From<&Signed> for wire::SignedCheckpoint {
    fn from(signed: &Signed) -> Self {
        let Checkpoint { epoch, head, time, .. } = &signed.checkpoint;
        Self {
            epoch: *epoch,
            sequence: head.sequence,
            hash: head.link.as_bytes().to_vec(),
            time: time.as_secs(),
            signature: signed.signature.clone(),
            public_key: signed.public_key.clone(),
        }
    }
}

/// Why a checkpoint is not believed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Alarm {
    /// It is no checkpoint.
    #[error("it is malformed")]
    Malformed,
    /// Nobody signed it.
    #[error("its signature is wrong")]
    Signature,
    /// Somebody else signed it.
    #[error(
        "it is signed with another key than before; if the server was set up anew, remove \
         {FILE} from the agent's directory"
    )]
    OtherKey,
    /// The log is shorter than it was.
    #[error("the server's log ends at record {shown}, and it has signed record {remembered}")]
    Behind {
        /// What it has signed before.
        remembered: u64,
        /// What it shows now.
        shown: u64,
    },
    /// The log is another.
    #[error("the server has signed another record under the same number")]
    Forked,
}

/// What was remembered can't be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadWitnessError {
    /// The directory can't be used.
    #[error(transparent)]
    Dir(#[from] DataDirError),
    /// The file is not what we wrote.
    #[error("`{path}` is damaged; remove it to trust the server's next checkpoint")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The file was changed.
    #[error("the checkpoint in `{path}` is not the server's; remove it to trust the next one")]
    Forged {
        /// The file.
        path: String,
        /// What is wrong.
        source: Alarm,
    },
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
    use tempfile::tempdir;

    use super::*;

    struct Signer(EcdsaKeyPair);

    impl Signer {
        fn new() -> Self {
            Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap())
        }

        fn sign(&self, epoch: u64, sequence: u64, hash: u8) -> wire::SignedCheckpoint {
            let head = Head { sequence, link: Link::from_bytes([hash; 32]) };
            let time = UnixTime::from_secs(7);
            let checkpoint = Checkpoint { trust_domain: domain(), epoch, head, time };
            let bytes = checkpoint.to_signed_bytes();
            let signature = self.0.sign(&SystemRandom::new(), &bytes).unwrap().as_ref().to_vec();
            let public_key = self.0.public_key().as_der().unwrap().as_ref().to_vec();
            (&Signed { checkpoint, signature, public_key }).into()
        }
    }

    fn domain() -> TrustDomain {
        "example.org".parse().unwrap()
    }

    fn sequence(witness: &Witness) -> u64 {
        witness.newest().unwrap().sequence
    }

    #[test]
    fn the_newest_is_remembered() {
        let (server, mut witness) = (Signer::new(), Witness::default());
        assert_eq!(witness.newest(), None);
        for (epoch, number, is_newer) in [(1, 5, true), (1, 6, true), (1, 6, false), (2, 3, true)] {
            let judged = witness.judge(server.sign(epoch, number, 9), &domain());
            assert_eq!(judged, Ok(is_newer));
            assert_eq!(sequence(&witness), number);
        }
    }

    #[test]
    fn a_contradiction_is_an_alarm_and_changes_nothing() {
        let (server, mut witness) = (Signer::new(), Witness::default());
        witness.judge(server.sign(2, 5, 9), &domain()).unwrap();
        let mut tampered = server.sign(2, 6, 9);
        tampered.sequence = 7;
        let mut short = server.sign(2, 6, 9);
        short.hash.pop();
        for (wire, alarm) in [
            (server.sign(2, 4, 9), Alarm::Behind { remembered: 5, shown: 4 }),
            (server.sign(1, 9, 9), Alarm::Behind { remembered: 5, shown: 9 }),
            (server.sign(2, 5, 8), Alarm::Forked),
            (Signer::new().sign(2, 6, 9), Alarm::OtherKey),
            (tampered, Alarm::Signature),
            (short, Alarm::Malformed),
        ] {
            assert_eq!(witness.judge(wire, &domain()), Err(alarm));
            assert_eq!(sequence(&witness), 5);
        }
        let other: TrustDomain = "other.org".parse().unwrap();
        assert_eq!(witness.judge(server.sign(2, 6, 9), &other), Err(Alarm::Signature));
    }

    #[tokio::test]
    async fn it_outlives_a_restart_with_its_key() {
        let parent = tempdir().unwrap();
        let dir = DataDir::open(&parent.path().join("agent")).unwrap();
        let (server, mut witness) = (Signer::new(), Witness::load(&dir).await.unwrap());
        witness.see(server.sign(1, 5, 9), &domain());
        witness.due().await;
        witness.save(&dir).await;
        let remembered = witness.newest();
        let mut witness = Witness::load(&dir).await.unwrap();
        assert_eq!(witness.newest(), remembered);
        let stranger = Signer::new().sign(1, 6, 9);
        assert_eq!(witness.judge(stranger, &domain()), Err(Alarm::OtherKey));
    }

    #[tokio::test]
    async fn a_changed_file_is_not_believed() {
        let parent = tempdir().unwrap();
        let dir = DataDir::open(&parent.path().join("agent")).unwrap();
        let mut witness = Witness::default();
        witness.see(Signer::new().sign(1, 5, 9), &domain());
        witness.save(&dir).await;
        let text = dir.read(FILE).await.unwrap().unwrap();
        let changed = String::from_utf8(text.to_vec()).unwrap().replace(": 5", ": 4");
        dir.write(FILE, changed.into_bytes().into()).await.unwrap();
        let error = Witness::load(&dir).await.unwrap_err();
        assert!(matches!(error, LoadWitnessError::Forged { .. }), "{error}");
        dir.write(FILE, b"{}".to_vec().into()).await.unwrap();
        let error = Witness::load(&dir).await.unwrap_err();
        assert!(matches!(error, LoadWitnessError::Damaged { .. }), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_disk_is_not_written_for_every_record() {
        let parent = tempdir().unwrap();
        let dir = DataDir::open(&parent.path().join("agent")).unwrap();
        let (server, mut witness) = (Signer::new(), Witness::default());
        witness.see(server.sign(1, 5, 9), &domain());
        witness.save(&dir).await;
        witness.see(server.sign(1, 6, 9), &domain());
        let start = Instant::now();
        witness.due().await;
        assert!(SAVE_EVERY <= start.elapsed() + Duration::from_millis(50));
    }
}
