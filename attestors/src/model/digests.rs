//! The SHA-256 of files, once for each state of one.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use claviger_core::time::{Clock, UnixTime};
use tokio::sync::watch;
use tokio::time::Instant;

use super::loaded::Loaded;
use super::manifest::{Digest, finished};
use crate::unix::FileId;
use crate::workload::FactsError;

/// How many files are remembered.
const REMEMBERED: usize = 4_096;

/// How many files wait for their turn. More, and something is wrong.
const WAITING: usize = 1_024;

/// The most files that are read at a time, if there are as many processors.
const THREADS: usize = 4;

/// How many bytes are read at a time: as many as stay in a processor's cache until they are hashed.
const PIECE: usize = 256 << 10;

/// A file that changed less than this ago may change again without looking different: file systems
/// tell time in steps.
const SETTLES: Duration = Duration::from_secs(2);

/// What became of a file: nothing yet, its digest, or why it has none.
type Outcome = Option<Result<Digest, Failure>>;

/// Why a file has no digest.
#[derive(Clone, Debug, thiserror::Error)]
enum Failure {
    #[error("it changed while it was read")]
    Changed,
    #[error("it cannot be read: {0}")]
    Io(String),
}

/// Reads files on threads of its own, and remembers what it found. Who asks for a file that somebody
/// else has asked for waits for the same digest. A file is read to its end even if nobody waits any
/// more: whoever asks next has it.
#[derive(Debug)]
pub(super) struct Digests {
    memory: Arc<Mutex<Memory>>,
    /// The threads end with it.
    jobs: SyncSender<Job>,
}

#[derive(Debug, Default)]
struct Memory {
    /// How many files were read.
    reads: u64,
    /// Each with the time since when it is to be read.
    digests: HashMap<FileId, (watch::Receiver<Outcome>, Instant)>,
    /// The keys of `digests`, oldest first; some may be gone.
    order: VecDeque<FileId>,
}

#[derive(Debug)]
struct Job {
    file: File,
    id: FileId,
    outcome: watch::Sender<Outcome>,
}

impl Digests {
    pub(super) fn open(clock: &Arc<dyn Clock>) -> Result<Self, OpenHashersError> {
        let (jobs, queue) = sync_channel(WAITING);
        let queue = Arc::new(Mutex::new(queue));
        let memory = Arc::<Mutex<Memory>>::default();
        let threads = thread::available_parallelism().map_or(1, Into::into).min(THREADS);
        for _ in 0..threads {
            let (queue, memory) = (Arc::clone(&queue), Arc::clone(&memory));
            let clock = Arc::clone(clock);
            let work = move || work(&queue, &memory, &*clock);
            thread::Builder::new()
                .name("model hasher".into())
                .spawn(work)
                .map_err(OpenHashersError)?;
        }
        Ok(Self { memory, jobs })
    }

    /// The digest of a file, read after `since`.
    pub(super) async fn digest(
        &self,
        loaded: &Loaded,
        since: Option<Instant>,
    ) -> Result<Digest, FactsError> {
        let mut outcome = self.outcome(loaded, since)?;
        let known = outcome.wait_for(Option::is_some).await;
        let failed = |why: Failure| FactsError::unknown(format!("`{}`: {why}", loaded.name()));
        match known.ok().and_then(|known| known.clone()) {
            Some(digest) => digest.map_err(failed),
            None => Err(FactsError::unknown("shutting down")),
        }
    }

    /// How many files were read so far.
    #[cfg(test)]
    pub(super) fn reads(&self) -> u64 {
        lock(&self.memory).reads
    }

    /// What becomes of a file that is known, is being read or is to be read.
    fn outcome(
        &self,
        loaded: &Loaded,
        since: Option<Instant>,
    ) -> Result<watch::Receiver<Outcome>, FactsError> {
        let mut memory = lock(&self.memory);
        let id = loaded.id();
        if let Some((outcome, asked)) = memory.digests.get(&id)
            && since.is_none_or(|since| since < *asked)
        {
            return Ok(outcome.clone());
        }
        let file = loaded.file().try_clone();
        let file = file.map_err(|error| FactsError::unavailable("cannot read a file", error))?;
        let (outcome, receiver) = watch::channel(None);
        self.jobs.try_send(Job { file, id, outcome }).map_err(|error| match error {
            TrySendError::Full(_) => FactsError::unknown("too many files wait to be read"),
            TrySendError::Disconnected(_) => FactsError::unknown("shutting down"),
        })?;
        memory.remember(id, receiver.clone());
        Ok(receiver)
    }
}

impl Memory {
    fn remember(&mut self, id: FileId, outcome: watch::Receiver<Outcome>) {
        if self.digests.insert(id, (outcome, Instant::now())).is_some() {
            return;
        }
        self.order.push_back(id);
        if REMEMBERED < self.order.len()
            && let Some(oldest) = self.order.pop_front()
        {
            self.digests.remove(&oldest);
        }
    }

    fn forget(&mut self, id: &FileId) {
        self.digests.remove(id);
        self.order.retain(|known| known != id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half done by a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads one file after the other, until there will be no more.
fn work(queue: &Mutex<Receiver<Job>>, memory: &Mutex<Memory>, clock: &dyn Clock) {
    let mut piece = vec![0; PIECE];
    loop {
        let job = lock(queue).recv();
        let Ok(Job { file, id, outcome }) = job else { return };
        let digest = hash(&file, id, &mut piece);
        let mut memory = lock(memory);
        memory.reads = memory.reads.saturating_add(1);
        let settled = UnixTime::from_secs(id.changed_at()) < clock.now().before(SETTLES);
        if digest.is_err() || !settled {
            memory.forget(&id);
        }
        drop(memory);
        outcome.send_replace(Some(digest));
    }
}

/// The SHA-256 of `file`, if it is `id` before and after.
fn hash(file: &File, id: FileId, piece: &mut [u8]) -> Result<Digest, Failure> {
    let failed = |error: io::Error| Failure::Io(error.to_string());
    let unchanged = || match file.metadata() {
        Ok(metadata) if FileId::of(&metadata) == id => Ok(()),
        Ok(_other) => Err(Failure::Changed),
        Err(error) => Err(failed(error)),
    };
    unchanged()?;
    let mut context = Context::new(&SHA256);
    let mut at = 0_u64;
    loop {
        let read = match file.read_at(piece, at) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        // A file that grows as fast as it is read must have an end, too.
        at = at.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        if id.size() < at {
            return Err(Failure::Changed);
        }
        context.update(piece.get(..read).unwrap_or_default());
    }
    unchanged()?;
    Ok(finished(context))
}

/// There are no threads to be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot start threads that read files")]
pub struct OpenHashersError(#[source] io::Error);
