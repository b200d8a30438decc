//! A small file that remembers how far the log has come, so that an old store is noticed.
//!
//! It is written after every group, without a sync: the kernel's memory outlives a process that is
//! killed, and after a power cut nobody believes it. On a clean stop it is synced and says so.
//!
//! The file also says which file it is and when it was written, which the file system knows as
//! well and no copying program can set: a witness that came back from a backup gives itself away,
//! even if it was restored together with the store it belongs to. (A disk snapshot can't be told
//! apart this way; against those stand the checkpoints that agents remember.)

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use claviger_core::audit::{Head, TreeHash};

use crate::storage::directory::sync_parent;

/// `magic boot-id(36) inode birth written size root(32) clean`, then the SHA-256 of that.
const LEN: usize = MAGIC.len() + 36 + 4 * 8 + 32 + 1 + 32;
const MAGIC: &[u8; 8] = b"clvwit02";

/// What may lie between a statement and the file system's time of it: one tick of the kernel's
/// clock, and whatever else the processor had to do.
const SLACK: Duration = Duration::from_millis(50);

/// A boot of this machine's kernel, as a UUID in text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct BootId([u8; 36]);

impl BootId {
    /// The boot that is running. If the kernel does not tell, none is like any other.
    pub(crate) fn current() -> Self {
        let mut id = [0; 36];
        let read = File::open("/proc/sys/kernel/random/boot_id")
            .and_then(|mut file| file.read_exact(&mut id));
        Self(if read.is_ok() { id } else { [0; 36] })
    }

    fn is(self, other: Self) -> bool {
        self == other && self.0 != [0; 36]
    }
}

/// What the witness said when the store was opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Testimony {
    /// The end of the log.
    pub(crate) head: Head,
    /// Whether the server stopped in good order after it.
    pub(crate) clean: bool,
    /// Whether the machine has run without interruption since.
    pub(crate) same_boot: bool,
    /// Whether the file is the one that was written, not a copy of it.
    pub(crate) original: bool,
}

/// The file, open for writing.
#[derive(Debug)]
pub(crate) struct Witness {
    file: File,
    boot: BootId,
    /// Whether it has said anything yet. Until then the doubts about the store stand.
    spoke: bool,
}

impl Witness {
    /// What the file at `path` says; `None` if there is none, or none that can be understood.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub(crate) fn hear(path: &Path, boot: BootId) -> io::Result<Option<Testimony>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        let mut bytes = Vec::with_capacity(LEN + 1);
        file.take(u64::try_from(LEN + 1).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
        let Some(said) = Statement::decode(&bytes) else { return Ok(None) };
        Ok(Some(Testimony {
            head: said.head,
            clean: said.clean,
            same_boot: boot.is(said.boot),
            original: said.made_by(&metadata),
        }))
    }

    /// Opens the file at `path` for writing, without changing what it says.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub(crate) fn open(path: &Path, boot: BootId) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).mode(0o600).open(path)?;
        sync_parent(path)?;
        Ok(Self { file, boot, spoke: false })
    }

    /// The server is about to continue after `head`: from here on, no stop is a clean one.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub(crate) fn begin(&mut self, head: Head) -> io::Result<()> {
        self.state(head, false)?;
        self.file.sync_all()
    }

    /// The log now ends with `head`. A few microseconds: it waits for no disk.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub(crate) fn record(&mut self, head: Head) -> io::Result<()> {
        self.state(head, false)
    }

    /// The server stops in good order, and the log ends with `head`. If nothing was ever said about
    /// this log, nothing is said now: doubts that were not settled are there at the next start.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub(crate) fn close(&mut self, head: Head) -> io::Result<()> {
        if !self.spoke {
            return Ok(());
        }
        self.state(head, true)?;
        self.file.sync_all()
    }

    /// For tests that look at a disk in another place: what `said` says there, if it can be understood,
    /// the file at `path` says as its own; on the `same` boot, or on one that is over.
    #[cfg(test)]
    pub(crate) fn settle(path: &Path, said: &[u8], same: bool) {
        let Some(said) = Statement::decode(said) else { return };
        let boot = if same { BootId::current() } else { BootId([b'-'; 36]) };
        let mut witness = Self::open(path, boot).unwrap();
        witness.state(said.head, said.clean).unwrap();
    }

    fn state(&mut self, head: Head, clean: bool) -> io::Result<()> {
        self.spoke = true;
        // Interrupted between reading the clock and writing, the statement looks like a copy; then
        // it is made again.
        for _attempt in 0..3 {
            let before = self.file.metadata()?;
            let statement = Statement {
                boot: self.boot,
                inode: before.ino(),
                birth: birth(&before),
                written: wall_clock(),
                head,
                clean,
            };
            self.file.write_all_at(&statement.encode(), 0)?;
            if statement.made_by(&self.file.metadata()?) {
                break;
            }
        }
        Ok(())
    }
}

/// What the file says.
#[derive(Clone, Copy, Debug)]
struct Statement {
    boot: BootId,
    /// Which file it is written to; numbers are used again, hence also when it was made.
    inode: u64,
    birth: u64,
    /// When it was written, in nanoseconds since the Unix epoch.
    written: u64,
    head: Head,
    clean: bool,
}

