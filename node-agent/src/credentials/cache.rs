//! What outlives a restart, for an agent that finds no server: entries, bundles, and SVIDs with their keys.
//! It is looked at only when the server does not answer, and never after it has.
//!
//! | to find | look in |
//! |---|---|
//! | when it is written, and under which key | here |
//! | what is written | [`contents`] |
//! | how it is closed to whoever has the disk, but not the agent's key | [`sealed`] |
//!
//! JWT-SVIDs that carry a name of their own (`jti`) are not kept: none of them is given out twice.

mod contents;
mod sealed;

use std::sync::Arc;
use std::time::Duration;

use claviger_core::time::{Clock, UnixTime};
use claviger_runtime::telemetry::Chain;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Snapshot, Update};
use crate::files::{DataDir, DataDirError};
use crate::identity::{StoredError, load_key};
use crate::keys::Key;
use crate::server::Link;
use crate::tokens::{Remembered, Tokens};
use contents::ContentsError;
use sealed::SealError;

const FILE: &str = "credentials.sealed";

/// The shortest time between two writes: what changes at the same time is written at once.
const PAUSE: Duration = Duration::from_secs(1);

/// The pause takes as many times as long as the write before it, so that a large file that changes all
/// the time does not keep the disk busy.
const LEISURE: u32 = 20;

/// The pause after a write that failed: what is in the way, such as a full disk, does not pass so soon.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(60);

/// The file. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    dir: DataDir,
    /// Held while the file, or the key that opens it, is replaced.
    writing: Arc<Mutex<()>>,
}

/// What was kept.
#[derive(Debug)]
pub(crate) struct Known {
    /// As if the server said so.
    pub(crate) update: Update,
    /// The JWT-SVIDs that may be given out again.
    pub(crate) tokens: Vec<Remembered>,
}

/// What is kept, wherever it changes.
#[derive(Debug)]
pub(crate) struct Sources {
    /// What can be given out.
    pub(crate) snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    /// JWT-SVIDs.
    pub(crate) tokens: Tokens,
    /// The way to the server: another one means another key of the agent.
    pub(crate) links: watch::Receiver<Option<Link>>,
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
}

impl Cache {
    /// The one in `dir`.
    pub(crate) fn new(dir: DataDir) -> Self {
        Self { dir, writing: Arc::default() }
    }

    /// What was kept; `None` if nothing was, or nothing that can be used: then the agent waits for its
    /// server.
    ///
    /// # Errors
    ///
    /// [`StoredError`] if the directory can't be used.
    pub(crate) async fn load(&self) -> Result<Option<Known>, StoredError> {
        let (Some(sealed), Some(key)) = (self.dir.read(FILE).await?, load_key(&self.dir).await?)
        else {
            return Ok(None);
        };
        match sealed::open(&sealed, &key).map_err(CacheError::from).and_then(|text| {
            let known = contents::read(&text)?;
            Ok(known)
        }) {
            Ok(known) => {
                let Known { update: Update { upserts, svids, wits, .. }, tokens } = &known;
                let (x509, wit, jwt) = (svids.len(), wits.len(), tokens.len());
                info!(entries = upserts.len(), x509, wit, jwt, "known from before");
                Ok(Some(known))
            }
            Err(error) => {
                warn!(error = %Chain(&error), "what was kept for a time without a server is of no use");
                Ok(None)
            }
        }
    }

    /// Keeps what can be given out, whenever that changes, or the agent's own key, until `stop` fires;
    /// and then what has changed since.
    pub(crate) async fn keep(
        self,
        mut sources: Sources,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut tokens = sources.tokens.changes();
        let mut stopping = false;
        while !stopping {
            stopping = tokio::select! {
                () = stop.cancelled() => true,
                changed = sources.snapshots.changed() => changed.is_err(),
                changed = tokens.changed() => changed.is_err(),
                changed = sources.links.changed() => changed.is_err(),
            };
            let snapshot = sources.snapshots.borrow_and_update().clone();
            let Some(snapshot) = snapshot else { continue };
            tokens.mark_unchanged();
            let begun = Instant::now();
            let saved = self.save(&snapshot, &sources.tokens, sources.clock.now()).await;
            let pause = match saved {
                Ok(()) => PAUSE.max(begun.elapsed() * LEISURE),
                Err(error) => {
                    error!(error = %Chain(&error), "cannot keep SVIDs for a time without a server");
                    PAUSE_AFTER_FAILURE
                }
            };
            if !stopping {
                stop.run_until_cancelled(tokio::time::sleep(pause)).await;
            }
        }
        Ok(())
    }

    async fn save(
        &self,
        snapshot: &Snapshot,
        tokens: &Tokens,
        now: UnixTime,
    ) -> Result<(), CacheError> {
        let _writing = self.writing.lock().await;
        let Some(key) = load_key(&self.dir).await? else { return Ok(()) };
        let text = contents::write(snapshot, tokens.remembered(), now)?;
        let sealed = sealed::seal(&text, &[&key])?;
        Ok(self.dir.write(FILE, sealed.into()).await?)
    }

    /// Lets `next` open what is kept, too, and then has the agent `take` it for its own key. Whenever the
    /// agent is killed, the key that it has opens the file.
    pub(crate) async fn pass_on<T>(&self, next: &Key, take: impl Future<Output = T>) -> T {
        let _writing = self.writing.lock().await;
        if let Err(error) = self.admit(next).await {
            // The agent's own SVID is worth more than what is kept.
            warn!(error = %Chain(&error), "what is kept cannot be passed on to the agent's next key");
        }
        take.await
    }

    async fn admit(&self, next: &Key) -> Result<(), CacheError> {
        let (Some(sealed), Some(key)) = (self.dir.read(FILE).await?, load_key(&self.dir).await?)
        else {
            return Ok(());
        };
        let text = sealed::open(&sealed, &key)?;
        let sealed = sealed::seal(&text, &[&key, next.pkcs8()])?;
        Ok(self.dir.write(FILE, sealed.into()).await?)
    }
}

/// Nothing can be kept, or what was kept is of no use.
#[derive(Debug, thiserror::Error)]
enum CacheError {
    #[error(transparent)]
    Dir(#[from] DataDirError),
    #[error(transparent)]
    Stored(#[from] StoredError),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Contents(#[from] ContentsError),
}

#[cfg(test)]
mod tests;
