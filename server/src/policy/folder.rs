//! The folder that the policies lie in, and putting in force what lies there now.
//!
//! All or nothing: what is wrong anywhere changes nothing, and is said in the log, in the audit log,
//! in a metric and to whoever asks.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use claviger_core::audit::Event;
use claviger_core::time::{Clock, UnixTime};
use claviger_policy::{LoadError, PolicySet, Source};
use claviger_runtime::telemetry::Chain;
use metrics::{counter, gauge};
use tokio::sync::{Mutex, watch};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::changes::Watch;
use super::{Policies, kept};
use crate::journal::{Change, CommitError, Journal};
use crate::metrics as names;

/// How long a folder has to be left alone before it is read: an operator who changes two files gets
/// one change.
const SETTLED: Duration = Duration::from_millis(100);

/// The longest refusal that is kept, in characters.
const MAX_REFUSAL: usize = 2_000;

/// The folder. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Folder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: Option<PathBuf>,
    policies: Policies,
    journal: Journal,
    clock: Arc<dyn Clock>,
    status: watch::Sender<Status>,
    /// Held by whoever reads it.
    reading: Mutex<()>,
}

/// How it is with the folder.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Status {
    /// Since when the policies in force are.
    pub since: UnixTime,
    /// Why what lies in the folder now is not in force.
    pub refused: Option<String>,
}

/// Policies that were read as a server starts, and what tells when they change.
#[derive(Debug)]
pub struct Opened {
    dir: Option<PathBuf>,
    watch: Option<Watch>,
    since: UnixTime,
}

/// Reads the policies in `dir`, or the built-in ones, and writes down which.
///
/// # Errors
///
/// [`OpenError`] says what is wrong with them.
pub async fn open(
    dir: Option<&Path>,
    journal: &Journal,
    now: UnixTime,
) -> Result<(PolicySet, Opened), OpenError> {
    // Watched before it is read: no change falls in between.
    let watch = dir.map(Watch::open).transpose().map_err(OpenError::Watch)?;
    let set = match dir {
        Some(dir) => read(dir.to_owned()).await?,
        None => PolicySet::compile(Source::built_in())?,
    };
    record(journal, &set).await.map_err(OpenError::Record)?;
    Ok((set, Opened { dir: dir.map(Path::to_owned), watch, since: now }))
}

impl Opened {
    /// The folder, and what tells when it changes.
    #[must_use]
    pub fn with(self, policies: Policies, journal: Journal, clock: Arc<dyn Clock>) -> Following {
        let status = watch::Sender::new(Status { since: self.since, refused: None });
        let reading = Mutex::default();
        let inner = Inner { dir: self.dir, policies, journal, clock, status, reading };
        Following { folder: Folder(Arc::new(inner)), watch: self.watch }
    }
}

/// A folder, and what tells when it changes.
#[derive(Debug)]
pub struct Following {
    /// The folder.
    pub folder: Folder,
    watch: Option<Watch>,
}

impl Following {
    /// Puts in force whatever comes to lie in the folder, until told to stop.
    ///
    /// # Errors
    ///
    /// An error of the kernel's, if it tells no more.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let Some(mut watch) = self.watch else { return Ok(()) };
        while let Some(changed) = stop.run_until_cancelled(settled(&mut watch)).await {
            changed?;
            // It was said where it has to be said, and nobody else waits for an answer.
            drop(self.folder.reload().await);
        }
        Ok(())
    }
}

/// Waits for a change, and until no more come.
async fn settled(watch: &mut Watch) -> io::Result<()> {
    watch.changed().await?;
    while let Ok(more) = tokio::time::timeout(SETTLED, watch.changed()).await {
        more?;
    }
    Ok(())
}

impl Folder {
    /// No folder: the built-in policies are in force.
    #[cfg(test)]
    pub(crate) fn nowhere(policies: Policies, journal: Journal, clock: Arc<dyn Clock>) -> Self {
        Opened { dir: None, watch: None, since: clock.now() }.with(policies, journal, clock).folder
    }

