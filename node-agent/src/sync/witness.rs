//! The server's witness: remembers the newest checkpoint that it signed, and shows it when asked.
//!
//! A server that was restored from a backup has forgotten what it did after; its agents have not.
//! The key that signs checkpoints is pinned when it is first seen: whoever takes the server's place
//! with an older log cannot sign a newer checkpoint for it.

use std::future::pending;
use std::time::Duration;

use claviger_core::audit::checkpoint::OpenError;
use claviger_core::audit::note::{ParseKeyError, VerifierKey};
use claviger_core::audit::{Checkpoint, SignedCheckpoint};
use claviger_core::id::TrustDomain;
use claviger_proto::claviger::agent::v1 as wire;
use claviger_runtime::telemetry::Chain;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::{error, info};

use crate::files::{DataDir, DataDirError};
use crate::metrics;

/// Not `checkpoint.json`: that is what the first versions kept, of a log that was no tree.
const FILE: &str = "witnessed.json";

/// Longer than any checkpoint of ours with the signatures of its witnesses, in bytes.
const MAX_NOTE: usize = 16 << 10;

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

/// A checkpoint and the key that signed it.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Signed {
    checkpoint: SignedCheckpoint,
    key: VerifierKey,
}

/// The same in the file.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    note: String,
    key: VerifierKey,
}

impl Witness {
    /// What was remembered before the last stop.
    pub(crate) async fn load(dir: &DataDir) -> Result<Self, LoadWitnessError> {
        let Some(text) = dir.read(FILE).await? else { return Ok(Self::default()) };
        let path = dir.path(FILE).display().to_string();
        let Kept { note, key } = serde_json::from_slice(&text)
            .map_err(|source| LoadWitnessError::Damaged { path: path.clone(), source })?;
        let checkpoint = SignedCheckpoint::open(&note, &key)
            .map_err(|source| LoadWitnessError::Forged { path, source })?;
        Ok(Self { newest: Some(Signed { checkpoint, key }), ..Self::default() })
    }

    /// The newest checkpoint, to show.
    pub(crate) fn newest(&self) -> Option<wire::SignedCheckpoint> {
        self.newest.as_ref().map(Into::into)
    }

    /// Looks at a checkpoint: remembers it if it is newer, and raises an alarm if it contradicts
    /// what is remembered.
    pub(super) fn see(&mut self, wire: &wire::SignedCheckpoint, trust_domain: &TrustDomain) {
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
        wire: &wire::SignedCheckpoint,
        trust_domain: &TrustDomain,
    ) -> Result<bool, Alarm> {
        let seen = Signed::parse(wire, trust_domain)?;
        let Some(newest) = &self.newest else {
            let size = seen.checkpoint.checkpoint().head.size;
            info!(size, key = %seen.key, "first checkpoint: its key is pinned");
            self.newest = Some(seen);
            return Ok(true);
        };
        if newest.key != seen.key {
            return Err(Alarm::OtherKey);
        }
        let (old, new) = (newest.checkpoint.checkpoint(), seen.checkpoint.checkpoint());
        if !new.supersedes(old) {
            return Err(Alarm::Behind { remembered: old.head.size, shown: new.head.size });
        }
        if (new.epoch, new.head.size) == (old.epoch, old.head.size) {
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
        let saved = match serde_json::to_vec_pretty(&newest.kept()) {
            Ok(text) => dir.write(FILE, text.into()).await,
            Err(error) => return error!(%error, "cannot write a checkpoint"),
        };
        if let Err(error) = saved {
            error!(error = %Chain(&error), "cannot remember the server's checkpoint");
        }
    }
}

impl Signed {
    fn parse(wire: &wire::SignedCheckpoint, trust_domain: &TrustDomain) -> Result<Self, Alarm> {
        if MAX_NOTE < wire.note.len() || MAX_NOTE < wire.verifier_key.len() {
            return Err(Alarm::TooLong);
        }
        let key: VerifierKey = wire.verifier_key.parse()?;
        let checkpoint = SignedCheckpoint::open(&wire.note, &key)?;
        let Checkpoint { trust_domain: whose, .. } = checkpoint.checkpoint();
        if whose != trust_domain {
            return Err(Alarm::OtherDomain { whose: whose.clone() });
        }
        Ok(Self { checkpoint, key })
    }

