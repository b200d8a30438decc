//! The file that a process runs.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Statx, StatxFlags, makedev};
use rustix::fs::{openat2, statx};
use rustix::io::Errno;

/// How far a look at a file may go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Effort {
    /// Only to what the kernel has in memory: no disk, and no file system of somebody else's making,
    /// can keep us waiting.
    InMemory,
    /// As far as it takes.
    Wait,
}

impl Effort {
    pub(super) const fn flags(self) -> AtFlags {
        match self {
            Self::InMemory => AtFlags::STATX_DONT_SYNC,
            Self::Wait => AtFlags::empty(),
        }
    }
}

/// What is asked for is not in memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct WouldWait;

/// A program: which file it is, and where the kernel says it was found.
#[derive(Debug)]
pub(super) struct Program {
    id: FileId,
    path: Option<PathBuf>,
}

/// One state of one file: another file has another id, and so has the same file once it was
/// written to.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileId {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Which file it is a state of: device and inode.
    pub(crate) const fn file(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// In bytes.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// When it last changed, in seconds since the Unix epoch.
    pub(crate) fn changed_at(&self) -> u64 {
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
    pub(super) fn own_path(&self, effort: Effort) -> Result<Option<&str>, WouldWait> {
        let Some(path) = self.path.as_deref() else { return Ok(None) };
        let found = match effort {
            Effort::InMemory => remembered(path)?,
            Effort::Wait => std::fs::metadata(path).ok().map(|metadata| FileId::of(&metadata)),
        };
        Ok(if found == Some(self.id) { path.to_str() } else { None })
    }
}

/// Which file is at `path`, if the kernel can tell without asking a file system.
fn remembered(path: &Path) -> Result<Option<FileId>, WouldWait> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let file = match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        // Not in memory; or a kernel before 5.12, or a filter of system calls, that does not know
        // the question.
        Err(_) => return Err(WouldWait),
    };
    let flags = AtFlags::EMPTY_PATH | Effort::InMemory.flags();
    let found = statx(&file, "", flags, StatxFlags::BASIC_STATS).map_err(|_errno| WouldWait)?;
    Ok(Some(FileId::from(&found)))
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
        let path = |link: &[u8]| {
            let program = Program::new(id, link);
            let path = program.own_path(Effort::Wait).unwrap().map(ToOwned::to_owned);
            // What was just looked at is in memory, unless the kernel had to make room.
            if let Ok(quick) = program.own_path(Effort::InMemory) {
                assert_eq!(quick.map(ToOwned::to_owned), path);
            }
            path
        };
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
