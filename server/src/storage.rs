//! All that the server remembers, opened together and in the right order.
//!
//! | to find | look in |
//! |---|---|
//! | the data directory and who has it | [`directory`] |
//! | files that hold a secret | `secret_file` |
//!
//! The order is the argument: claim the directory; open the store and check the end of its log;
//! hear the witness; and only if all agree, continue. Otherwise a new epoch begins, durably, before
//! anybody is served.

pub mod directory;
#[cfg(test)]
pub(crate) mod fixture;
pub(crate) mod secret_file;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use claviger_core::audit::Event;
use claviger_core::id::TrustDomain;
use claviger_core::time::{Clock, UnixTime};
use claviger_runtime::tasks::Tasks;

use crate::audit::Checkpoints;
use crate::audit::check::{CheckError, check_end};
use crate::audit::checkpoint::KeyError;
use crate::audit::migrate::migrate;
use crate::epoch::root::Roots;
use crate::epoch::{Doubt, Epochs, FenceError, LedgerTime, proof};
use crate::journal::witness::{BootId, Witness};
use crate::journal::{Change, CommitError, Journal};
use crate::ledger::Ledger;
use crate::standings::{self, Standings};
use crate::store::embedded::{EmbeddedStore, OpenStoreError};
use crate::store::{Space, Store, StoreError, meta, parse};
use directory::{ClaimError, DataDirectory};

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
        let store = EmbeddedStore::open(directory.path().join("store")).await?;
        Self::open_with(Arc::new(store), directory, clock, trust_domain, tasks).await
    }

    /// Opens what is in `store`.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub(crate) async fn open_with(
        store: Arc<dyn Store>,
        directory: DataDirectory,
        clock: Arc<dyn Clock>,
        trust_domain: &TrustDomain,
        tasks: &Tasks,
    ) -> Result<Self, OpenError> {
        let path = directory.path().to_path_buf();
        let unreadable = |source| OpenError::Unreadable { path: path.clone(), source };
        let damaged = |source| OpenError::Log { path: path.clone(), source };
        let migrated = migrate(&*store).await.map_err(damaged)?;
        let tree = check_end(&*store).await.map_err(damaged)?;
        let head = tree.head();

        let file = path.join("witness");
        let silent = |source| OpenError::Witness { path: file.clone(), source };
        let boot = BootId::current();
        let testimony = Witness::hear(&file, boot).map_err(silent)?;
        let time = stored_time(&*store).await.map_err(unreadable)?;
        let time = Arc::new(LedgerTime::new(clock, time));
        let doubt = proof::examine(&*store, head, testimony).await.map_err(unreadable)?;
        let doubt = migrated.then_some(Doubt::Migrated).or(doubt).or_else(|| {
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
        let roots = Roots::new(directory.keys());
        let epochs = Epochs::open(journal.clone(), roots, Arc::clone(&time), doubt).await?;
        let started = Event::ServerStarted { epoch: epochs.current().number };
        let change = Change { events: vec![started], ..Change::default() };
        journal.commit(change).await.map_err(OpenError::Record)?;

        let standings = Standings::open(journal.clone(), time, trust_domain, tasks).await?;
        let (log, fence, stands) = (journal.clone(), epochs.clone(), standings.clone());
        let opened = Ledger::open(log, fence, stands, trust_domain, tasks).await;
        let ledger = opened.map_err(unreadable)?;
        let key = directory.keys().join("audit.key");
        let (domain, log) = (trust_domain.clone(), journal.clone());
        let checkpoints = Checkpoints::open(&key, domain, log, epochs.clone())
            .map_err(|source| OpenError::Key { path: key, source })?;
        let checkpoints = Arc::new(checkpoints);
        Ok(Self { journal, ledger, epochs, standings, checkpoints, directory })
    }
}

async fn stored_time(store: &dyn Store) -> Result<UnixTime, StoreError> {
    let stored = store.get(Space::Meta, meta::TIME).await?;
    stored.map_or(Ok(UnixTime::default()), |stored| parse(&stored))
}

#[cfg(test)]
mod tests;
