//! Files: read within bounds, and written while others read them.

use std::fs::{File, Permissions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::Builder;

use crate::failure::Failure;

/// Anyone may read it.
pub(crate) const PUBLIC: u32 = 0o644;
/// Only the owner may.
pub(crate) const SECRET: u32 = 0o600;

/// What is in the file at `path`, or on standard input for `-`; at most `most` bytes.
pub(crate) fn read(path: &Path, most: u64) -> Result<Vec<u8>, Failure> {
    let shown = path.display();
    let unreadable = |error| Failure::usage(format_args!("cannot read `{shown}`: {error}"));
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(unreadable)?)
    };
    let mut bytes = Vec::new();
    source.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    if most < u64::try_from(bytes.len()).unwrap_or(u64::MAX) {
        return Err(Failure::usage(format_args!("`{shown}` is larger than {most} bytes")));
    }
    Ok(bytes)
}

/// Puts `bytes` at `path` with the permission bits `mode`. A reader sees the old file or the new
/// one, whole.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let put = || {
        let mut file = Builder::new()
            .prefix(".claviger-")
            .permissions(Permissions::from_mode(SECRET))
            .tempfile_in(folder)?;
        file.write_all(bytes)?;
        // The umask does not decide here.
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    put().map_err(|error: io::Error| {
        Failure::failed(format_args!("cannot write `{}`: {error}", path.display()))
            .try_this("name a directory that exists and that this user may write to")
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("svid.0.key");
        fs::write(&path, "old").unwrap();
        replace(&path, b"new", SECRET).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, SECRET);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn what_is_read_has_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let missing = read(&path, 3).unwrap_err().to_string();
        assert!(missing.contains("cannot read") && missing.contains("/x`"), "{missing}");
        fs::write(&path, "123").unwrap();
        assert_eq!(read(&path, 3).unwrap(), b"123");
        let large = read(&path, 2).unwrap_err().to_string();
        assert!(large.contains("larger than 2 bytes"), "{large}");
    }

    #[test]
    fn a_missing_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = replace(&dir.path().join("none/x"), b"", PUBLIC).unwrap_err().to_string();
        assert!(error.contains("none/x"), "{error}");
    }
}
