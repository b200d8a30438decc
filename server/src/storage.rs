//! All that the server remembers, opened together and in the right order.
//!
//! | to find | look in |
//! |---|---|
//! | the data directory and who has it | [`directory`] |
//! | files that hold a secret | `secret_file` |
//! | moving a store into a database | [`transfer`] |
//! | secrets in a store that others can read | `wrapping` |
//!
//! The order is the argument: claim the directory; open the store and check the end of its log;
//! hear the witness; and only if all agree, continue. Otherwise a new epoch begins, durably, before
//! anybody is served.

pub mod directory;
#[cfg(test)]
pub(crate) mod fixture;
pub(crate) mod secret_file;
#[cfg(test)]
mod several;
pub mod transfer;
pub(crate) mod wrapping;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use claviger_core::audit::Event;
use claviger_core::id::TrustDomain;
use claviger_core::time::{Clock, UnixTime};
use claviger_runtime::tasks::Tasks;

use crate::audit::Checkpoints;
use crate::audit::check::{CheckError, check_end};
use crate::audit::checkpoint::{KeyError, KeyPlace};
use crate::audit::migrate::migrate;
use crate::config::DatabaseConfig;
use crate::epoch::root::Roots;
use crate::epoch::{Doubt, Epochs, FenceError, LedgerTime, proof};
use crate::journal::witness::{BootId, Witness};
use crate::journal::{Change, CommitError, Journal};
use crate::ledger::Ledger;
use crate::standings::{self, Standings};
use crate::store::embedded::{EmbeddedStore, OpenStoreError};
use crate::store::postgres::{OpenPostgresError, PostgresStore};
use crate::store::{Space, Store, StoreError, Write, meta, parse};
use directory::{ClaimError, DataDirectory};
use wrapping::WrappingKey;
pub use wrapping::WrappingKeyError;

/// What the server remembers. It is written to until the last clone of its handles is gone, or
/// until the tasks have stopped: see [`crate::journal`].
#[derive(Clone, Debug)]
pub struct Storage {
    /// The way to change anything, and to read everything.
    pub journal: Journal,
    /// What may happen once.
    pub ledger: Ledger,
    /// The epoch in force.
    pub epochs: Epochs,
    /// How identities stand.
    pub standings: Standings,
    /// What agents remember for the server.
    pub checkpoints: Arc<Checkpoints>,
    /// The directory, for those who keep keys in it.
    pub directory: DataDirectory,
}

