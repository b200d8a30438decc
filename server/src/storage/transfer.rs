//! Moving a store out of a data directory and into a database: everything, checked on both sides.
//!
//! The file begins with a line that says what it is. Then come pairs, each as the number of its space's
//! name (one byte) and the name, the lengths of key and value (four big-endian bytes each), and these; then
//! a zero byte, and the SHA-256 of all that. It has the audit log and what is registered, and no secret.
//!
//! What was exported is never opened again: two servers that go on from the same state would take the same
//! one-time key once each.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write as _};
use std::ops::Bound;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};

use super::directory::{ClaimError, DataDirectory};
use super::wrapping::{WrappingKey, WrappingKeyError};
use crate::audit::check::{CheckError, check_all};
use crate::audit::checkpoint::{KeyError, KeyPlace};
use crate::ca::rotation::{self, RotationError};
use crate::config::Config;
use crate::epoch::root::Roots;
use crate::epoch::{Doubt, proof};
use crate::journal::witness::{BootId, Witness};
use crate::store::embedded::{EmbeddedStore, OpenStoreError};
use crate::store::postgres::{OpenPostgresError, PostgresStore};
use crate::store::{Order, Space, Store, StoreError, Write, json, meta, parse};

const FIRST_LINE: &[u8] = b"claviger export 1\n";

/// How many pairs are moved at a time.
const PAGE: usize = 1_000;

/// The largest key or value, in bytes: far more than any that is written.
const MAX_BYTES: u32 = 64 << 20;

/// What was moved; the audit log was checked from its first record to its last.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Moved {
    /// How many pairs, by the name of their space.
    pub pairs: BTreeMap<&'static str, u64>,
}

