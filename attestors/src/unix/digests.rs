//! The SHA-256 of programs, remembered as long as the file does not change.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use claviger_core::time::{Clock, UnixTime};
use tokio::time::Instant;
use tracing::warn;

use super::AttestError;
use super::program::{FileId, Program};

/// A SHA-256.
pub(super) type Digest = [u8; 32];

/// How many programs are remembered: more than a machine runs, in 200 kB.
const REMEMBERED: usize = 1_024;

/// A file that changed less than this ago may change again without looking different: file systems
/// tell time in steps.
const SETTLES: Duration = Duration::from_secs(2);

/// Reads programs and remembers what it found.
#[derive(Debug)]
pub(super) struct Digests {
    max_size: u64,
    clock: Arc<dyn Clock>,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    /// Each with the time at which it began to be read.
    digests: HashMap<FileId, (Digest, Instant)>,
    /// The keys of `digests`, oldest first.
    order: VecDeque<FileId>,
}

/// What is known about a program without reading it.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Known {
    Digest(Digest),
    No,
    TooLarge,
}

impl Digests {
    pub(super) fn new(max_size: u64, clock: Arc<dyn Clock>) -> Self {
        Self { max_size, clock, memory: Mutex::default() }
    }

    /// What is remembered of `program`, if it was read after `since`.
    pub(super) fn find(&self, program: &Program, since: Option<Instant>) -> Known {
        let id = program.id();
        if self.max_size < id.size() {
            warn!(
                size = id.size(),
                max_program_size = self.max_size,
                "program too large for a `unix:sha256`"
            );
            return Known::TooLarge;
        }
        match self.memory().digests.get(&id) {
            Some((digest, read)) if since.is_none_or(|since| since < *read) => {
                Known::Digest(*digest)
            }
            Some(_) | None => Known::No,
        }
    }

    /// The digest of `program`, read from `file` after `since`.
    pub(super) fn read(
        &self,
        file: &File,
        program: &Program,
        since: Option<Instant>,
    ) -> Result<Digest, AttestError> {
        // It may have been read while we waited for our turn.
        if let Known::Digest(digest) = self.find(program, since) {
            return Ok(digest);
        }
        let begun = Instant::now();
        let digest = hash(file, file, program.id())?;
        let settled = self.clock.now().before(SETTLES);
        if UnixTime::from_secs(program.id().changed_at()) < settled {
            self.memory().remember(program.id(), (digest, begun));
        }
        Ok(digest)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // A panic between the two insertions would at worst leave one digest for ever.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn remember(&mut self, id: FileId, digest: (Digest, Instant)) {
        if self.digests.insert(id, digest).is_some() {
            return;
        }
        self.order.push_back(id);
        if REMEMBERED < self.order.len()
            && let Some(oldest) = self.order.pop_front()
        {
            self.digests.remove(&oldest);
        }
    }
}

