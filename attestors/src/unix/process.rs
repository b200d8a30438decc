//! What the kernel says about a process in `/proc` (proc(5)).

use std::fs::File;
use std::io;
use std::sync::Once;

use rustix::fs::{OFlags, StatxFlags, statx};
use rustix::io::Errno;
use tracing::warn;

use super::AttestError;
use super::program::{Effort, FileId, Program};
use crate::proc::{ProcDir, ProcError};

/// A process.
#[derive(Debug)]
pub(super) struct Process {
    dir: ProcDir,
}

/// As whom a process acts.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Credentials {
    /// Effective, as are all.
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
}

/// Room for `/proc/<pid>/status` with some 5,000 groups. A user in more is refused: a cut list
/// could end in half a number.
const MAX_STATUS: u64 = 64 << 10;

impl Process {
    pub(super) fn open(pid: u32) -> Result<Self, AttestError> {
        let dir = ProcDir::open(pid);
        dir.map(|dir| Self { dir }).map_err(|error| match error {
            ProcError::Exited | ProcError::TooLong => AttestError::Exited,
            ProcError::Io(source) => AttestError::Io { doing: "open the /proc directory", source },
        })
    }

    pub(super) fn credentials(&self) -> Result<Credentials, AttestError> {
        let text = self.dir.read("status", MAX_STATUS).map_err(|error| match error {
            ProcError::Exited => AttestError::Exited,
            ProcError::TooLong => AttestError::Strange("its status is too long"),
            ProcError::Io(source) => AttestError::Io { doing: "read the status", source },
        })?;
        parse_status(&text).ok_or(AttestError::Strange("its status names no user or group"))
    }

    /// The program that it runs, unless it has none or we may not know.
    pub(super) fn program(&self, effort: Effort) -> Result<Option<Program>, AttestError> {
        let Some(id) = self.program_id(effort)? else { return Ok(None) };
        let link = rustix::fs::readlinkat(&self.dir, "exe", Vec::with_capacity(256))
            .map_err(|errno| failed("read the program's path", errno))?;
        Ok(Some(Program::new(id, link.as_bytes())))
    }

    /// Which file that program is.
    pub(super) fn program_id(&self, effort: Effort) -> Result<Option<FileId>, AttestError> {
        let found = statx(&self.dir, "exe", effort.flags(), StatxFlags::BASIC_STATS);
        permitted(found.map(|found| FileId::from(&found)), "inspect the program")
    }

    /// The program that it runs, for reading; that may be another than a moment before.
    pub(super) fn read_program(&self) -> Result<Option<File>, AttestError> {
        let file = self.dir.open_file("exe", OFlags::NONBLOCK);
        Ok(permitted(file, "open the program")?.map(File::from))
    }
}

/// What the kernel tells of a program, if it has one and tells us.
fn permitted<T>(told: Result<T, Errno>, doing: &'static str) -> Result<Option<T>, AttestError> {
    match told {
        Ok(told) => Ok(Some(told)),
        // A kernel thread has no program; but no kernel thread calls us.
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::ACCESS | Errno::PERM) => {
            warn_once_about_privileges();
            Ok(None)
        }
        Err(errno) => Err(failed(doing, errno)),
    }
}

fn failed(doing: &'static str, errno: Errno) -> AttestError {
    match errno {
        Errno::SRCH | Errno::NOENT => AttestError::Exited,
        errno => AttestError::Io { doing, source: io::Error::from(errno) },
    }
}

fn warn_once_about_privileges() {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        warn!(
            "the programs of some users cannot be looked at, so their processes have no \
             `unix:path` and no `unix:sha256`; run as root or with CAP_SYS_PTRACE and \
             CAP_DAC_READ_SEARCH"
        );
    });
}

/// Reads the lines `Uid`, `Gid` and `Groups`. A process can choose its `Name`, but not with a line
/// break in it: the kernel writes that as `\n`.
fn parse_status(text: &[u8]) -> Option<Credentials> {
    let (mut uid, mut gid, mut groups) = (None, None, None);
    for line in text.split(|b| *b == b'\n') {
        // Only the name may be something other than text.
        let Some((key, values)) = str::from_utf8(line).ok().and_then(|line| line.split_once(':'))
        else {
            continue;
        };
        let values = || values.split_ascii_whitespace().map(str::parse::<u32>);
        match key {
            // Real, effective, saved, file system.
            "Uid" => uid = values().nth(1)?.ok(),
            "Gid" => gid = values().nth(1)?.ok(),
            "Groups" => groups = values().collect::<Result<Vec<_>, _>>().ok(),
            _ => {}
        }
    }
    Some(Credentials { uid: uid?, gid: gid?, groups: groups? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tcat\nUmask:\t0022\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n\
                          FDSize:\t64\nGroups:\t9 10 \nNStgid:\t1\n";

    #[test]
    fn effective_ids_count() {
        let credentials = parse_status(STATUS.as_bytes()).unwrap();
        assert_eq!(credentials, Credentials { uid: 2, gid: 6, groups: vec![9, 10] });
        let none = STATUS.replace("9 10 ", "");
        assert!(parse_status(none.as_bytes()).unwrap().groups.is_empty());
    }

    #[test]
    fn a_name_does_no_harm() {
        let mut status = b"Name:\t\xff\\nUid: 0 0\n".to_vec();
        status.extend_from_slice(STATUS.as_bytes());
        assert_eq!(parse_status(&status).unwrap().uid, 2);
    }

    #[test]
    fn half_a_status_is_none() {
        for missing in ["Uid:", "Gid:", "Groups:"] {
            assert_eq!(parse_status(STATUS.replace(missing, "X:").as_bytes()), None, "{missing}");
        }
        assert_eq!(parse_status(STATUS.replace("9 10", "9 x").as_bytes()), None);
        assert_eq!(parse_status(b""), None);
    }

    #[test]
    fn a_number_that_nobody_has_is_nobody() {
        let error = Process::open(u32::MAX).unwrap_err();
        assert!(matches!(error, AttestError::Exited), "{error}");
    }
}