    /// How it is with it.
    #[must_use]
    pub fn status(&self) -> Status {
        self.0.status.borrow().clone()
    }

    /// Puts in force what lies there now.
    ///
    /// # Errors
    ///
    /// [`ReloadError`] says what is wrong; then nothing has changed.
    pub async fn reload(&self) -> Result<(), ReloadError> {
        let Some(dir) = &self.0.dir else { return Err(ReloadError::NoFolder) };
        let _one_at_a_time = self.0.reading.lock().await;
        match read(dir.clone()).await {
            Ok(set) => self.enforce(set).await.map_err(ReloadError::Record),
            Err(wrong) => Err(self.refuse(&wrong).await),
        }
    }

    async fn enforce(&self, set: PolicySet) -> Result<(), CommitError> {
        let same = set.digest() == self.0.policies.current().digest();
        if !same {
            record(&self.0.journal, &set).await?;
            info!(policy = %set.digest(), policies = set.count(), "the policies changed");
            self.0.policies.replace(set);
            counter!(names::POLICY_LOADS, "outcome" => "loaded").increment(1);
        }
        gauge!(names::POLICIES_REFUSED).set(0);
        self.0.status.send_modify(|status| {
            status.refused = None;
            if !same {
                status.since = self.0.clock.now();
            }
        });
        Ok(())
    }

    async fn refuse(&self, wrong: &LoadError) -> ReloadError {
        let reason: String = Chain(wrong).to_string().chars().take(MAX_REFUSAL).collect();
        let known = self.0.status.borrow().refused.as_ref() == Some(&reason);
        if !known {
            error!(reason, "the policies in the folder are wrong, and the old ones stay in force");
            counter!(names::POLICY_LOADS, "outcome" => "refused").increment(1);
            gauge!(names::POLICIES_REFUSED).set(1);
            let policy = self.0.policies.current().digest();
            let refused = Event::PolicyRefused { policy, reason: reason.clone() };
            let change = Change { events: vec![refused], ..Change::default() };
            if let Err(error) = self.0.journal.commit(change).await {
                error!(error = %Chain(&error), "cannot write down that policies were refused");
            }
            self.0.status.send_modify(|status| status.refused = Some(reason.clone()));
        }
        ReloadError::Wrong(reason)
    }
}

/// Reads and compiles what lies in `dir`.
async fn read(dir: PathBuf) -> Result<PolicySet, LoadError> {
    let path = dir.clone();
    let reading = spawn_blocking(move || PolicySet::compile(Source::read(&dir)?)).await;
    reading.unwrap_or_else(|panic| Err(LoadError::Read { path, source: io::Error::other(panic) }))
}

/// Writes down that `set` is about to be in force, and keeps it.
async fn record(journal: &Journal, set: &PolicySet) -> Result<(), CommitError> {
    let kept = kept::keep(&**journal.store(), set.source()).await;
    let writes = kept.map_err(|error| CommitError::Store(Arc::new(error)))?;
    let loaded = Event::PolicyLoaded { policy: set.digest(), policies: set.count() };
    let change = Change { writes, events: vec![loaded], ..Change::default() };
    journal.commit(change).await.map(|_head| ())
}

/// A server cannot start with its policies.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// They are wrong.
    #[error(transparent)]
    Policy(#[from] LoadError),
    /// Nobody would tell when they change.
    #[error(
        "cannot watch the policy folder; if other programs watch too much, raise \
         `fs.inotify.max_user_instances`"
    )]
    Watch(#[source] io::Error),
    /// It could not be written down.
    #[error("cannot write to the audit log")]
    Record(#[source] CommitError),
}

/// The policies were not replaced.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// There is nothing to read.
    #[error(
        "the server has no policy folder: its built-in policies are in force; set `policy-dir`"
    )]
    NoFolder,
    /// What lies there is wrong.
    #[error("{0}")]
    Wrong(String),
    /// It could not be written down.
    #[error("cannot write to the audit log")]
    Record(#[source] CommitError),
}
