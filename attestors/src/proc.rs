//! The kernel's directory about a process, `/proc/<pid>` (proc(5)).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

/// The directory of one process, held open. When the process has ended, the directory is empty for
/// ever, whoever gets the number next.
#[derive(Debug)]
pub(crate) struct ProcDir(OwnedFd);

impl ProcDir {
    /// The directory of the process that has the number `pid` now.
    pub(crate) fn open(pid: u32) -> Result<Self, ProcError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, format!("/proc/{pid}"), flags, Mode::empty());
        dir.map(Self).map_err(ProcError::from)
    }

    /// Our own.
    pub(crate) fn own() -> Result<Self, ProcError> {
        Self::open(std::process::id())
    }

    /// The same directory.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// One of its files, for reading.
    pub(crate) fn open_file(&self, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
        openat(&self.0, name, flags, Mode::empty())
    }

    /// All of one of its files, if it has less than `limit` bytes.
    pub(crate) fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, ProcError> {
        let file = self.open_file(name, OFlags::empty())?;
        let mut text = Vec::with_capacity(4_096);
        File::from(file).take(limit).read_to_end(&mut text)?;
        if u64::try_from(text.len()).is_ok_and(|len| limit <= len) {
            return Err(ProcError::TooLong);
        }
        Ok(text)
    }
}

impl AsFd for ProcDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Why `/proc` does not say something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcError {
    /// There is no such process any more.
    #[error("the process has exited")]
    Exited,
    /// There is more of it than we read.
    #[error("the file is too long")]
    TooLong,
    /// The kernel does not answer.
    #[error(transparent)]
    Io(io::Error),
}

impl From<Errno> for ProcError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::SRCH | Errno::NOENT => Self::Exited,
            errno => Self::Io(errno.into()),
        }
    }
}

impl From<io::Error> for ProcError {
    fn from(error: io::Error) -> Self {
        Errno::from_io_error(&error).map_or(Self::Io(error), Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_nobody_has_is_nobody() {
        let error = ProcDir::open(u32::MAX).unwrap_err();
        assert!(matches!(error, ProcError::Exited), "{error}");
    }

    #[test]
    fn a_file_longer_than_expected_is_not_cut() {
        let dir = ProcDir::own().unwrap();
        let status = dir.read("status", 1 << 16).unwrap();
        assert!(status.starts_with(b"Name:"));
        let error = dir.read("status", 9).unwrap_err();
        assert!(matches!(error, ProcError::TooLong), "{error}");
    }
}