impl Statement {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LEN);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.boot.0);
        for number in [self.inode, self.birth, self.written, self.head.size] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(self.head.root.as_bytes());
        bytes.push(self.clean.into());
        let checksum = digest(&SHA256, &bytes);
        bytes.extend_from_slice(checksum.as_ref());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != LEN {
            return None;
        }
        let (said, checksum) = bytes.split_last_chunk::<32>()?;
        if digest(&SHA256, said).as_ref() != checksum {
            return None;
        }
        let said = said.strip_prefix(MAGIC)?;
        let (boot, said) = said.split_first_chunk()?;
        let (inode, said) = said.split_first_chunk()?;
        let (birth, said) = said.split_first_chunk()?;
        let (written, said) = said.split_first_chunk()?;
        let (size, said) = said.split_first_chunk()?;
        let (root, clean) = said.split_first_chunk()?;
        let root = TreeHash::from_bytes(*root);
        Some(Self {
            boot: BootId(*boot),
            inode: u64::from_be_bytes(*inode),
            birth: u64::from_be_bytes(*birth),
            written: u64::from_be_bytes(*written),
            head: Head { size: u64::from_be_bytes(*size), root },
            clean: clean == [1],
        })
    }

    /// Whether the file with this `metadata` got its contents by this statement being made.
    fn made_by(&self, metadata: &Metadata) -> bool {
        let slack = u64::try_from(SLACK.as_nanos()).unwrap_or(u64::MAX);
        metadata.ino() == self.inode
            && birth(metadata) == self.birth
            && changed(metadata).abs_diff(self.written) <= slack
    }
}

/// When the file was made; 0 on file systems that do not know.
fn birth(metadata: &Metadata) -> u64 {
    metadata.created().map_or(0, nanoseconds)
}

/// When the file last changed. Unlike its other times this one can't be set.
fn changed(metadata: &Metadata) -> u64 {
    let seconds = u64::try_from(metadata.ctime()).unwrap_or(0);
    let rest = u64::try_from(metadata.ctime_nsec()).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[expect(
    clippy::disallowed_methods,
    reason = "it is compared with the file system's own times, which `Clock` can't stand in for"
)]
fn wall_clock() -> u64 {
    nanoseconds(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const OTHER_BOOT: BootId = BootId(*b"0b5a2a4f-2f5e-4d7e-8a55-4d7c0a5b2f11");

    fn head(size: u64) -> Head {
        Head { size, root: TreeHash::from_bytes([7; 32]) }
    }

    #[test]
    fn says_what_it_was_told_last() {
        let dir = tempfile::tempdir().unwrap();
        let (path, boot) = (dir.path().join("witness"), BootId::current());
        assert_eq!(Witness::hear(&path, boot).unwrap(), None);
        let mut witness = Witness::open(&path, boot).unwrap();
        assert_eq!(Witness::hear(&path, boot).unwrap(), None);
        witness.begin(head(1)).unwrap();
        witness.record(head(2)).unwrap();
        let heard = Witness::hear(&path, boot).unwrap().unwrap();
        let said = Testimony { head: head(2), clean: false, same_boot: true, original: true };
        assert_eq!(heard, said);
        let later = Witness::hear(&path, OTHER_BOOT).unwrap().unwrap();
        assert_eq!(later, Testimony { same_boot: false, ..said });
        witness.close(head(2)).unwrap();
        let stopped = Witness::hear(&path, boot).unwrap().unwrap();
        assert_eq!(stopped, Testimony { clean: true, ..said });
    }

    #[test]
    fn a_copy_gives_itself_away() {
        let dir = tempfile::tempdir().unwrap();
        let (path, backup) = (dir.path().join("witness"), dir.path().join("backup"));
        let boot = BootId::current();
        let mut witness = Witness::open(&path, boot).unwrap();
        witness.record(head(2)).unwrap();
        fs::copy(&path, &backup).unwrap();
        assert!(!Witness::hear(&backup, boot).unwrap().unwrap().original);
        fs::rename(&backup, &path).unwrap();
        assert!(!Witness::hear(&path, boot).unwrap().unwrap().original);
    }

    #[test]
    fn contents_restored_in_place_give_themselves_away() {
        let dir = tempfile::tempdir().unwrap();
        let (path, boot) = (dir.path().join("witness"), BootId::current());
        let witness = Witness::open(&path, boot).unwrap();
        let before = witness.file.metadata().unwrap();
        let early = wall_clock() - 60_000_000_000;
        let (inode, birth) = (before.ino(), birth(&before));
        let old = Statement { boot, inode, birth, written: early, head: head(1), clean: true };
        fs::write(&path, old.encode()).unwrap();
        assert!(!Witness::hear(&path, boot).unwrap().unwrap().original);
    }

    #[test]
    fn damage_is_silence() {
        let dir = tempfile::tempdir().unwrap();
        let (path, boot) = (dir.path().join("witness"), BootId::current());
        Witness::open(&path, boot).unwrap().record(head(2)).unwrap();
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, damaged).unwrap();
            assert_eq!(Witness::hear(&path, boot).unwrap(), None, "byte {at}");
        }
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(Witness::hear(&path, boot).unwrap(), None);
    }
}
