//! The server's data directory: who may enter, and who has it now.
//!
//! ```text
//! lock        held by the server that uses the directory
//! store/      the engine's files
//! witness     how far the log has come, in the kernel's memory rather than on disk
//! keys/       epoch-<n>.root, audit.key, and the keys of the signing authorities
//! ```

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A data directory that is ours until the last clone is dropped.
#[derive(Clone, Debug)]
pub struct DataDirectory(Arc<Claimed>);

#[derive(Debug)]
struct Claimed {
    path: PathBuf,
    /// The kernel releases it when the file is closed, whatever happens to the process.
    _lock: File,
}

/// The data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another server is running on it.
    #[error("another server is using the data directory `{path}`; stop it, or use another one")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The operating system refuses.
    #[error("cannot use `{path}`; the data directory has to be writable for this user")]
    Unusable {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl DataDirectory {
    /// Takes possession of the directory at `path`, which is made if it does not exist.
    ///
    /// # Errors
    ///
    /// [`ClaimError`] if another server has it or the operating system refuses.
    pub fn claim(path: &Path) -> Result<Self, ClaimError> {
        make_private(path)?;
        make_private(&path.join(KEYS))?;
        let lock = path.join("lock");
        let unusable = |source| ClaimError::Unusable { path: lock.clone(), source };
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).mode(0o600).open(&lock);
        let file = file.map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(Arc::new(Claimed { path: path.to_path_buf(), _lock: file }))),
            Err(TryLockError::WouldBlock) => Err(ClaimError::InUse { path: path.to_path_buf() }),
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The directory of the keys, which nobody else can enter.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.0.path.join(KEYS)
    }

    /// Where the key that signs checkpoints is.
    pub(crate) fn audit_key(&self) -> PathBuf {
        self.keys().join("audit.key")
    }
}

const KEYS: &str = "keys";

fn make_private(path: &Path) -> Result<(), ClaimError> {
    let unusable = |source| ClaimError::Unusable { path: path.to_path_buf(), source };
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
    match sync_parent(path) {
        // Somebody else's directory, which we may write to but not read.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced.map_err(unusable),
    }
}

/// Makes the names in the directory of `path` durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn nobody_else_can_enter() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDirectory::claim(&dir.path().join("a/b")).unwrap();
        for path in [data.path(), &data.keys()] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn a_second_server_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDirectory::claim(dir.path()).unwrap();
        let refused = DataDirectory::claim(dir.path()).unwrap_err();
        assert!(refused.to_string().contains("another server"), "{refused}");
        drop(first);
        DataDirectory::claim(dir.path()).unwrap();
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let refused = DataDirectory::claim(Path::new("/proc/claviger")).unwrap_err();
        assert!(refused.to_string().contains("/proc/claviger"), "{refused}");
    }
}
