//! Checkpoints: how far a log goes, in signed words
//! ([tlog-checkpoint](https://c2sp.org/tlog-checkpoint)).
//!
//! They carry the head out of the server's reach: agents and witnesses remember it, so that a server
//! restored from a backup finds out that it is behind, and nobody gets two histories told.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::note::{Note, NoteError, SigningKey, VerifierKey};
use super::tree::{Head, TreeHash};
use crate::id::TrustDomain;
use crate::time::UnixTime;

/// The first three lines of a checkpoint, of whichever log, and the others.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TreeHead {
    /// Which log: our own is called as [`origin`] says.
    pub origin: String,
    /// How far it goes.
    pub head: Head,
    /// What else its server says.
    pub extensions: Vec<String>,
}

/// The name of a server's log, and of the key that signs its checkpoints: `example.org/audit`.
#[must_use]
pub fn origin(trust_domain: &TrustDomain) -> String {
    format!("{trust_domain}/audit")
}

/// Text that is no checkpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("it is no checkpoint of a log")]
pub struct ParseCheckpointError;

impl TreeHead {
    /// The text that is signed.
    #[must_use]
    pub fn to_text(&self) -> String {
        let root = STANDARD.encode(self.head.root.as_bytes());
        let mut text = format!("{}\n{}\n{root}\n", self.origin, self.head.size);
        for line in &self.extensions {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

impl FromStr for TreeHead {
    type Err = ParseCheckpointError;

    fn from_str(text: &str) -> Result<Self, ParseCheckpointError> {
        let text = text.strip_suffix('\n').ok_or(ParseCheckpointError)?;
        let mut lines = text.split('\n');
        let mut line = || lines.next().filter(|line| !line.is_empty()).ok_or(ParseCheckpointError);
        let origin = line()?.to_owned();
        let size = decimal(line()?).ok_or(ParseCheckpointError)?;
        let root = hash(line()?).ok_or(ParseCheckpointError)?;
        let extensions: Vec<_> = lines.map(str::to_owned).collect();
        if extensions.iter().any(String::is_empty) {
            return Err(ParseCheckpointError);
        }
        Ok(Self { origin, head: Head { size, root }, extensions })
    }
}

/// A number without leading zeros.
pub(super) fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// A hash in base64.
pub(super) fn hash(text: &str) -> Option<TreeHash> {
    let bytes = STANDARD.decode(text).ok()?;
    bytes.try_into().ok().map(TreeHash::from_bytes)
}

/// What a server of ours says of its log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checkpoint {
    /// The trust domain of the server.
    pub trust_domain: TrustDomain,
    /// The epoch of its ledger.
    pub epoch: u64,
    /// How far the log goes.
    pub head: Head,
    /// When it was made.
    pub time: UnixTime,
}

impl Checkpoint {
    /// The text that is signed: the three lines of every checkpoint, then `epoch N` and `time N`.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Self { trust_domain, epoch, head, time } = self;
        let extensions = vec![format!("epoch {epoch}"), format!("time {}", time.as_secs())];
        TreeHead { origin: origin(trust_domain), head: *head, extensions }.to_text()
    }

    /// Whether `self` is at least as new as `other`: a later epoch, or a longer log in the same.
    #[must_use]
    pub fn supersedes(&self, other: &Self) -> bool {
        (self.epoch, self.head.size) >= (other.epoch, other.head.size)
    }
}

impl FromStr for Checkpoint {
    type Err = ParseCheckpointError;

    fn from_str(text: &str) -> Result<Self, ParseCheckpointError> {
        let TreeHead { origin, head, extensions } = text.parse()?;
        let domain = origin.strip_suffix("/audit").ok_or(ParseCheckpointError)?;
        let trust_domain = domain.parse().map_err(|_no_domain| ParseCheckpointError)?;
        let [epoch, time] = extensions.as_slice() else { return Err(ParseCheckpointError) };
        let number = |line: &str, name: &str| {
            line.strip_prefix(name).and_then(decimal).ok_or(ParseCheckpointError)
        };
        let time = UnixTime::from_secs(number(time, "time ")?);
        Ok(Self { trust_domain, epoch: number(epoch, "epoch ")?, head, time })
    }
}

/// A checkpoint whose signature was verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignedCheckpoint {
    note: Note,
    checkpoint: Checkpoint,
}

/// A note is not believed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OpenError {
    /// The note says something else.
    #[error(transparent)]
    Checkpoint(#[from] ParseCheckpointError),
    /// It is not signed as it should be.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The key belongs to another log.
    #[error("it is the checkpoint of `{origin}`, and the key belongs to `{key}`")]
    Origin {
        /// Whose checkpoint it is.
        origin: String,
        /// Whose key it is.
        key: String,
    },
}

