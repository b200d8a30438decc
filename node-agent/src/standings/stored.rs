//! What outlives a restart: who is in quarantine, and who is risked.

use claviger_core::id::SpiffeId;
use claviger_core::standing::Standing;
use claviger_runtime::telemetry::Chain;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::{Standings, Update};
use crate::files::{DataDir, DataDirError};

const FILE: &str = "standings.json";

/// The most bytes of names that are kept; what a directory takes is twice as much.
const MAX_NAMES: usize = 8 << 20;

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u64,
    records: Vec<Record>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Record {
    id: SpiffeId,
    standing: Standing,
}

impl Standings {
    /// What was known before the last stop.
    ///
    /// # Errors
    ///
    /// [`LoadStandingsError`] if that can't be told. To begin without it would be to serve who is in
    /// quarantine.
    pub(crate) async fn load(dir: &DataDir) -> Result<Self, LoadStandingsError> {
        let standings = Self::default();
        let Some(text) = dir.read(FILE).await? else { return Ok(standings) };
        let damaged = |source: Box<dyn std::error::Error + Send + Sync>| {
            LoadStandingsError::Damaged { path: dir.path(FILE).display().to_string(), source }
        };
        let Stored { version, records } =
            serde_json::from_slice(&text).map_err(|error| damaged(error.into()))?;
        let records = records.into_iter().map(|Record { id, standing }| (id, standing)).collect();
        let update = Update { all: false, records, version };
        standings.apply(update).map_err(|error| damaged(error.into()))?;
        Ok(standings)
    }

    async fn save(&self, dir: &DataDir) {
        let stored = self.to_stored();
        let saved = match serde_json::to_vec(&stored) {
            Ok(text) => dir.write(FILE, text.into()).await,
            Err(error) => return error!(%error, "cannot write how identities stand"),
        };
        if let Err(error) = saved {
            error!(error = %Chain(&error), "cannot keep how identities stand");
        }
    }

    /// What has to be known without the server: of whom there is nothing to fear, nothing. Should it
    /// be too much, those in quarantine come first.
    fn to_stored(&self) -> Stored {
        let changes = self.since(None);
        let mut records: Vec<_> = changes.records;
        records.retain(|(_, standing)| standing.quarantined || 0 < standing.risk.percent());
        records.sort_by_key(|(_, standing)| (!standing.quarantined, standing.version));
        let count = records.len();
        let mut names = 0_usize;
        records.retain(|(id, _)| {
            names = names.saturating_add(id.path().len()).saturating_add(RECORD);
            names <= MAX_NAMES
        });
        if records.len() < count {
            error!(kept = records.len(), of = count, "too many identities to keep how all stand");
        }
        let records = records.into_iter().map(|(id, standing)| Record { id, standing }).collect();
        Stored { version: changes.edition.version, records }
    }
}

/// What a record takes beside its path.
const RECORD: usize = 128;

/// Writes down what changes, as soon as it does, until `stop` fires. What comes while a file is written
/// is written with the next.
pub(crate) async fn keep(standings: Standings, dir: DataDir, stop: CancellationToken) {
    let mut editions = standings.watch();
    while let Some(Ok(())) = stop.run_until_cancelled(editions.changed()).await {
        standings.save(&dir).await;
    }
}

/// What was known of identities can't be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadStandingsError {
    /// The directory can't be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The file is none of ours.
    #[error(
        "`{path}` is damaged, which says who is in quarantine; remove it to have the server say so anew"
    )]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
