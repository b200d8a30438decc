//! Which models a process has loaded: the files of weights that it has open or mapped, each by its
//! SHA-256 in a manifest that somebody signed.
//!
//! | to find | look in |
//! |---|---|
//! | what an operator sets | `config` |
//! | signed manifests, as OpenSSF Model Signing v1.0 has them | `manifest` |
//! | those that an operator registered, and what they say of a set of files | `registry` |
//! | which files a process has loaded | `loaded`, `maps` |
//! | the SHA-256 of a file, once for each state of it | `digests` |
//! | being told when a file changes | `watches` |
//!
//! If one loaded file is in no manifest, nothing is said of any. There is no verifier: the agent reads
//! the files itself and believes its kernel.

mod config;
mod digests;
mod loaded;
mod manifest;
mod maps;
mod registry;
mod watches;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use claviger_core::selector::Selectors;
use claviger_core::time::Clock;
use futures_util::StreamExt as _;
use futures_util::future::pending;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::unix::FileId;
use crate::workload::{FactsError, Process, WorkloadAttestor};
use digests::Digests;
use loaded::{Loaded, Patterns};
use registry::Registry;
use watches::{Watched, Watches};

pub use config::Config;
pub use digests::OpenHashersError;
pub use manifest::{Manifest, ManifestError, Resource};
pub use registry::RegistryError;
pub use watches::Watch;

/// The kind of these facts.
pub const KIND: &str = "model";

/// How many processes are looked at, at a time.
const LOOKS: usize = 16;

/// How often a process is looked at until its files stay the same while they are read.
const ATTEMPTS: usize = 3;

/// Finds out which models processes have loaded. To be used within a Tokio runtime.
#[derive(Debug)]
pub struct Attestor {
    patterns: Arc<Patterns>,
    registry: Arc<Registry>,
    digests: Digests,
    watches: Arc<Watches>,
    looks: Arc<Semaphore>,
    patience: Duration,
    recheck: Duration,
}

impl Attestor {
    /// An attestor with these settings, and what has to run for it to be told when files change.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if a manifest can't be used, or if the settings have
    /// [`problems`](Config::problems).
    pub fn open(config: &Config, clock: &Arc<dyn Clock>) -> Result<(Self, Watch), OpenError> {
        if let Some(problem) = config.problems().into_iter().next() {
            return Err(OpenError::Config { key: problem.key, advice: problem.advice });
        }
        let (watches, watch) = watches::open().map_err(OpenError::Watches)?;
        let attestor = Self {
            patterns: Arc::new(Patterns::new(config)),
            registry: Arc::new(Registry::open(config)?),
            digests: Digests::open(clock)?,
            watches,
            looks: Arc::new(Semaphore::new(LOOKS)),
            patience: config.patience,
            recheck: config.recheck,
        };
        Ok((attestor, watch))
    }

    /// The files of weights that `process` has loaded now.
    async fn look(&self, process: &Process) -> Result<Vec<Loaded>, FactsError> {
        let stopping = || FactsError::unknown("shutting down");
        let slot = Arc::clone(&self.looks).acquire_owned().await.map_err(|_closed| stopping())?;
        let (patterns, dir) = (Arc::clone(&self.patterns), process.proc_dir()?);
        let look = spawn_blocking(move || {
            let found = loaded::find(&dir, &patterns);
            drop(slot);
            found
        });
        look.await.map_err(|_cancelled| stopping())?
    }

    /// What the manifests say of `loaded`, of which all has to be known.
    async fn recognise(
        &self,
        loaded: &[Loaded],
        since: Option<Instant>,
    ) -> Result<Selectors, FactsError> {
        let mut files = Vec::with_capacity(loaded.len());
        for file in loaded {
            files.push((file.name(), self.digests.digest(file, since).await?));
        }
        let registry = Arc::clone(&self.registry);
        let patterns = Arc::clone(&self.patterns);
        let read = spawn_blocking(move || registry.recognise(&files, &patterns)).await;
        read.map_err(|_cancelled| FactsError::unknown("shutting down"))?
    }
}

fn ids(loaded: &[Loaded]) -> BTreeSet<FileId> {
    loaded.iter().map(Loaded::id).collect()
}

#[async_trait]
impl WorkloadAttestor for Attestor {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn patience(&self) -> Duration {
        self.patience
    }

    async fn facts(&self, process: &Process) -> Result<Selectors, FactsError> {
        let mut loaded = self.look(process).await?;
        for _ in 0..ATTEMPTS {
            if loaded.is_empty() {
                return Ok(Selectors::new());
            }
            let facts = self.recognise(&loaded, process.caller().since).await?;
            let after = self.look(process).await?;
            if ids(&loaded) == ids(&after) {
                return Ok(facts);
            }
            loaded = after;
        }
        Err(FactsError::unknown("the process keeps loading other files while they are read"))
    }

    async fn changed(&self, process: &Process, said: &Selectors) {
        if said.is_empty() {
            return pending().await;
        }
        loop {
            // First it is made sure that no change is missed from now on, then that there was none.
            let Ok(loaded) = self.look(process).await else { return };
            let watched: Result<Vec<_>, _> =
                loaded.iter().map(|file| self.watches.watch(file)).collect();
            let Ok(mut watched) = watched else { return };
            drop(loaded);
            if self.facts(process).await.is_ok_and(|facts| facts == *said) {
                // What the process opens beside is told by nobody: it is looked for.
                let mut touched: FuturesUnordered<_> =
                    watched.iter_mut().map(Watched::touched).collect();
                drop(tokio::time::timeout(self.recheck, touched.next()).await);
            } else {
                return;
            }
        }
    }
}

/// Why there is no attestor.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting makes no sense.
    #[error("`{key}`: {advice}")]
    Config {
        /// The setting.
        key: String,
        /// What to write.
        advice: String,
    },
    /// A manifest can't be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// There are no threads to read files.
    #[error(transparent)]
    Hashers(#[from] OpenHashersError),
    /// The kernel does not tell when files change.
    #[error("cannot be told when files change (inotify); see fs.inotify.max_user_instances")]
    Watches(#[source] std::io::Error),
}
