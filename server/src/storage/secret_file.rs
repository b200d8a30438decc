//! Files that hold a secret: readable by their owner only, whole or absent, wiped when destroyed.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use super::directory::sync_parent;

/// Writes `secret` to `path`. It is there durably and as a whole when this returns, and an earlier
/// file of that name is replaced.
///
/// # Errors
///
/// What the operating system says.
pub(crate) fn write(path: &Path, secret: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    if unfinished.try_exists()? {
        destroy(&unfinished)?;
    }
    // The umask can only take permissions away from these.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(secret)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    sync_parent(path)
}

/// Reads `path`; `None` if there is no such file.
///
/// # Errors
///
/// What the operating system says, and [`io::ErrorKind::InvalidData`] if it has more than `limit`
/// bytes.
pub(crate) fn read(path: &Path, limit: usize) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // The capacity is there from the start: a buffer that grows leaves copies behind.
    let mut secret = Zeroizing::new(Vec::with_capacity(limit.saturating_add(1)));
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut secret)?;
    if secret.len() > limit {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(Some(secret))
}

/// Overwrites and removes `path`. On file systems that copy on write the old blocks may survive.
///
/// # Errors
///
/// What the operating system says.
pub(crate) fn destroy(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    file.write_all(&vec![0; length.min(MOST)])?;
    file.sync_all()?;
    fs::remove_file(path)?;
    sync_parent(path)
}

/// No secret of ours is longer.
const MOST: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn is_read_back_and_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        write(&path, b"first").unwrap();
        write(&path, b"second").unwrap();
        assert_eq!(read(&path, 6).unwrap().unwrap().as_slice(), b"second");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_write_that_was_cut_short_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        fs::write(dir.path().join("a.new"), b"half").unwrap();
        write(&path, b"whole").unwrap();
        assert_eq!(read(&path, 9).unwrap().unwrap().as_slice(), b"whole");
    }

    #[test]
    fn what_is_too_long_is_refused_and_what_is_absent_is_absent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        assert!(read(&path, 5).unwrap().is_none());
        write(&path, b"123456").unwrap();
        assert_eq!(read(&path, 5).unwrap_err().kind(), io::ErrorKind::InvalidData);
        destroy(&path).unwrap();
        assert!(read(&path, 5).unwrap().is_none());
    }
}
