//! The task that owns the end of the log.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use claviger_core::audit::Head;
use metrics::histogram;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Pending;
use super::group::Group;
use super::witness::Witness;
use crate::epoch::LedgerTime;
use crate::storage::directory::DataDirectory;
use crate::store::Store;

/// The most changes that share one write. A larger group saves no more syncs and makes the first
/// one in it wait longer.
pub(super) const MAX_GROUP: usize = 1_024;

/// How long nobody must have written, after the signal to stop, for the journal to end.
const QUIET: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct Writer {
    pub(super) pending: mpsc::Receiver<Pending>,
    pub(super) store: Arc<dyn Store>,
    pub(super) time: Arc<LedgerTime>,
    pub(super) witness: Witness,
    /// The end of the log as it is on disk.
    pub(super) announce: watch::Sender<Head>,
    /// Keeps other servers away for as long as this one writes.
    pub(super) _directory: DataDirectory,
}

impl Writer {
    /// Writes groups until nobody wants to write any more, then leaves the witness's last word.
    pub(super) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        while let Some(pending) = self.next_group(&stop).await {
            self.write(pending).await?;
        }
        let head = *self.announce.borrow();
        self.witness.close(head).context("cannot write the witness")
    }

    /// The changes that wait, as soon as there is one; `None` when it is time to end.
    async fn next_group(&mut self, stop: &CancellationToken) -> Option<Vec<Pending>> {
        let mut pending = Vec::new();
        let quiet = async {
            stop.cancelled().await;
            tokio::time::sleep(QUIET).await;
        };
        tokio::select! {
            biased;
            _count = self.pending.recv_many(&mut pending, MAX_GROUP) => {}
            () = quiet => {
                // Nobody gets in any more; those who did are served.
                self.pending.close();
                self.pending.recv_many(&mut pending, MAX_GROUP).await;
            }
        }
        (!pending.is_empty()).then_some(pending)
    }

    /// Writes a group and answers it.
    ///
    /// If the store may or may not have written, nobody knows where the log ends: the server has
    /// to start again and look.
    async fn write(&mut self, pending: Vec<Pending>) -> anyhow::Result<()> {
        let began = Instant::now();
        let time = self.time.now();
        let head = *self.announce.borrow();
        let mut group = match Group::assemble(pending, &*self.store, head, time).await {
            Ok(group) => group,
            Err(failed) => {
                warn!(error = %failed.tell(), "cannot read what changes require");
                return Ok(());
            }
        };
        if group.len() == 0 {
            return Ok(());
        }
        let due = self.time.uncommitted(time);
        let writes = group.take_writes(due);
        if let Err(error) = self.store.write(writes).await {
            let known = error.untouched();
            let error = group.fail(error).tell();
            anyhow::ensure!(known, "cannot tell where the log ends: {error}");
            warn!(%error, "cannot write");
            return Ok(());
        }
        self.time.committed(due);
        self.finish(group, began)
    }

    fn finish(&mut self, group: Group, began: Instant) -> anyhow::Result<()> {
        histogram!("claviger_journal_group_changes")
            .record(f64::from(u32::try_from(group.len()).unwrap_or(u32::MAX)));
        histogram!("claviger_journal_commit_seconds").record(began.elapsed().as_secs_f64());
        let head = group.head();
        let witnessed = self.witness.record(head);
        self.announce.send_replace(head);
        group.succeed();
        witnessed.context("cannot write the witness")
    }
}
