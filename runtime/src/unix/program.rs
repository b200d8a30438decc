//! Which program a process runs: enough to tell whether it is still the same.

use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};
use rustix::io::Errno;
use rustix::process::Pid;

/// The file of a program. The file of a running program is not removed from its disk, so its number
/// is its own as long as the program runs. The time of its birth tells it from a file that gets the
/// number after that; users can set other times, but not this one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Program {
    device: u64,
    inode: u64,
    born: Option<(i64, u32)>,
}

impl Program {
    /// What the process `pid` runs at this moment; none if we may not know, or it has ended.
    pub(super) fn of(pid: Pid) -> Option<Self> {
        let mask = StatxFlags::INO | StatxFlags::BTIME;
        // Nothing of this is on a disk; a file system of somebody else's making must not be asked.
        let flags = AtFlags::STATX_DONT_SYNC;
        let found: Result<_, Errno> = statx(CWD, format!("/proc/{pid}/exe"), flags, mask);
        let found = found.ok()?;
        let has_birth = found.stx_mask & StatxFlags::BTIME.bits() != 0;
        Some(Self {
            device: makedev(found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
            born: has_birth.then_some((found.stx_btime.tv_sec, found.stx_btime.tv_nsec)),
        })
    }
}