/// A store was not moved.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The data directory can't be had.
    #[error(transparent)]
    Directory(#[from] ClaimError),
    /// The store in the data directory can't be opened.
    #[error(transparent)]
    Open(#[from] OpenStoreError),
    /// The database can't be opened.
    #[error(transparent)]
    Database(#[from] OpenPostgresError),
    /// The configuration names no database.
    #[error("there is nowhere to import to; set `store.postgres` and `store.key-file`")]
    NoDatabase,
    /// What wraps secrets in the database can't be had.
    #[error(transparent)]
    Wrapping(#[from] WrappingKeyError),
    /// It is not known to be complete.
    #[error(
        "the store may not be complete: {0}; start the server on it once, stop it, and export again"
    )]
    Doubt(Doubt),
    /// There is something already.
    #[error(
        "the database has {0} already, and nothing is put on top of that; `DROP SCHEMA claviger CASCADE` \
         if it is left from an import that was interrupted"
    )]
    NotEmpty(&'static str),
    /// The root of the epoch is somewhere else.
    #[error(
        "there is no root of epoch {0} in the data directory; import where the store was exported from, \
         with the same `data-dir`"
    )]
    NoRoot(u64),
    /// The key that signs checkpoints can't be taken along.
    #[error("cannot take along the key that signs checkpoints")]
    AuditKey(#[from] KeyError),
    /// The file can't be read or written.
    #[error("cannot read or write `{path}`", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what was exported.
    #[error("the file is not what was exported: {0}; export again")]
    Damaged(&'static str),
    /// The authorities' names can't be had.
    #[error("cannot name this server")]
    Name(#[from] RotationError),
    /// The audit log is not whole.
    #[error("the audit log is damaged")]
    Log(#[from] CheckError),
    /// A store can't be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Writes everything that is in the data directory's store to a new file at `to`, and marks the store, so
/// that no server goes on with it.
///
/// # Errors
///
/// [`TransferError`]; unless it says so, the store can go on as it was.
pub async fn export(config: &Config, to: &Path) -> Result<Moved, TransferError> {
    let directory = DataDirectory::claim(&config.data_dir)?;
    let store = EmbeddedStore::open(directory.path().join("store")).await?;
    if store.get(Space::Meta, meta::CHAIN).await?.is_some() {
        return Err(TransferError::Doubt(Doubt::Migrated));
    }
    let head = check_all(&store).await?;
    let witness = directory.path().join("witness");
    let heard = Witness::hear(&witness, BootId::current());
    let heard = heard.map_err(|source| TransferError::File { path: witness, source })?;
    if store.get(Space::Meta, meta::EXPORTED).await?.is_none()
        && let Some(doubt) = proof::examine(&store, head, heard).await?
    {
        return Err(TransferError::Doubt(doubt));
    }
    let failed = |source| TransferError::File { path: to.to_owned(), source };
    let file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(failed)?;
    let mut out = Out::begin(file).map_err(failed)?;
    // What says where the log ends comes last.
    for space in Space::ALL.into_iter().filter(|space| *space != Space::Meta).chain([Space::Meta]) {
        let mut from = Bound::Unbounded;
        loop {
            let page = store.scan(space, from, Bound::Unbounded, Order::Ascending, PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            from = Bound::Excluded(last.clone());
            for (key, value) in &page {
                out.pair(space, key, value).map_err(failed)?;
            }
        }
    }
    let pairs = out.end().map_err(failed)?;
    store.write(vec![Write::put(Space::Meta, meta::EXPORTED, json(&true))]).await?;
    Ok(Moved { pairs })
}

/// Reads what was exported to the file at `from` into the empty database of the configuration.
///
/// # Errors
///
/// [`TransferError`]; what is in the database then is not complete, and no server starts on it.
pub async fn import(config: &Config, from: &Path) -> Result<Moved, TransferError> {
    let database = config.store.as_ref().ok_or(TransferError::NoDatabase)?;
    let directory = DataDirectory::claim(&config.data_dir)?;
    let wrapping = WrappingKey::read(&database.key_file)?;
    let store = PostgresStore::open(database.url.expose(), database.ca_file.as_deref()).await?;
    read_into(&store, &directory, &wrapping, from).await
}

async fn read_into(
    store: &dyn Store,
    directory: &DataDirectory,
    wrapping: &WrappingKey,
    from: &Path,
) -> Result<Moved, TransferError> {
    for space in Space::ALL {
        let (least, most) = (Bound::Unbounded, Bound::Unbounded);
        if !store.scan(space, least, most, Order::Ascending, 1).await?.is_empty() {
            return Err(TransferError::NotEmpty(space.name()));
        }
    }
    let open = || {
        let file = File::open(from);
        file.map_err(|source| TransferError::File { path: from.to_owned(), source })
    };
    let mut pairs = BTreeMap::<&'static str, u64>::new();
    let mut check = In::begin(open()?)?;
    while let Some((space, _, _)) = check.next()? {
        let count = pairs.entry(space.name()).or_default();
        *count = count.saturating_add(1);
    }
    let name = rotation::own_name(&directory.keys())?;
    let mut page = Vec::with_capacity(PAGE);
    page.extend(KeyPlace::share(&directory.audit_key(), wrapping)?);
    let mut input = In::begin(open()?)?;
    while let Some((space, key, value)) = input.next()? {
        if space == Space::Meta && key == meta::EPOCH {
            page.push(wrapped_root(directory, wrapping, parse(&value)?).await?);
        }
        if space == Space::Authorities && key.starts_with(b"slots") {
            page.push(Write::put(space, [&key[..], b"@", name.as_bytes()].concat(), value));
        } else if space != Space::Meta || key != meta::EXPORTED {
            page.push(Write::put(space, key, value));
        }
        // The last ones go together: half of what says where the log ends says nothing.
        if PAGE <= page.len() && space != Space::Meta {
            store.write(std::mem::take(&mut page)).await?;
        }
    }
    store.write(page).await?;
    check_all(store).await?;
    Ok(Moved { pairs })
}

async fn wrapped_root(
    directory: &DataDirectory,
    wrapping: &WrappingKey,
    epoch: u64,
) -> Result<Write, TransferError> {
    let path = directory.keys();
    let failed = |source| TransferError::File { path: path.clone(), source };
    let root = Roots::read_file(&path, epoch).await.map_err(failed)?;
    let root = root.ok_or(TransferError::NoRoot(epoch))?;
    Roots::wrap(wrapping, epoch, &root).map_err(failed)
}

/// A file that is written.
struct Out {
    file: BufWriter<File>,
    hash: Context,
    pairs: BTreeMap<&'static str, u64>,
}

impl Out {
    fn begin(file: File) -> io::Result<Self> {
        let mut out = Self {
            file: BufWriter::new(file),
            hash: Context::new(&SHA256),
            pairs: BTreeMap::new(),
        };
        out.put(FIRST_LINE)?;
        Ok(out)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.file.write_all(bytes)
    }

    fn pair(&mut self, space: Space, key: &[u8], value: &[u8]) -> io::Result<()> {
        let length = |bytes: &[u8]| {
            let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= MAX_BYTES);
            length.map(u32::to_be_bytes).ok_or(io::ErrorKind::InvalidData)
        };
        let name = space.name().as_bytes();
        self.put(&[u8::try_from(name.len()).unwrap_or(u8::MAX)])?;
        self.put(name)?;
        self.put(&length(key)?)?;
        self.put(&length(value)?)?;
        self.put(key)?;
        self.put(value)?;
        let count = self.pairs.entry(space.name()).or_default();
        *count = count.saturating_add(1);
        Ok(())
    }

    /// It is durable when this returns.
    fn end(mut self) -> io::Result<BTreeMap<&'static str, u64>> {
        self.put(&[0])?;
        let hash = self.hash.finish();
        self.file.write_all(hash.as_ref())?;
        self.file.into_inner()?.sync_all()?;
        Ok(self.pairs)
    }
}

/// A space, and a pair in it.
type Moving = (Space, Vec<u8>, Vec<u8>);

/// A file that is read.
struct In {
    file: BufReader<File>,
    hash: Context,
}

impl In {
    fn begin(file: File) -> Result<Self, TransferError> {
        let mut input = Self { file: BufReader::new(file), hash: Context::new(&SHA256) };
        let first = input.take(FIRST_LINE.len())?;
        if first == FIRST_LINE { Ok(input) } else { Err(TransferError::Damaged("it is no export")) }
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>, TransferError> {
        let mut bytes = vec![0; length];
        let read = self.file.read_exact(&mut bytes);
        read.map_err(|_short| TransferError::Damaged("it ends too early"))?;
        self.hash.update(&bytes);
        Ok(bytes)
    }

    fn length(&mut self) -> Result<usize, TransferError> {
        let bytes = self.take(4)?.try_into().unwrap_or_default();
        let length = Some(u32::from_be_bytes(bytes)).filter(|length| *length <= MAX_BYTES);
        let length = length.and_then(|length| usize::try_from(length).ok());
        length.ok_or(TransferError::Damaged("something in it is too long"))
    }

    /// The next pair; `None` at the end of the file, which is whole.
    fn next(&mut self) -> Result<Option<Moving>, TransferError> {
        let length = self.take(1)?.first().copied().unwrap_or_default();
        if length == 0 {
            let hash = std::mem::replace(&mut self.hash, Context::new(&SHA256)).finish();
            if self.take(hash.as_ref().len())? != hash.as_ref() {
                return Err(TransferError::Damaged("its checksum is another"));
            }
            return Ok(None);
        }
        let name = self.take(length.into())?;
        let space = Space::ALL.into_iter().find(|space| space.name().as_bytes() == name);
        let space =
            space.ok_or(TransferError::Damaged("it has what this version does not know"))?;
        let (key, value) = (self.length()?, self.length()?);
        Ok(Some((space, self.take(key)?, self.take(value)?)))
    }
}
