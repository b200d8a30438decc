//! Which files of weights a process has loaded: those that it has open, and those that it has mapped.
//!
//! Each is opened by way of the kernel's own link to it, `/proc/<pid>/fd/…` or
//! `/proc/<pid>/map_files/…`. That leads to the very file which the process has, whatever lies at its
//! path by now, in whichever mount namespace, and if it was deleted. The name that the link shows is
//! only asked whether it is that of a file of weights.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use regex::bytes::Regex;
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, StatxFlags, fstatfs, openat2, readlinkat,
    statx,
};
use rustix::io::Errno;

use super::Config;
use super::maps::Mapping;
use crate::proc::{ProcDir, ProcError};
use crate::unix::FileId;
use crate::workload::FactsError;

/// The most files of weights of one process.
const MAX_FILES: usize = 512;
/// The most descriptors of one process.
const MAX_DESCRIPTORS: usize = 1 << 16;
/// The most bytes of `/proc/<pid>/maps`: some hundred thousand mappings.
const MAX_MAPS: u64 = 16 << 20;
const MAX_INFO: u64 = 4 << 10;
/// What the kernel writes behind the name of a file that has none any more.
const DELETED: &[u8] = b" (deleted)";
/// `FUSE_SUPER_MAGIC` (statfs(2)).
const FUSE: u64 = 0x6573_5546;
/// The part of the flags of an open file that says whether it can be written to: not at all, for 0.
const ACCESS: u32 = 0o3;

/// Which files are weights, and which of them are read.
#[derive(Debug)]
pub(super) struct Patterns {
    names: Vec<Regex>,
    paths: Vec<Regex>,
    /// The names at the end of `paths`.
    last: Vec<Regex>,
    max_file_size: u64,
    trust_fuse: bool,
}

impl Patterns {
    pub(super) fn new(config: &Config) -> Self {
        let (paths, names): (Vec<_>, Vec<_>) =
            config.patterns.iter().partition(|pattern| pattern.contains('/'));
        let globs = |patterns: &[&String]| patterns.iter().filter_map(|one| glob(one)).collect();
        let last = paths.iter().filter_map(|path| glob(path.rsplit('/').next()?)).collect();
        Self {
            names: globs(&names),
            paths: globs(&paths),
            last,
            max_file_size: config.max_file_size,
            trust_fuse: config.trust_fuse,
        }
    }

    /// Whether `link`, as the kernel shows it, is the path of a file of weights.
    fn match_link(&self, link: &[u8]) -> bool {
        let path = link.strip_suffix(DELETED).unwrap_or(link);
        let any = |globs: &[Regex], text| globs.iter().any(|glob| glob.is_match(text));
        path.starts_with(b"/") && (any(&self.paths, path) || any(&self.names, name(path)))
    }

    /// Whether a file that is called `path` in a manifest is one of weights.
    pub(super) fn names(&self, path: &str) -> bool {
        let name = name(path.as_bytes());
        self.names.iter().chain(&self.last).any(|glob| glob.is_match(name))
    }
}

fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// What `pattern` matches: `*` stands for any number of characters, slashes included, and `?` for one.
/// None if it is no name and no absolute path.
pub(super) fn glob(pattern: &str) -> Option<Regex> {
    let sound = !pattern.is_empty() && (pattern.starts_with('/') || !pattern.contains('/'));
    let inside = regex::escape(pattern).replace(r"\*", ".*").replace(r"\?", ".");
    sound.then(|| Regex::new(&format!("^(?s-u:{inside})$")).ok())?
}

/// A file of weights that a process has loaded.
#[derive(Debug)]
pub(super) struct Loaded {
    link: Vec<u8>,
    file: File,
    id: FileId,
}

impl Loaded {
    /// Where it is or was, for people: as the process sees it, and no path to rely on.
    pub(super) fn name(&self) -> String {
        String::from_utf8_lossy(&self.link).escape_debug().to_string()
    }

    /// Which state of which file it is.
    pub(super) const fn id(&self) -> FileId {
        self.id
    }

    /// The file, open for reading.
    pub(super) const fn file(&self) -> &File {
        &self.file
    }
}

impl AsFd for Loaded {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// What the process of `dir` has loaded. May wait for disks.
pub(super) fn find(dir: &ProcDir, patterns: &Patterns) -> Result<Vec<Loaded>, FactsError> {
    let mut search = Search { dir, patterns, found: BTreeMap::new() };
    search.descriptors()?;
    search.mappings()?;
    Ok(search.found.into_values().collect())
}

struct Search<'a> {
    dir: &'a ProcDir,
    patterns: &'a Patterns,
    /// By device and inode.
    found: BTreeMap<(u64, u64), Loaded>,
}

