//! The agent's directory: a few small files, each replaced as a whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

/// A directory that belongs to this agent alone as long as this lives. Clones are the same
/// directory.
#[derive(Clone, Debug)]
pub(crate) struct DataDir(Arc<Locked>);

#[derive(Debug)]
struct Locked {
    path: PathBuf,
    /// Closing it gives the lock back.
    _lock: File,
}

/// Larger than any file of ours, in bytes: a bundle of 256 certificates of post-quantum size, or how a
/// hundred thousand identities stand.
const MAX_FILE: u64 = 32 << 20;

const OTHERS: u32 = 0o077;

impl DataDir {
    /// Takes the directory at `path`, which is made if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Self, DataDirError> {
        let failed = |doing| move |source| io_error(path, doing, source);
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("make"))?;
        let mode = fs::metadata(path).map_err(failed("inspect"))?.mode();
        if mode & OTHERS != 0 {
            return Err(DataDirError::Open { path: path.to_owned(), mode: mode & 0o777 });
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(failed("lock"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(Arc::new(Locked { path: path.to_owned(), _lock: lock }))),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(DataDirError::InUse { path: path.to_owned() })
            }
            Err(errno) => Err(failed("lock")(errno.into())),
        }
    }

    /// The contents of the file `name`, which may be a secret; `None` if there is none.
    pub(crate) async fn read(
        &self,
        name: &'static str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, DataDirError> {
        let path = self.0.path.join(name);
        blocking(move || match read(&path) {
            Ok(contents) => Ok(Some(contents)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error(&path, "read", error)),
        })
        .await
    }

    /// Replaces the file `name` durably: after a crash it has its old contents or these.
    pub(crate) async fn write(
        &self,
        name: &'static str,
        contents: Zeroizing<Vec<u8>>,
    ) -> Result<(), DataDirError> {
        let dir = self.0.path.clone();
        blocking(move || {
            let path = dir.join(name);
            write(&dir, &path, &contents).map_err(|error| io_error(&path, "write", error))
        })
        .await
    }

    /// Removes the file `name`, if there is one.
    pub(crate) async fn remove(&self, name: &'static str) -> Result<(), DataDirError> {
        let path = self.0.path.join(name);
        blocking(move || match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error(&path, "remove", error))
            }
            Ok(()) | Err(_) => Ok(()),
        })
        .await
    }

    /// Where a file is, to tell an operator.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path.join(name)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DataDirError> + Send + 'static,
) -> Result<T, DataDirError> {
    spawn_blocking(work).await.map_err(|_stopping| DataDirError::Stopping)?
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    if MAX_FILE < size {
        return Err(too_large());
    }
    // Room for all of it, so that no copy of a secret is left behind by growing.
    let room = usize::try_from(size).unwrap_or_default().saturating_add(1);
    let mut contents = Zeroizing::new(Vec::with_capacity(room));
    file.take(size).read_to_end(&mut contents)?;
    Ok(contents)
}

fn write(dir: &Path, path: &Path, contents: &[u8]) -> io::Result<()> {
    // It could not be read again.
    if u64::try_from(contents.len()).map_or(true, |size| MAX_FILE < size) {
        return Err(too_large());
    }
    let new = path.with_extension("new");
    let mut file =
        OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(dir)?.sync_all()
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, "larger than 32 MiB")
}

fn io_error(path: &Path, doing: &'static str, source: io::Error) -> DataDirError {
    DataDirError::Io { path: path.to_owned(), doing, source }
}

/// Why the agent's directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Others may look into it.
    #[error("`{path}` is open to other users (mode {mode:o}) and is to hold private keys; `chmod 700` it", path = path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another process has taken it.
    #[error("another agent uses `{path}`; stop it, or give this one a `data-dir` of its own", path = path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The operating system refuses.
    #[error("cannot {doing} `{path}`", path = path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// The process is ending.
    #[error("shutting down")]
    Stopping,
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::{TempDir, tempdir};

    use super::*;

    fn dir() -> (TempDir, DataDir) {
        let parent = tempdir().unwrap();
        let dir = DataDir::open(&parent.path().join("agent")).unwrap();
        (parent, dir)
    }

    #[tokio::test]
    async fn files_come_back_as_they_were_written() {
        let (_parent, dir) = dir();
        assert_eq!(dir.read("a").await.unwrap(), None);
        for contents in [b"one".as_slice(), b"", b"three"] {
            dir.write("a", contents.to_vec().into()).await.unwrap();
            assert_eq!(dir.read("a").await.unwrap().unwrap().as_slice(), contents);
        }
        let mode = fs::metadata(dir.path("a")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        dir.remove("a").await.unwrap();
        dir.remove("a").await.unwrap();
        assert_eq!(dir.read("a").await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_could_not_be_read_again_is_not_written() {
        let (_parent, dir) = dir();
        dir.write("a", b"one".to_vec().into()).await.unwrap();
        let larger = usize::try_from(MAX_FILE).unwrap() + 1;
        let error = dir.write("a", vec![0; larger].into()).await.unwrap_err();
        assert!(matches!(error, DataDirError::Io { doing: "write", .. }), "{error}");
        assert_eq!(dir.read("a").await.unwrap().unwrap().as_slice(), b"one");
    }

    #[tokio::test]
    async fn what_a_crash_left_behind_does_no_harm() {
        let (_parent, dir) = dir();
        dir.write("a", b"whole".to_vec().into()).await.unwrap();
        fs::write(dir.path("a.new"), b"ha").unwrap();
        assert_eq!(dir.read("a").await.unwrap().unwrap().as_slice(), b"whole");
        dir.write("a", b"b".to_vec().into()).await.unwrap();
        assert_eq!(dir.read("a").await.unwrap().unwrap().as_slice(), b"b");
    }

    #[test]
    fn one_agent_per_directory() {
        let (parent, dir) = dir();
        let path = parent.path().join("agent");
        let error = DataDir::open(&path).unwrap_err();
        assert!(matches!(error, DataDirError::InUse { .. }), "{error}");
        drop(dir);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_directory_open_to_others_is_refused() {
        let parent = tempdir().unwrap();
        fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let error = DataDir::open(parent.path()).unwrap_err();
        assert!(error.to_string().contains("(mode 755)"), "{error}");
    }

    #[test]
    fn a_path_that_cannot_be_a_directory_is_named() {
        let error = DataDir::open(Path::new("/proc/claviger")).unwrap_err();
        assert!(error.to_string().contains("`/proc/claviger`"), "{error}");
    }
}