/// The storage can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data directory can't be had.
    #[error(transparent)]
    Directory(#[from] ClaimError),
    /// The store can't be opened.
    #[error(transparent)]
    Store(#[from] OpenStoreError),
    /// It goes on somewhere else.
    #[error(
        "the store in `{path}` was exported, and goes on in a database: set `store.postgres`; if nothing was \
         ever imported, restore the data directory from a backup of before, or begin with an empty one",
        path = path.display()
    )]
    Exported {
        /// Where it was.
        path: PathBuf,
    },
    /// The database can't be used.
    #[error(transparent)]
    Database(#[from] OpenPostgresError),
    /// What is secret in the database can't be opened.
    #[error(transparent)]
    Wrapping(#[from] WrappingKeyError),
    /// The store opened, but can't be read.
    #[error("the store in `{path}` is damaged; restore the data directory from a backup")]
    Unreadable {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The audit log is not whole.
    #[error("the audit log in `{path}` is damaged; restore the data directory from a backup")]
    Log {
        /// Where.
        path: PathBuf,
        /// How.
        #[source]
        source: CheckError,
    },
    /// The witness can't be read or written.
    #[error("cannot read or write `{path}`")]
    Witness {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The epoch can't be continued, and no new one can begin.
    #[error("cannot continue the epoch of the ledger, nor begin a new one")]
    Epoch(#[from] FenceError),
    /// The key that signs checkpoints can't be had.
    #[error("the audit key `{path}` is not usable")]
    Key {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// How identities stand can't be taken up.
    #[error("cannot take up who is risked and who is in quarantine")]
    Standings(#[from] standings::OpenError),
    /// The start can't be recorded.
    #[error("cannot record that the server starts")]
    Record(#[source] CommitError),
}

/// Where everything is kept.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) store: Arc<dyn Store>,
    /// What is this server's alone.
    pub(crate) directory: DataDirectory,
    /// What wraps secrets in the store, if others can read it.
    pub(crate) wrapping: Option<Arc<WrappingKey>>,
}

impl Storage {
    /// Opens the embedded storage in the directory at `path`, which is made if it does not exist.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; damage is an error, never a silent loss.
    pub async fn open(
        path: &Path,
        clock: Arc<dyn Clock>,
        trust_domain: &TrustDomain,
        tasks: &Tasks,
    ) -> Result<Self, OpenError> {
        let directory = DataDirectory::claim(path)?;
        let place = directory.path().join("store");
        let store = if was_cut_off(&directory)? {
            EmbeddedStore::open_after_power_cut(place).await?
        } else {
            EmbeddedStore::open(place).await?
        };
        let exported = store.get(Space::Meta, meta::EXPORTED).await;
        let unreadable = |source| OpenError::Unreadable { path: path.to_path_buf(), source };
        if exported.map_err(unreadable)?.is_some() {
            return Err(OpenError::Exported { path: path.to_path_buf() });
        }
        let kept = Kept { store: Arc::new(store), directory, wrapping: None };
        Self::open_with(kept, clock, trust_domain, tasks).await
    }

    /// Opens the storage in the `database` that several servers share; what is this server's alone is in
    /// the directory at `path`.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub async fn open_shared(
        path: &Path,
        database: &DatabaseConfig,
        clock: Arc<dyn Clock>,
        trust_domain: &TrustDomain,
        tasks: &Tasks,
    ) -> Result<Self, OpenError> {
        let directory = DataDirectory::claim(path)?;
        let wrapping = Some(Arc::new(WrappingKey::read(&database.key_file)?));
        let store = PostgresStore::open(database.url.expose(), database.ca_file.as_deref()).await?;
        let kept = Kept { store: Arc::new(store), directory, wrapping };
        Self::open_with(kept, clock, trust_domain, tasks).await
    }

    /// Opens what is `kept`.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub(crate) async fn open_with(
        kept: Kept,
        clock: Arc<dyn Clock>,
        trust_domain: &TrustDomain,
        tasks: &Tasks,
    ) -> Result<Self, OpenError> {
        let Kept { store, directory, wrapping } = kept;
        let path = directory.path().to_path_buf();
        let unreadable = |source| OpenError::Unreadable { path: path.clone(), source };
        let damaged = |source| OpenError::Log { path: path.clone(), source };
        // What was imported has the present form already.
        let migrated = wrapping.is_none() && migrate(&*store).await.map_err(damaged)?;
        // Nobody else writes while it is looked at, and what was written before is no news.
        let mut turn = store.turn().await.map_err(unreadable)?;
        turn.news().await.map_err(unreadable)?;
        let tree = check_end(&*store).await.map_err(damaged)?;
        let head = tree.head();
        turn.write(Vec::new()).await.map_err(unreadable)?;

        let file = path.join("witness");
        let silent = |source| OpenError::Witness { path: file.clone(), source };
        let boot = BootId::current();
        let testimony = Witness::hear(&file, boot).map_err(silent)?;
        let time = stored_time(&*store).await.map_err(unreadable)?;
        let time = Arc::new(LedgerTime::new(clock, time));
        let doubt = match &wrapping {
            None => proof::examine(&*store, head, testimony).await,
            Some(_) => proof::examine_shared(&*store, head, testimony).await,
        };
        let doubt = migrated.then_some(Doubt::Migrated).or(doubt.map_err(unreadable)?);
        let doubt = doubt.or_else(|| {
            time.behind().map(|behind| Doubt::ClockSetBack { seconds: behind.as_secs() })
        });

        let mut witness = Witness::open(&file, boot).map_err(silent)?;
        if doubt.is_none() {
            witness.begin(head).map_err(silent)?;
        }
        let journal = {
            let guard = (witness, directory.clone());
            Journal::start(store, tree, Arc::clone(&time), guard, tasks)
        };
        let (roots, key) = match wrapping {
            None => (Roots::Files(directory.keys()), KeyPlace::File(directory.audit_key())),
            Some(wrapping) => (Roots::Wrapped(Arc::clone(&wrapping)), KeyPlace::Shared(wrapping)),
        };
        let epochs = Epochs::open(journal.clone(), roots, Arc::clone(&time), doubt).await?;
        let started = Event::ServerStarted { epoch: epochs.current().number };
        let change = Change { events: vec![started], ..Change::default() };
        journal.commit(change).await.map_err(OpenError::Record)?;

        let standings = Standings::open(journal.clone(), time, trust_domain, tasks).await?;
        let (log, fence, stands) = (journal.clone(), epochs.clone(), standings.clone());
        let opened = Ledger::open(log, fence, stands, trust_domain, tasks).await;
        let ledger = opened.map_err(unreadable)?;
        let (domain, log) = (trust_domain.clone(), journal.clone());
        let checkpoints = Checkpoints::open(&key, domain, log, epochs.clone())
            .await
            .map_err(|source| OpenError::Key { path: directory.audit_key(), source })?;
        let checkpoints = Arc::new(checkpoints);
        Ok(Self { journal, ledger, epochs, standings, checkpoints, directory })
    }
}

impl Storage {
    /// Takes in what another server has written.
    ///
    /// # Errors
    ///
    /// [`TakeInError`] if that can't be read.
    pub(crate) async fn take_in(&self, group: &[Write]) -> Result<(), TakeInError> {
        let is_fence = |write: &Write| matches!(write, Write::Put { space: Space::Meta, key, .. } if key == meta::EPOCH);
        if group.iter().any(is_fence) {
            self.epochs.catch_up().await?;
        }
        Ok(self.standings.take_in(group).await?)
    }
}

/// What another server has written can't be taken in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeInError {
    /// Its epoch can't.
    #[error("cannot take up the epoch that another server began")]
    Epoch(#[from] FenceError),
    /// It is not what a server of this version writes.
    #[error("cannot take in what another server wrote")]
    Store(#[from] StoreError),
}

/// Whether the machine may have gone down while a server ran on `directory`. Then a new epoch begins.
fn was_cut_off(directory: &DataDirectory) -> Result<bool, OpenError> {
    let path = directory.path().join("witness");
    let heard = Witness::hear(&path, BootId::current());
    let heard = heard.map_err(|source| OpenError::Witness { path, source })?;
    Ok(heard.is_none_or(|said| !said.clean && !said.same_boot))
}

async fn stored_time(store: &dyn Store) -> Result<UnixTime, StoreError> {
    let stored = store.get(Space::Meta, meta::TIME).await?;
    stored.map_or(Ok(UnixTime::default()), |stored| parse(&stored))
}

#[cfg(test)]
mod tests;
