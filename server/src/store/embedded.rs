//! The store on this machine's disk: fjall, a log-structured engine (decision 0001).
//!
//! Its journal takes every list of writes as one checksummed batch and one sync. Calls that may wait for the
//! disk run beside the async workers. The engine does not notice every kind of damage, hence the
//! checks above it: the audit log, the witness, the epoch fence; and one below, in `manifest`. After a power
//! cut it takes what it had not finished for damage, so that is cut off before, in `torn`.

mod manifest;
#[cfg(test)]
mod tests;
mod torn;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::DirBuilderExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use fjall::config::{FilterPolicy, PinningPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use tokio::task::spawn_blocking;
use tracing::warn;

use super::{Group, Order, Pair, Space, Store, StoreError, Turn, Write, meta};

/// The store in one directory.
#[derive(Clone)]
pub struct EmbeddedStore(Arc<Engine>);

struct Engine {
    database: Database,
    spaces: BTreeMap<Space, Keyspace>,
    path: PathBuf,
    /// How many bytes must be free before a write is begun.
    reserve: u64,
    /// Per space, a key below which there is nothing: dropping a range again and again would
    /// otherwise step over the remains of all that was dropped before.
    swept: Mutex<HashMap<Space, Vec<u8>>>,
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EmbeddedStore").field(&self.0.path).finish()
    }
}

/// The store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    /// The directory can't be used.
    #[error("cannot use `{path}` for the store; it has to be a directory this user may write to")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody has it open.
    #[error("the store in `{path}` is open already")]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// What is in the directory is not a whole store.
    #[error(
        "the store in `{path}` is damaged: {what}; restore the data directory from a backup, or \
         move it away to begin with an empty one"
    )]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl EmbeddedStore {
    /// What the engine needs to finish what it has begun: its write buffers, and a journal file.
    const RESERVE: u64 = 128 * MIB;

    /// Opens the store in `path`, or makes one if nothing is there. The caller sees to it that no
    /// other process does the same.
    ///
    /// # Errors
    ///
    /// [`OpenStoreError`]; a damaged store is never replaced by an empty one.
    pub async fn open(path: PathBuf) -> Result<Self, OpenStoreError> {
        Self::open_reserving(path, Self::RESERVE).await
    }

    /// The same of a store that was not closed before the machine went down: what was being written then, and
    /// is there in part, is thrown away. Nothing of it was acknowledged, unless it is damage; so whoever
    /// opens a store in this way begins a new epoch.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub(crate) async fn open_after_power_cut(path: PathBuf) -> Result<Self, OpenStoreError> {
        let place = path.clone();
        let cut = spawn_blocking(move || torn::cut_off(&place)).await;
        let cut = cut.unwrap_or_else(|panic| Err(io::Error::other(panic)));
        match cut {
            Ok(None) => {}
            Ok(Some(bytes)) => {
                warn!(bytes, "what was being written when the machine went down is thrown away");
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(OpenStoreError::Directory { path, source }),
        }
        Self::open(path).await
    }

    async fn open_reserving(path: PathBuf, reserve: u64) -> Result<Self, OpenStoreError> {
        let place = path.clone();
        let opening = spawn_blocking(move || open(path, reserve)).await;
        // The engine asserts some of what it reads.
        opening.unwrap_or_else(|panic| {
            Err(OpenStoreError::Damaged { path: place, what: panic.to_string() })
        })
    }

    /// Does `work` on this thread. What is asked for key by key was written a moment ago, and lies in memory.
    fn here<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Engine) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let done = catch_unwind(AssertUnwindSafe(|| work(&self.0)));
        done.unwrap_or_else(|_| Err(StoreError::failed(action, "the engine has given up")))
    }

    /// Does `work` beside the threads that serve, which may wait for the disk.
    async fn call<T, F>(&self, action: &'static str, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Engine) -> Result<T, StoreError> + Send + 'static,
    {
        let engine = Arc::clone(&self.0);
        let done = spawn_blocking(move || work(&engine)).await;
        done.unwrap_or_else(|panic| Err(StoreError::failed(action, panic)))
    }
}

const MIB: u64 = 1 << 20;

/// How many keys are looked up without handing them to another thread, which costs as much as about twenty of
/// them and has to wait for its turn.
const FEW: usize = 128;