/// The SHA-256 of what `reader` gives, if `file` is `id` before and after.
fn hash(file: &File, mut reader: impl Read, id: FileId) -> Result<Digest, AttestError> {
    let failed = |source| AttestError::Io { doing: "read the program", source };
    let unchanged = || match file.metadata() {
        Ok(metadata) if FileId::of(&metadata) == id => Ok(()),
        Ok(_other) => Err(AttestError::ProgramWritten),
        Err(error) => Err(failed(error)),
    };
    unchanged()?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 64 << 10];
    let mut left = id.size();
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        // A file that grows as fast as it is read must have an end, too.
        left = u64::try_from(read)
            .ok()
            .and_then(|read| left.checked_sub(read))
            .ok_or(AttestError::ProgramWritten)?;
        context.update(buffer.get(..read).unwrap_or_default());
    }
    unchanged()?;
    let mut digest = Digest::default();
    digest.copy_from_slice(context.finish().as_ref());
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::path::{Path, PathBuf};

    use claviger_core::time::SystemClock;
    use tempfile::{TempDir, tempdir};

    use super::*;

    #[derive(Debug)]
    struct At(UnixTime);

    impl Clock for At {
        fn now(&self) -> UnixTime {
            self.0
        }
    }

    /// A clock that says that whatever changed now did so long ago.
    fn later() -> Arc<dyn Clock> {
        Arc::new(At(SystemClock.now().after(Duration::from_secs(60))))
    }

    fn program(contents: &[u8]) -> (TempDir, PathBuf) {
        let dir = tempdir().unwrap();
        let path = dir.path().join("program");
        std::fs::write(&path, contents).unwrap();
        (dir, path)
    }

    fn open(path: &Path) -> (File, Program) {
        let file = File::open(path).unwrap();
        let program = Program::new(FileId::of(&file.metadata().unwrap()), b"");
        (file, program)
    }

    #[test]
    fn a_program_is_read_once() {
        let (_dir, path) = program(b"abc");
        let digests = Digests::new(9, later());
        let (file, program) = open(&path);
        assert_eq!(digests.find(&program, None), Known::No);
        let digest = digests.read(&file, &program, None).unwrap();
        assert_eq!(
            hex::encode(digest),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(digests.find(&program, None), Known::Digest(digest));
        // Another state of the file is another program.
        std::fs::write(&path, b"abcd").unwrap();
        assert_eq!(digests.find(&open(&path).1, None), Known::No);
    }

    #[test]
    fn what_was_read_before_does_not_count_for_who_needs_it_anew() {
        let (_dir, path) = program(b"abc");
        let digests = Digests::new(9, later());
        let (file, program) = open(&path);
        let digest = digests.read(&file, &program, None).unwrap();
        let since = Some(Instant::now());
        assert_eq!(digests.find(&program, since), Known::No);
        let (again, program) = open(&path);
        assert_eq!(digests.read(&again, &program, since).unwrap(), digest);
        assert_eq!(digests.find(&program, since), Known::Digest(digest));
    }

    #[test]
    fn a_program_that_just_changed_is_not_remembered() {
        let (_dir, path) = program(b"abc");
        let digests = Digests::new(9, Arc::new(SystemClock));
        let (file, program) = open(&path);
        digests.read(&file, &program, None).unwrap();
        assert_eq!(digests.find(&program, None), Known::No);
    }

    #[test]
    fn a_large_program_is_not_read() {
        let (_dir, path) = program(b"abc");
        assert_eq!(Digests::new(2, later()).find(&open(&path).1, None), Known::TooLarge);
        assert_eq!(Digests::new(3, later()).find(&open(&path).1, None), Known::No);
    }

    /// Reads a file, and has somebody write to it at the first chance.
    struct Tampered<'a>(&'a File, Option<&'a dyn Fn()>);

    impl Read for Tampered<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if let Some(tamper) = self.1.take() {
                tamper();
            }
            self.0.read(buffer)
        }
    }

    #[test]
    fn a_program_that_changes_while_it_is_read_is_refused() {
        let (_dir, path) = program(b"abc");
        let append = || {
            let mut file = OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(b"d").unwrap();
        };
        let cut = || drop(OpenOptions::new().write(true).truncate(true).open(&path).unwrap());
        let ways: [&dyn Fn(); 2] = [&append, &cut];
        for tamper in ways {
            std::fs::write(&path, b"abc").unwrap();
            let (file, program) = open(&path);
            let error = hash(&file, Tampered(&file, Some(tamper)), program.id()).unwrap_err();
            assert!(matches!(error, AttestError::ProgramWritten), "{error}");
        }
    }

    #[test]
    fn a_program_that_was_exchanged_before_it_is_read_is_refused() {
        let (_dir, path) = program(b"abc");
        let (_file, program) = open(&path);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, b"other").unwrap();
        let error = Digests::new(9, later()).read(&open(&path).0, &program, None).unwrap_err();
        assert!(matches!(error, AttestError::ProgramWritten), "{error}");
    }

    #[test]
    fn memory_is_bounded() {
        let mut memory = Memory::default();
        let (dir, _) = program(b"");
        let path = dir.path().join("x");
        for size in 0..REMEMBERED + 10 {
            std::fs::write(&path, vec![0; size]).unwrap();
            let id = FileId::of(&std::fs::metadata(&path).unwrap());
            memory.remember(id, (Digest::default(), Instant::now()));
        }
        assert_eq!((memory.digests.len(), memory.order.len()), (REMEMBERED, REMEMBERED));
    }
}
