//! The file that a process runs.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::{Statx, makedev};

/// A program: which file it is, and where the kernel says it was found.
#[derive(Debug)]
pub(super) struct Program {
    id: FileId,
    path: Option<PathBuf>,
}

/// One state of one file: another file has another id, and so has the same file once it was
/// written to.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileId {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// In bytes.
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// When it last changed, in seconds since the Unix epoch.
    pub(super) fn changed_at(&self) -> u64 {
        u64::try_from(self.changed.0).unwrap_or_default()
    }
}

impl From<&Statx> for FileId {
    fn from(found: &Statx) -> Self {
        Self {
            device: makedev(found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
            size: found.stx_size,
            modified: (found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec.into()),
            changed: (found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec.into()),
        }
    }
}

impl Program {
    /// The program in the file `id`, of which the link `/proc/<pid>/exe` says `link`.
    pub(super) fn new(id: FileId, link: &[u8]) -> Self {
        let path =
            str::from_utf8(link).ok().filter(|link| link.starts_with('/')).map(PathBuf::from);
        Self { id, path }
    }

    pub(super) const fn id(&self) -> FileId {
        self.id
    }

    /// Its path, if that path leads us to this very file.
    ///
    /// The kernel tells the path as the process sees it. Anyone can make a mount namespace of their
    /// own and put any file at any path in it; and behind the path of a running program, another
    /// file may have taken its place.
    pub(super) fn own_path(&self) -> Option<&str> {
        let path = self.path.as_deref()?;
        let found = FileId::of(&std::fs::metadata(path).ok()?);
        if found == self.id { path.to_str() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn a_path_counts_only_if_it_leads_to_the_file() {
        let dir = tempdir().unwrap();
        let [ours, theirs] = ["ours", "theirs"].map(|name| {
            let path = dir.path().join(name);
            std::fs::write(&path, name).unwrap();
            path
        });
        let id = FileId::of(&std::fs::metadata(&ours).unwrap());
        let path = |link: &[u8]| Program::new(id, link).own_path().map(ToOwned::to_owned);
        let ours = ours.to_str().unwrap();
        assert_eq!(path(ours.as_bytes()).as_deref(), Some(ours));
        // As from another mount namespace.
        assert_eq!(path(theirs.to_str().unwrap().as_bytes()), None);
        // Removed, not text, and not absolute.
        assert_eq!(path(format!("{ours} (deleted)").as_bytes()), None);
        assert_eq!(path(b"/\xff"), None);
        assert_eq!(path(b"(unreachable)/x"), None);
    }

    #[test]
    fn both_ways_to_look_at_a_file_say_the_same() {
        use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

        let path = std::env::current_exe().unwrap();
        let found = statx(CWD, &path, AtFlags::empty(), StatxFlags::BASIC_STATS).unwrap();
        assert_eq!(FileId::from(&found), FileId::of(&std::fs::metadata(&path).unwrap()));
    }

    #[test]
    fn a_written_file_is_another() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("x");
        let id = |contents: &str| {
            std::fs::write(&path, contents).unwrap();
            FileId::of(&std::fs::metadata(&path).unwrap())
        };
        assert_ne!(id("a"), id("ab"));
    }
}