fn open(path: PathBuf, reserve: u64) -> Result<EmbeddedStore, OpenStoreError> {
    let unusable = |source| OpenStoreError::Directory { path: path.clone(), source };
    let damaged = |what: String| OpenStoreError::Damaged { path: path.clone(), what };
    if !path.try_exists().map_err(unusable)? {
        create(&path)?;
    }
    if !path.join(VERSION).try_exists().map_err(unusable)? {
        return Err(damaged(format!("it has no `{VERSION}` file")));
    }
    if let Some(flaw) = manifest::flaw(&path).map_err(unusable)? {
        return Err(damaged(flaw));
    }
    let engine = |error| explain(&path, error);
    let database = configure(&path).open().map_err(engine)?;
    let mut spaces = BTreeMap::new();
    let mut younger = false;
    for space in Space::ALL {
        if !database.keyspace_exists(space.name()) && !is_younger(space, &spaces).map_err(engine)? {
            return Err(damaged(format!("the part that holds the {} is missing", space.name())));
        }
        younger |= !database.keyspace_exists(space.name());
        spaces.insert(space, database.keyspace(space.name(), || options(space)).map_err(engine)?);
    }
    if younger {
        sync_directories(&path).map_err(unusable)?;
    }
    let swept = Mutex::default();
    Ok(EmbeddedStore(Arc::new(Engine { database, spaces, path, reserve, swept })))
}

/// Whether the store was made by a version that did not know `space`: then it says nothing of what
/// came together with it.
fn is_younger(space: Space, known: &BTreeMap<Space, Keyspace>) -> fjall::Result<bool> {
    match (space, known.get(&Space::Meta)) {
        (Space::Once, Some(meta)) => Ok(!meta.contains_key(meta::SINCE)?),
        (Space::Standings | Space::Approvals | Space::Issued, Some(meta)) => {
            Ok(!meta.contains_key(meta::STANDINGS)?)
        }
        (Space::Tiles, Some(meta)) => Ok(!meta.contains_key(meta::HEAD)?),
        (_, _) => Ok(false),
    }
}

/// The file by which the engine knows its directory.
const VERSION: &str = "version";

/// Makes an empty store beside `path` and moves it there, so that a crash leaves all or nothing.
fn create(path: &Path) -> Result<(), OpenStoreError> {
    let unusable = |source| OpenStoreError::Directory { path: path.to_path_buf(), source };
    let unfinished = path.with_extension("new");
    if unfinished.try_exists().map_err(unusable)? {
        fs::remove_dir_all(&unfinished).map_err(unusable)?;
    }
    // The engine's own files are readable by whoever gets this far.
    fs::DirBuilder::new().mode(0o700).create(&unfinished).map_err(unusable)?;
    let engine = |error| explain(path, error);
    let database = configure(&unfinished).open().map_err(engine)?;
    for space in Space::ALL {
        database.keyspace(space.name(), || options(space)).map_err(engine)?;
    }
    database.persist(PersistMode::SyncAll).map_err(engine)?;
    drop(database);
    sync_directories(&unfinished).map_err(unusable)?;
    fs::rename(&unfinished, path).map_err(unusable)?;
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(unusable)
}

/// Makes durable what directories below `path` there are: the engine syncs what is in a space, but not
/// that there is such a space.
fn sync_directories(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_directories(&entry.path())?;
        }
    }
    fs::File::open(path)?.sync_all()
}

/// The engine's dimensions: small, because the server is (80 MB with 78,000 entries).
fn configure(path: &Path) -> fjall::DatabaseBuilder<Database> {
    Database::builder(path)
        .cache_size(8 * MIB)
        .worker_threads(1)
        .max_cached_files(Some(256))
        // Spaces that rarely change keep old journals alive up to this size; then they are flushed.
        .max_journaling_size(256 * MIB)
}

fn options(space: Space) -> KeyspaceCreateOptions {
    let buffer = match space {
        // Every operation writes to these two.
        Space::Audit | Space::Psks => 16 * MIB,
        Space::Entries => 4 * MIB,
        Space::Meta
        | Space::Tiles
        | Space::Agents
        | Space::Tokens
        | Space::Once
        | Space::Authorities
        | Space::Standings
        | Space::Approvals
        | Space::Issued
        | Space::Policies
        | Space::Series => MIB,
    };
    // In tests it is so small that what was written comes to lie in tables, and those are merged.
    let buffer = if cfg!(test) { buffer / 64 } else { buffer };
    let options = KeyspaceCreateOptions::default().max_memtable_size(buffer);
    if space != Space::Audit {
        return options;
    }
    // It grows for ever and is read in pages, now and then: no record is to cost memory for as long as the server
    // runs, and nobody looks for one that is not there.
    options
        .index_block_pinning_policy(PinningPolicy::disabled())
        .filter_policy(FilterPolicy::disabled())
}

fn explain(path: &Path, error: fjall::Error) -> OpenStoreError {
    let (path, what) = (path.to_path_buf(), error.to_string());
    if matches!(error, fjall::Error::Locked) {
        return OpenStoreError::InUse { path };
    }
    if let fjall::Error::Io(source) | fjall::Error::Storage(fjall::LsmError::Io(source)) = error
        && environmental(&source)
    {
        return OpenStoreError::Directory { path, source };
    }
    OpenStoreError::Damaged { path, what }
}