    fn kept(&self) -> Kept {
        Kept { note: self.checkpoint.note().to_string(), key: self.key.clone() }
    }
}

impl From<&Signed> for wire::SignedCheckpoint {
    fn from(signed: &Signed) -> Self {
        let Kept { note, key } = signed.kept();
        Self { note, verifier_key: key.to_string() }
    }
}

/// Why a checkpoint is not believed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Alarm {
    /// It is longer than any.
    #[error("it is longer than {MAX_NOTE} bytes")]
    TooLong,
    /// What comes with it is no key.
    #[error(transparent)]
    Key(#[from] ParseKeyError),
    /// It is no checkpoint, or is not signed.
    #[error(transparent)]
    Note(#[from] OpenError),
    /// It is that of another trust domain.
    #[error("it is the checkpoint of the trust domain `{whose}`")]
    OtherDomain {
        /// Whose.
        whose: TrustDomain,
    },
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
    #[error("the server has signed another log of the same length")]
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
        source: OpenError,
    },
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::Ed25519KeyPair;
    use claviger_core::audit::note::{Kind, SigningKey};
    use claviger_core::audit::{Head, TreeHash};
    use claviger_core::time::UnixTime;
    use tempfile::tempdir;

    use super::*;

    struct Signer(SigningKey);

    impl Signer {
        fn new() -> Self {
            let pkcs8 = Ed25519KeyPair::generate().unwrap().to_pkcs8().unwrap();
            let name = "example.org/audit";
            Self(SigningKey::from_pkcs8(name, Kind::Author, pkcs8.as_ref()).unwrap())
        }

        fn sign(&self, epoch: u64, size: u64, root: u8) -> wire::SignedCheckpoint {
            let head = Head { size, root: TreeHash::from_bytes([root; 32]) };
            let (trust_domain, time) = (domain(), UnixTime::from_secs(7));
            let checkpoint = Checkpoint { trust_domain, epoch, head, time };
            let checkpoint = SignedCheckpoint::sign(checkpoint, &self.0);
            (&Signed { checkpoint, key: self.0.public().clone() }).into()
        }
    }

    fn domain() -> TrustDomain {
        "example.org".parse().unwrap()
    }

    fn size(witness: &Witness) -> u64 {
        witness.newest.as_ref().unwrap().checkpoint.checkpoint().head.size
    }

    #[test]
    fn the_newest_is_remembered() {
        let (server, mut witness) = (Signer::new(), Witness::default());
        assert_eq!(witness.newest(), None);
        for (epoch, number, is_newer) in [(1, 5, true), (1, 6, true), (1, 6, false), (2, 3, true)] {
            let judged = witness.judge(&server.sign(epoch, number, 9), &domain());
            assert_eq!(judged, Ok(is_newer));
            assert_eq!(size(&witness), number);
        }
    }

    #[test]
    fn a_contradiction_is_an_alarm_and_changes_nothing() {
        let (server, mut witness) = (Signer::new(), Witness::default());
        witness.judge(&server.sign(2, 5, 9), &domain()).unwrap();
        for (wire, alarm) in [
            (server.sign(2, 4, 9), Alarm::Behind { remembered: 5, shown: 4 }),
            (server.sign(1, 9, 9), Alarm::Behind { remembered: 5, shown: 9 }),
            (server.sign(2, 5, 8), Alarm::Forked),
            (Signer::new().sign(2, 6, 9), Alarm::OtherKey),
        ] {
            assert_eq!(witness.judge(&wire, &domain()), Err(alarm));
            assert_eq!(size(&witness), 5);
        }
        let mut tampered = server.sign(2, 6, 9);
        tampered.note = tampered.note.replace("\n6\n", "\n7\n");
        let long =
            wire::SignedCheckpoint { note: "a".repeat(MAX_NOTE + 1), ..server.sign(2, 6, 9) };
        let no_key = wire::SignedCheckpoint { verifier_key: String::new(), ..server.sign(2, 6, 9) };
        for wire in [tampered, long, no_key, wire::SignedCheckpoint::default()] {
            witness.judge(&wire, &domain()).unwrap_err();
            assert_eq!(size(&witness), 5);
        }
        let other: TrustDomain = "other.org".parse().unwrap();
        let alarm = Alarm::OtherDomain { whose: domain() };
        assert_eq!(witness.judge(&server.sign(2, 6, 9), &other), Err(alarm));
    }

    #[tokio::test]
    async fn it_outlives_a_restart_with_its_key() {
        let parent = tempdir().unwrap();
        let dir = DataDir::open(&parent.path().join("agent")).unwrap();
        let (server, mut witness) = (Signer::new(), Witness::load(&dir).await.unwrap());
        witness.see(&server.sign(1, 5, 9), &domain());
        witness.due().await;
        witness.save(&dir).await;
        let remembered = witness.newest();
        let mut witness = Witness::load(&dir).await.unwrap();
        assert_eq!(witness.newest(), remembered);
        let stranger = Signer::new().sign(1, 6, 9);
        assert_eq!(witness.judge(&stranger, &domain()), Err(Alarm::OtherKey));
    }

    #[tokio::test]
    async fn a_changed_file_is_not_believed() {
        let parent = tempdir().unwrap();
        let dir = DataDir::open(&parent.path().join("agent")).unwrap();
        let mut witness = Witness::default();
        witness.see(&Signer::new().sign(1, 5, 9), &domain());
        witness.save(&dir).await;
        let text = dir.read(FILE).await.unwrap().unwrap();
        let changed = String::from_utf8(text.to_vec()).unwrap().replace("\\n5\\n", "\\n4\\n");
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
        witness.see(&server.sign(1, 5, 9), &domain());
        witness.save(&dir).await;
        witness.see(&server.sign(1, 6, 9), &domain());
        let start = Instant::now();
        witness.due().await;
        assert!(SAVE_EVERY <= start.elapsed() + Duration::from_millis(50));
    }
}
