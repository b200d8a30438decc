//! Whether one process comes from another.

use std::fs::File;
use std::io::{self, Read as _};

/// The longest line of descent that is followed.
const MAX_DEPTH: usize = 256;

/// The most that is read about a process. Its name has at most 64 bytes, and numbers follow.
const MAX_STAT: u64 = 2_048;

/// What a process has of its origin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Origin {
    parent: u32,
    /// When it began, in ticks since the machine did: with its number, its own.
    began: u64,
}

/// Whether the process `pid` is `root`, or comes from it. Both have to be pinned by whoever asks:
/// numbers of processes that have ended pass to others.
///
/// The parent of a living process has its number for as long as it is the parent: whoever names the
/// same parent before and after that one is looked at has told about it and nobody else. A process
/// whose parent ends is given to another one, never back.
pub(super) fn descends(pid: u32, root: u32) -> io::Result<bool> {
    let (mut pid, mut origin) = (pid, Origin::of(pid)?);
    for _ in 0..MAX_DEPTH {
        if pid == root {
            return Ok(true);
        }
        if origin.parent == 0 {
            return Ok(false);
        }
        let parent = Origin::of(origin.parent);
        let again = Origin::of(pid)?;
        if again == origin {
            (pid, origin) = (origin.parent, parent?);
        } else if again.began == origin.began {
            // It was given to another parent meanwhile.
            origin = again;
        } else {
            return Err(io::ErrorKind::NotFound.into());
        }
    }
    Ok(false)
}

impl Origin {
    /// From `/proc/<pid>/stat` (proc_pid_stat(5)).
    fn of(pid: u32) -> io::Result<Self> {
        let mut stat = Vec::new();
        File::open(format!("/proc/{pid}/stat"))?.take(MAX_STAT).read_to_end(&mut stat)?;
        Self::parse(&stat).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn parse(stat: &[u8]) -> Option<Self> {
        // The name, in brackets, may have anything in it.
        let end = stat.iter().rposition(|&byte| byte == b')')?;
        let rest = str::from_utf8(stat.get(end.checked_add(1)?..)?).ok()?;
        // The state; the fourth field of all is the parent, the 22nd the start.
        let mut fields = rest.split_ascii_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        let began = fields.nth(17)?.parse().ok()?;
        Some(Self { parent, began })
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_name_may_look_like_anything() {
        let numbers: Vec<_> = (4..=52).map(|field| field.to_string()).collect();
        for name in ["cat", "a) S 1 (b", ") ) )", ""] {
            let stat = format!("7 ({name}) S {}", numbers.join(" "));
            assert_eq!(Origin::parse(stat.as_bytes()), Some(Origin { parent: 4, began: 22 }));
        }
        for bad in ["", "7 (x", "7 (x) S", "7 (x) S y", "7 (x) S 1 2 3"] {
            assert_eq!(Origin::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn children_and_theirs_come_from_us_and_we_from_none_of_them() {
        let mut shell = Command::new("sh")
            .args(["-c", "exec 3<&0; cat <&3 & echo $!; wait"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = io::BufReader::new(shell.stdout.take().unwrap());
        io::BufRead::read_line(&mut { out }, &mut line).unwrap();
        let (us, child, grandchild) =
            (std::process::id(), shell.id(), line.trim().parse().unwrap());
        for (pid, root, comes) in [
            (us, us, true),
            (child, us, true),
            (grandchild, us, true),
            (grandchild, child, true),
            (child, grandchild, false),
            (us, child, false),
            (us, 1, true),
        ] {
            assert_eq!(descends(pid, root).unwrap(), comes, "{pid} from {root}");
        }
        drop(shell.stdin.take());
        shell.kill().unwrap();
        shell.wait().unwrap();
        descends(child, us).unwrap_err();
    }
}