/// Whether an error is about the surroundings of the store, not about what is in it.
fn environmental(error: &io::Error) -> bool {
    use io::ErrorKind::{
        NotADirectory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };
    [NotADirectory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull]
        .contains(&error.kind())
}

impl Engine {
    fn space(&self, space: Space) -> Result<&Keyspace, StoreError> {
        self.spaces.get(&space).ok_or_else(|| StoreError::failed("find a space", space.name()))
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.space(space)?.get(key).map_err(|e| StoreError::failed("read", e))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan(
        &self,
        space: Space,
        range: (Bound<Vec<u8>>, Bound<Vec<u8>>),
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        let all = self.space(space)?.range(range);
        let pair = |guard: fjall::Guard| {
            let (key, value) = guard.into_inner().map_err(|e| StoreError::failed("read", e))?;
            Ok((key.to_vec(), value.to_vec()))
        };
        match order {
            Order::Ascending => all.take(limit).map(pair).collect(),
            Order::Descending => all.rev().take(limit).map(pair).collect(),
        }
    }

    fn write(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        self.check_room()?;
        // The engine does not order two writes of one key within one batch.
        let mut last: BTreeMap<(Space, Vec<u8>), Option<Vec<u8>>> = BTreeMap::new();
        let mut known = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut swept = known.clone();
        for write in writes {
            match write {
                Write::Put { space, key, value } => {
                    if let Some(floor) = swept.get_mut(&space).filter(|floor| **floor > key) {
                        floor.clone_from(&key);
                    }
                    last.insert((space, key), Some(value));
                }
                Write::Delete { space, key } => {
                    last.insert((space, key), None);
                }
                Write::DeleteBelow { space, key } => {
                    for old in self.keys_below(space, swept.get(&space), &key)? {
                        last.insert((space, old), None);
                    }
                    for (_, value) in last.range_mut((space, Vec::new())..(space, key.clone())) {
                        *value = None;
                    }
                    swept.insert(space, key);
                }
            }
        }
        self.commit(last)?;
        *known = swept;
        Ok(())
    }

    fn keys_below(
        &self,
        space: Space,
        from: Option<&Vec<u8>>,
        below: &[u8],
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let from = from.map_or(Bound::Unbounded, |floor| Bound::Included(floor.as_slice()));
        if matches!(from, Bound::Included(floor) if floor >= below) {
            return Ok(Vec::new());
        }
        let range = self.space(space)?.range::<&[u8], _>((from, Bound::Excluded(below)));
        let key = |guard: fjall::Guard| guard.key().map(|key| key.to_vec());
        range.map(key).collect::<Result<_, _>>().map_err(|e| StoreError::failed("read", e))
    }

    fn commit(
        &self,
        writes: BTreeMap<(Space, Vec<u8>), Option<Vec<u8>>>,
    ) -> Result<(), StoreError> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for ((space, key), value) in writes {
            match value {
                Some(value) => batch.insert(self.space(space)?, key, value),
                None => batch.remove(self.space(space)?, key),
            }
        }
        batch.commit().map_err(|e| StoreError::failed("write", e))
    }

    /// Refuses before the disk does: an engine that meets a full disk half way has to be restarted.
    fn check_room(&self) -> Result<(), StoreError> {
        let disk = rustix::fs::statvfs(&self.path)
            .map_err(|e| StoreError::failed("ask how full the disk is", e))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < self.reserve {
            return Err(StoreError::Full { free, reserve: self.reserve });
        }
        Ok(())
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.here("read", |engine| engine.get(space, key))
    }

    async fn get_many(
        &self,
        keys: Vec<(Space, Vec<u8>)>,
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let few = keys.len() <= FEW;
        let read = move |engine: &Engine| {
            keys.iter().map(|(space, key)| engine.get(*space, key)).collect()
        };
        if few { self.here("read", read) } else { self.call("read", read).await }
    }

    async fn scan(
        &self,
        space: Space,
        from: Bound<Vec<u8>>,
        to: Bound<Vec<u8>>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        self.call("read", move |engine| engine.scan(space, (from, to), order, limit)).await
    }

    async fn turn(&self) -> Result<Box<dyn Turn + '_>, StoreError> {
        Ok(Box::new(OnlyTurn(self)))
    }
}

/// It is always the turn of whoever has the data directory.
#[derive(Debug)]
struct OnlyTurn<'s>(&'s EmbeddedStore);

#[async_trait]
impl Turn for OnlyTurn<'_> {
    async fn news(&mut self) -> Result<Vec<Group>, StoreError> {
        Ok(Vec::new())
    }

    async fn get_many(
        &mut self,
        keys: Vec<(Space, Vec<u8>)>,
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.0.get_many(keys).await
    }

    async fn write(self: Box<Self>, writes: Vec<Write>) -> Result<(), StoreError> {
        if writes.is_empty() {
            return Ok(());
        }
        self.0.call("write", move |engine| engine.write(writes)).await
    }
}
