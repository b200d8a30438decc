//! What a witness remembers: of each log one file, with the largest head that it has signed.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use claviger_core::audit::Head;
use serde::{Deserialize, Serialize};

use crate::storage::secret_file;

/// The largest file, in bytes: an origin is as long as a note may be.
const MAX: usize = 1 << 20;

/// The folder.
#[derive(Debug)]
pub(super) struct Kept(PathBuf);

/// One file.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Log {
    origin: String,
    head: Head,
}

impl Kept {
    /// The folder at `path`, which is made if it does not exist.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Ok(Self(path.to_owned()))
    }

    /// The largest head of the log `origin` that was signed; that of an empty log if none was.
    pub(super) fn latest(&self, origin: &str) -> io::Result<Head> {
        let Some(text) = secret_file::read(&self.path(origin), MAX)? else {
            return Ok(Head::default());
        };
        let log: Log = serde_json::from_slice(&text)?;
        // Whoever swaps two files does not make one log's history that of another.
        if log.origin == origin { Ok(log.head) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    /// Remembers another. It is durable when this returns.
    pub(super) fn replace(&self, origin: &str, head: Head) -> io::Result<()> {
        let log = Log { origin: origin.to_owned(), head };
        secret_file::write(&self.path(origin), &serde_json::to_vec(&log)?)
    }

    /// Origins are no names of files.
    fn path(&self, origin: &str) -> PathBuf {
        self.0.join(format!("{}.log", hex::encode(digest(&SHA256, origin.as_bytes()))))
    }
}
