//! Records as lines of JSON at the end of a file. Whoever writes one waits for nothing.

use std::path::PathBuf;

use claviger_runtime::tasks::Tasks;
use claviger_runtime::telemetry::LinesFile;
use serde::Serialize;
use tokio::sync::mpsc;
use tracing::{error, warn};

use crate::metrics;

/// How many records may wait for the disk; one is about 1 KiB.
const QUEUE: usize = 4_096;

/// The most records that are written at once.
const BATCH: usize = 256;

/// The way to the file.
#[derive(Clone, Debug)]
pub(crate) struct Queue(mpsc::Sender<Vec<u8>>);

impl Queue {
    /// Writes to the file at `path`. What is in the queue when `tasks` stop is still written, as are
    /// the records of connections that end by then: the writer ends with the last handle to it.
    pub(super) fn start(path: PathBuf, tasks: &Tasks) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tasks.spawn("access records", |_ends_with_the_connections| write(path, waiting));
        Self(queue)
    }

    /// Queues a record, or counts that there is no room.
    pub(super) fn push(&self, record: &impl Serialize) {
        let mut line = match serde_json::to_vec(record) {
            Ok(line) => line,
            Err(error) => return error!(%error, "an access record cannot be written as JSON"),
        };
        line.push(b'\n');
        if self.0.try_send(line).is_err() {
            metrics::records_lost(1);
        }
    }
}

async fn write(path: PathBuf, mut waiting: mpsc::Receiver<Vec<u8>>) -> anyhow::Result<()> {
    let mut file = LinesFile::new(path.clone());
    let mut batch = Vec::new();
    while 0 < waiting.recv_many(&mut batch, BATCH).await {
        if let Err(error) = file.append(&batch.concat()).await {
            metrics::records_lost(batch.len());
            warn!(path = %path.display(), %error, lost = batch.len(), "access records are lost");
        }
        batch.clear();
    }
    Ok(())
}
