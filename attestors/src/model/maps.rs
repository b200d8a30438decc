//! Which files a process has mapped: `/proc/<pid>/maps` (proc_pid_maps(5)).

use rustix::fs::makedev;

/// A part of a file that is in the memory of a process.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Mapping<'a> {
    /// The first address, and the one after the last.
    pub(super) range: (u64, u64),
    /// Whether what the process writes there gets into the file.
    pub(super) writes: bool,
    /// Device and inode.
    pub(super) file: (u64, u64),
    /// Where the file was found, as the process sees it.
    pub(super) path: &'a [u8],
}

impl<'a> Mapping<'a> {
    /// What one line says, if it is about a file.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let mut rest = line;
        let mut word = || {
            let start = rest.iter().position(|byte| *byte != b' ')?;
            let (_, from) = rest.split_at_checked(start)?;
            let end = from.iter().position(|byte| *byte == b' ').unwrap_or(from.len());
            let (word, after) = from.split_at_checked(end)?;
            rest = after;
            str::from_utf8(word).ok()
        };
        let (range, perms, _offset, device, inode) = (word()?, word()?, word()?, word()?, word()?);
        let (start, end) = range.split_once('-')?;
        let (major, minor) = device.split_once(':')?;
        let hex = |digits| u32::from_str_radix(digits, 16).ok();
        let address = |digits| u64::from_str_radix(digits, 16).ok();
        let path = rest.trim_ascii_start();
        if !path.starts_with(b"/") {
            return None;
        }
        Some(Self {
            range: (address(start)?, address(end)?),
            writes: perms.contains('w') && perms.ends_with('s'),
            file: (makedev(hex(major)?, hex(minor)?), inode.parse().ok()?),
            path,
        })
    }

    /// Its name in `/proc/<pid>/map_files`.
    pub(super) fn name(&self) -> String {
        let (start, end) = self.range;
        format!("map_files/{start:x}-{end:x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_about_a_file_is_read() {
        let line = b"7f0000001000-7f0000003000 r--s 00000000 fd:01 1234      /m/a b.gguf (deleted)";
        let mapping = Mapping::parse(line).unwrap();
        assert_eq!(mapping.name(), "map_files/7f0000001000-7f0000003000");
        assert_eq!(mapping.path, b"/m/a b.gguf (deleted)");
        assert_eq!(mapping.file, (makedev(0xfd, 1), 1234));
        assert!(!mapping.writes);
        for (perms, writes) in [("rw-s", true), ("-w-s", true), ("rw-p", false), ("r-xs", false)] {
            let line = format!("00400000-00401000 {perms} 0 00:1f 1 /x");
            assert_eq!(Mapping::parse(line.as_bytes()).unwrap().writes, writes, "{perms}");
        }
        let low = Mapping::parse(b"00400000-00401000 r--p 0 00:1f 1 /x").unwrap();
        assert_eq!(low.name(), "map_files/400000-401000");
    }

    #[test]
    fn what_is_about_no_file_is_passed_over() {
        for line in [
            &b""[..],
            b"7ffc0000-7ffd0000 rw-p 00000000 00:00 0                          [stack]",
            b"7f00-7f01 rw-p 00000000 00:00 0 ",
            b"7f00 rw-p 0 00:00 0 /x",
            b"7f00-7f01 rw-p 0 0000 0 /x",
            b"zz-7f01 rw-p 0 00:00 0 /x",
        ] {
            assert_eq!(Mapping::parse(line), None);
        }
    }
}
