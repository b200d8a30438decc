//! Checkpoints as a server signs them, and as they lie in files.

use std::path::Path;

use claviger_core::audit::note::{MAX_BYTES, Note, VerifierKey};
use claviger_core::audit::{Checkpoint, SignedCheckpoint};
use claviger_core::time::UnixTime;
use claviger_proto::claviger::admin::v1::GetCheckpointRequest;
use claviger_proto::claviger::agent::v1 as wire;
use claviger_runtime::telemetry::Chain;
use serde::{Deserialize, Serialize};

use crate::admin::Server;
use crate::failure::Failure;

/// A checkpoint whose signature was verified, and the key that signed.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) checkpoint: SignedCheckpoint,
    pub(super) key: VerifierKey,
}

/// The last line of an export.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LastLine {
    /// The signed note.
    checkpoint: String,
    /// The key that signed.
    key: VerifierKey,
}

impl Signed {
    /// What `server` signs now. It has to be signed by `trusted`, if given, or else by the key that
    /// comes with it.
    pub(super) async fn now(
        server: &Server,
        trusted: Option<&VerifierKey>,
    ) -> Result<Self, Failure> {
        Self::ask(server, false, trusted).await
    }

    /// The same; or the newest that witnesses have signed, too, if that is `witnessed`.
    pub(super) async fn ask(
        server: &Server,
        witnessed: bool,
        trusted: Option<&VerifierKey>,
    ) -> Result<Self, Failure> {
        let request = GetCheckpointRequest { witnessed };
        let mut admin = server.admin();
        let wire = server.ask("get a checkpoint", admin.get_checkpoint(request)).await?;
        Self::open_wire(&wire, trusted)
    }

    pub(super) fn open_wire(
        wire: &wire::SignedCheckpoint,
        trusted: Option<&VerifierKey>,
    ) -> Result<Self, Failure> {
        let key = wire.verifier_key.parse().map_err(|error| {
            Failure::failed(format_args!("the server's key for checkpoints: {error}"))
        })?;
        Self::open(&wire.note, trusted.cloned().unwrap_or(key))
    }

    pub(super) fn open(note: &str, key: VerifierKey) -> Result<Self, Failure> {
        let checkpoint = SignedCheckpoint::open(note, &key).map_err(|error| {
            Failure::failed(format_args!("the checkpoint is not believed: {}", Chain(&error)))
                .try_this("if the server was set up anew, ask whoever did for its new key")
        })?;
        Ok(Self { checkpoint, key })
    }

    pub(super) fn from_line(
        line: &LastLine,
        trusted: Option<&VerifierKey>,
    ) -> Result<Self, Failure> {
        Self::open(&line.checkpoint, trusted.unwrap_or(&line.key).clone())
    }

    pub(super) fn to_line(&self) -> LastLine {
        LastLine { checkpoint: self.checkpoint.note().to_string(), key: self.key.clone() }
    }

    pub(super) fn shown(&self) -> Shown {
        let Checkpoint { epoch, head, time, .. } = self.checkpoint.checkpoint();
        Shown { epoch: *epoch, size: head.size, time: *time, key: self.key.clone() }
    }
}

/// The checkpoint in the file at `path`. Its signatures are not verified yet.
pub(super) fn read_note(path: &Path) -> Result<(Note, Checkpoint), Failure> {
    let most = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
    let text = String::from_utf8(crate::files::read(path, most)?).ok();
    let note = text.and_then(|text| text.parse::<Note>().ok());
    let read = note.and_then(|note| Some((note.text().parse().ok()?, note)));
    let (checkpoint, note) = read.ok_or_else(|| {
        Failure::usage(format_args!("`{}` holds no checkpoint of ours", path.display()))
            .try_this("keep one with `claviger audit checkpoint --file FILE`")
    })?;
    Ok((note, checkpoint))
}

/// A checkpoint that was verified, for people and programs.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    pub(super) epoch: u64,
    pub(super) size: u64,
    /// Seconds since 1970.
    time: UnixTime,
    /// The key that signed, as a verifier key.
    pub(super) key: VerifierKey,
}