impl SignedCheckpoint {
    /// `checkpoint`, signed by `key`.
    #[must_use]
    pub fn sign(checkpoint: Checkpoint, key: &SigningKey) -> Self {
        let text = checkpoint.to_text();
        let signature = key.sign(&text, checkpoint.time);
        Self { note: Note::new(text, signature), checkpoint }
    }

    /// The checkpoint in `note`, if `key` signed it and belongs to that log.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, OpenError> {
        let note: Note = note.parse()?;
        note.verify(key)?;
        let checkpoint: Checkpoint = note.text().parse()?;
        let origin = origin(&checkpoint.trust_domain);
        if origin != key.name() {
            return Err(OpenError::Origin { origin, key: key.name().to_owned() });
        }
        Ok(Self { note, checkpoint })
    }

    /// What it says.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The note, with all its signatures; only the log's own was verified.
    #[must_use]
    pub const fn note(&self) -> &Note {
        &self.note
    }

    /// The note, to add signatures to.
    pub const fn note_mut(&mut self) -> &mut Note {
        &mut self.note
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::Ed25519KeyPair;

    use super::*;
    use crate::audit::note::Kind;

    fn key(name: &str) -> SigningKey {
        let pkcs8 = Ed25519KeyPair::generate().unwrap().to_pkcs8().unwrap();
        SigningKey::from_pkcs8(name, Kind::Author, pkcs8.as_ref()).unwrap()
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            trust_domain: "example.org".parse().unwrap(),
            epoch: 3,
            head: Head { size: 42, root: TreeHash::from_bytes([6; 32]) },
            time: UnixTime::from_secs(1_800_000_000),
        }
    }

    #[test]
    fn the_text_is_pinned() {
        let text = "example.org/audit\n42\nBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgY=\n\
            epoch 3\ntime 1800000000\n";
        assert_eq!(checkpoint().to_text(), text);
        assert_eq!(text.parse(), Ok(checkpoint()));
        for (from, to) in [
            ("42", "042"),
            ("42", "x"),
            ("BgYG", "BgY"),
            ("BgYG", "BgYGBgYG"),
            ("epoch 3\n", ""),
            ("epoch 3", "epoch 03"),
            ("epoch 3\n", "\nepoch 3\n"),
            ("time", "tide"),
            ("00\n", "00"),
            ("00\n", "00\nmore\n"),
            ("/audit", ""),
            ("example.org", "Example.org"),
        ] {
            let wrong = text.replacen(from, to, 1);
            assert_eq!(wrong.parse::<Checkpoint>(), Err(ParseCheckpointError), "{wrong}");
        }
    }

    #[test]
    fn heads_of_other_logs_are_read() {
        let text =
            "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
        let head: TreeHead = text.parse().unwrap();
        assert_eq!((head.head.size, head.extensions.len()), (20_852_163, 0));
        assert_eq!(head.to_text(), text);
    }

    #[test]
    fn only_what_the_log_signed_is_opened() {
        let (ours, other) = (key("example.org/audit"), key("example.org/audit"));
        let signed = SignedCheckpoint::sign(checkpoint(), &ours);
        let note = signed.note().to_string();
        assert_eq!(SignedCheckpoint::open(&note, ours.public()), Ok(signed));
        let error = SignedCheckpoint::open(&note, other.public()).unwrap_err();
        assert!(matches!(error, OpenError::Note(NoteError::NotSigned { .. })), "{error}");
        let changed = note.replacen("42", "43", 1);
        let error = SignedCheckpoint::open(&changed, ours.public()).unwrap_err();
        assert!(matches!(error, OpenError::Note(NoteError::Forged { .. })), "{error}");
        let stranger = key("example.com/audit");
        let theirs = SignedCheckpoint::sign(checkpoint(), &stranger).note().to_string();
        let error = SignedCheckpoint::open(&theirs, stranger.public()).unwrap_err();
        assert!(matches!(error, OpenError::Origin { .. }), "{error}");
    }

    #[test]
    fn a_later_epoch_or_a_longer_log_is_newer() {
        let old = checkpoint();
        let mut new = old.clone();
        assert!(new.supersedes(&old));
        new.head.size = 43;
        assert!(new.supersedes(&old) && !old.supersedes(&new));
        new = Checkpoint { epoch: 4, head: Head::default(), ..new };
        assert!(new.supersedes(&old));
    }
}