impl Search<'_> {
    fn descriptors(&mut self) -> Result<(), FactsError> {
        let listing = self.dir.open_file("fd", OFlags::DIRECTORY);
        let listing = listing.and_then(Dir::new).map_err(unseen)?;
        for (count, entry) in listing.enumerate() {
            if MAX_DESCRIPTORS < count {
                return Err(FactsError::unknown("the process has more than 65536 open files"));
            }
            let entry = entry.map_err(unseen)?;
            let Ok(number) = entry.file_name().to_str() else { continue };
            if number.bytes().all(|digit| digit.is_ascii_digit()) {
                self.descriptor(number)?;
            }
        }
        Ok(())
    }

    fn descriptor(&mut self, number: &str) -> Result<(), FactsError> {
        let at = format!("fd/{number}");
        let link = match readlinkat(self.dir, &at, Vec::new()) {
            Ok(link) => link.into_bytes(),
            // Closed in the meantime.
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(unseen(errno)),
        };
        if !self.patterns.match_link(&link) || !self.is_regular(&at)? {
            return Ok(());
        }
        if self.is_writable(number)? {
            return Err(writable(&link));
        }
        match self.dir.open_file(&at, OFlags::NONBLOCK) {
            Ok(file) => self.add(link, file),
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(unread(&link, errno)),
        }
    }

    /// Whether there is a file that can be opened without side effects.
    fn is_regular(&self, at: &str) -> Result<bool, FactsError> {
        match statx(self.dir, at, AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE) {
            Ok(found) => {
                Ok(FileType::from_raw_mode(found.stx_mode.into()) == FileType::RegularFile)
            }
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(unseen(errno)),
        }
    }

    /// Whether the process can write to an open file.
    fn is_writable(&self, number: &str) -> Result<bool, FactsError> {
        let text = match self.dir.read(&format!("fdinfo/{number}"), MAX_INFO) {
            Ok(text) => text,
            Err(ProcError::Exited) => return Ok(false),
            Err(error) => return Err(FactsError::unavailable(UNSEEN, error)),
        };
        let lines = str::from_utf8(&text).unwrap_or_default().lines();
        let flags = lines.filter_map(|line| line.strip_prefix("flags:")).next();
        let flags = flags.and_then(|digits| u32::from_str_radix(digits.trim(), 8).ok());
        // Flags that can't be read could say anything.
        Ok(flags.is_none_or(|flags| flags & ACCESS != 0))
    }

    fn mappings(&mut self) -> Result<(), FactsError> {
        let maps = self.dir.read("maps", MAX_MAPS);
        let maps = maps.map_err(|error| FactsError::unavailable(UNSEEN, error))?;
        for mapping in maps.split(|byte| *byte == b'\n').filter_map(Mapping::parse) {
            if !self.patterns.match_link(mapping.path) {
                continue;
            }
            if mapping.writes {
                return Err(writable(mapping.path));
            }
            if self.found.contains_key(&mapping.file) {
                continue;
            }
            let file = match self.dir.open_file(&mapping.name(), OFlags::NONBLOCK) {
                Ok(file) => file,
                // Unmapped in the meantime.
                Err(Errno::NOENT) => continue,
                Err(Errno::PERM | Errno::ACCESS) => self.by_path(&mapping)?,
                Err(errno) => return Err(unread(mapping.path, errno)),
            };
            self.add(mapping.path.to_vec(), file)?;
        }
        Ok(())
    }

    /// The file of `mapping` by its path in the process's own tree, if that is where it still is: for
    /// an agent that may not follow the kernel's link.
    fn by_path(&self, mapping: &Mapping<'_>) -> Result<OwnedFd, FactsError> {
        let unread = |errno| unread(mapping.path, errno);
        let root = self.dir.open_file("root", OFlags::DIRECTORY | OFlags::PATH).map_err(unread)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let file = openat2(root, mapping.path, flags, Mode::empty(), resolve).map_err(unread)?;
        let file = File::from(file);
        let id = file.metadata().map(|metadata| FileId::of(&metadata));
        if id.is_ok_and(|id| id.file() == mapping.file) {
            return Ok(file.into());
        }
        Err(FactsError::unknown(format!(
            "`{}` is mapped, and is no longer found at its path; with CAP_CHECKPOINT_RESTORE and \
             CAP_SYS_PTRACE the agent could read it all the same",
            mapping.path.escape_ascii()
        )))
    }

    fn add(&mut self, link: Vec<u8>, file: OwnedFd) -> Result<(), FactsError> {
        let file = File::from(file);
        let unread = |error| {
            let path = link.escape_ascii();
            FactsError::unavailable(format!("cannot inspect `{path}`"), error)
        };
        let metadata = file.metadata().map_err(unread)?;
        if !metadata.is_file() {
            return Ok(());
        }
        let system = fstatfs(&file).map_err(|errno| unread(errno.into()))?;
        if u64::try_from(system.f_type).is_ok_and(|kind| kind == FUSE) && !self.patterns.trust_fuse
        {
            let path = link.escape_ascii();
            return Err(FactsError::unknown(format!(
                "`{path}` lies in a file system of a program's making (FUSE); see `trust-fuse`"
            )));
        }
        let id = FileId::of(&metadata);
        if self.patterns.max_file_size < id.size() {
            let (path, size) = (link.escape_ascii(), id.size());
            return Err(FactsError::unknown(format!(
                "`{path}` has {size} bytes, more than `max-file-size`"
            )));
        }
        self.found.insert(id.file(), Loaded { link, file, id });
        if MAX_FILES < self.found.len() {
            return Err(FactsError::unknown("the process has loaded more than 512 files"));
        }
        Ok(())
    }
}

const UNSEEN: &str = "cannot see which files the process has open; unless it is the agent's own \
                      user's, the agent needs CAP_SYS_PTRACE";

fn unseen(errno: Errno) -> FactsError {
    FactsError::unavailable(UNSEEN, std::io::Error::from(errno))
}

fn unread(link: &[u8], errno: Errno) -> FactsError {
    let what =
        format!("cannot read `{}`; the agent needs CAP_DAC_READ_SEARCH", link.escape_ascii());
    FactsError::unavailable(what, std::io::Error::from(errno))
}

fn writable(link: &[u8]) -> FactsError {
    let path = link.escape_ascii();
    FactsError::unknown(format!("the process can write to `{path}`, so it may be anything"))
}
