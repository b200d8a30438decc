//! The task that owns the end of the log.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use claviger_core::audit::tile::Growth;
use claviger_core::audit::{Head, TreeHash};
use claviger_runtime::telemetry::Chain;
use metrics::histogram;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Pending;
use super::group::{Failed, Group};
use super::news::News;
use super::witness::Witness;
use crate::audit::record::{MAX_PAGE, read};
use crate::audit::tiles;
use crate::epoch::LedgerTime;
use crate::storage::directory::DataDirectory;
use crate::store::{Space, Store, StoreError, Write, meta, parse};

/// The most changes that share one write. A larger group saves no more syncs and makes the first
/// one in it wait longer.
pub(super) const MAX_GROUP: usize = 1_024;

/// How long nobody must have written, after the signal to stop, for the journal to end.
const QUIET: Duration = Duration::from_millis(250);

/// For how long it is tried again to write what a shared store did not take. Whoever waits gives up later.
const PATIENCE: Duration = Duration::from_secs(8);

/// How soon a store is asked again that did not say what others wrote.
const LATER: Duration = Duration::from_secs(1);

/// What is to be done.
enum Work {
    /// These changes wait.
    Write(Vec<Pending>),
    /// Others may have written.
    Look,
}

#[derive(Debug)]
pub(super) struct Writer {
    pub(super) pending: mpsc::Receiver<Pending>,
    pub(super) store: Arc<dyn Store>,
    pub(super) time: Arc<LedgerTime>,
    pub(super) witness: Witness,
    /// The tree of the log as this server left it.
    pub(super) tree: Growth,
    /// The end of the log as it is on disk.
    pub(super) announce: watch::Sender<Head>,
    pub(super) news: News,
    /// Whether several changes were in the last group.
    pub(super) grouped: bool,
    /// Keeps other servers away for as long as this one writes.
    pub(super) _directory: DataDirectory,
}

impl Writer {
    /// Writes groups until nobody wants to write any more, then leaves the witness's last word.
    pub(super) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let store = Arc::clone(&self.store);
        while let Some(work) = self.next(&*store, &stop).await {
            match work {
                Work::Write(pending) => self.write(&*store, pending).await?,
                Work::Look => match store.news().await {
                    Ok(news) => self.take_in(news)?,
                    Err(error) => self.look_later(error).await?,
                },
            }
        }
        let head = *self.announce.borrow();
        self.witness.close(head).context("cannot write the witness")
    }

    /// What is to be done next; `None` when it is time to end.
    async fn next(&mut self, store: &dyn Store, stop: &CancellationToken) -> Option<Work> {
        let mut pending = Vec::new();
        let quiet = async {
            stop.cancelled().await;
            tokio::time::sleep(QUIET).await;
        };
        tokio::select! {
            biased;
            _count = self.pending.recv_many(&mut pending, MAX_GROUP) => {
                self.let_others_join(&mut pending).await;
            }
            () = quiet => {
                // Nobody gets in any more; those who did are served.
                self.pending.close();
                self.pending.recv_many(&mut pending, MAX_GROUP).await;
            }
            () = store.others() => return Some(Work::Look),
        }
        (!pending.is_empty()).then_some(Work::Write(pending))
    }

    /// Whoever was answered together comes back together: those who are about to ask need not wait until
    /// the first of them has been written.
    async fn let_others_join(&mut self, pending: &mut Vec<Pending>) {
        let mut before = 0;
        while before < pending.len() && self.grouped && pending.len() < MAX_GROUP {
            before = pending.len();
            tokio::task::yield_now().await;
            while pending.len() < MAX_GROUP
                && let Ok(another) = self.pending.try_recv()
            {
                pending.push(another);
            }
        }
        self.grouped = 1 < pending.len();
    }

    /// Writes a group and answers it. What a shared store did not take for a reason of its own is tried
    /// again: others may have been first, or the database that it is may have moved.
    async fn write(&mut self, store: &dyn Store, pending: Vec<Pending>) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut failed = self.attempt(store, pending, began).await?;
        while let Some(again) = failed {
            failed = if again.is_worth_another(began.elapsed(), PATIENCE) {
                self.attempt(store, again.into_pending(), began).await?
            } else {
                refuse(again)?;
                None
            };
        }
        Ok(())
    }

    /// Writes a group and answers it, unless the store fails.
    async fn attempt(
        &mut self,
        store: &dyn Store,
        pending: Vec<Pending>,
        began: Instant,
    ) -> anyhow::Result<Option<Failed>> {
        let turn = async {
            let mut turn = store.turn().await?;
            let news = turn.news().await?;
            Ok((turn, news))
        };
        let (mut turn, news) = match turn.await {
            Ok(turn) => turn,
            Err(error) => return Ok(Some(Failed::all(pending, error))),
        };
        self.take_in(news)?;
        let time = self.time.now();
        let tree = match self.tree(store).await {
            Ok(tree) => tree,
            Err(error) => return Ok(Some(Failed::all(pending, error))),
        };
        let kept = store.is_shared();
        let mut group = match Group::assemble(pending, &mut *turn, (tree, time), kept).await {
            Ok(group) => group,
            Err(failed) => return Ok(Some(failed)),
        };
        if group.is_empty() {
            group.succeed();
            if let Err(error) = turn.write(Vec::new()).await {
                warn!(error = %Chain(&error), "cannot end a turn");
            }
            return Ok(None);
        }
        let due = self.time.uncommitted(time);
        let writes = group.take_writes(due);
        if let Err(error) = turn.write(writes).await {
            return Ok(Some(group.fail(error)));
        }
        self.time.committed(due);
        self.finish(group, began)?;
        Ok(None)
    }

    /// Takes in what others have written: the end of the log and the time are where they left them.
    fn take_in(&mut self, news: Vec<crate::store::Group>) -> anyhow::Result<()> {
        for group in news {
            for write in group.iter() {
                let Write::Put { space: Space::Meta, key, value } = write else { continue };
                match key.as_slice() {
                    meta::HEAD => self.log_ends(parse(value)?)?,
                    meta::TIME => self.time.learn(parse(value)?),
                    _ => {}
                }
            }
            self.news.tell(group);
        }
        Ok(())
    }

    /// The tree of the log as it is on disk, which others may have written to.
    async fn tree(&mut self, store: &dyn Store) -> Result<Growth, StoreError> {
        let head = *self.announce.borrow();
        let own = self.tree.head();
        let missing = head.size.saturating_sub(own.size);
        if head != own && usize::try_from(missing).is_ok_and(|missing| missing <= MAX_PAGE) {
            // Others have stored the tiles above these.
            for record in read(store, own.size.saturating_add(1), MAX_PAGE).await? {
                if record.sequence <= head.size {
                    self.tree.push(TreeHash::of_leaf(&record.body));
                }
            }
            drop(self.tree.take_changed());
        } else if head != own {
            self.tree = tiles::resume(store, head.size).await?;
        }
        if self.tree.head() == head {
            return Ok(self.tree.clone());
        }
        let what = "it is not that of the records that others wrote";
        Err(StoreError::failed("take up the tree of the audit log", what))
    }

    fn log_ends(&mut self, head: Head) -> anyhow::Result<()> {
        self.announce.send_replace(head);
        self.witness.record(head).context("cannot write the witness")
    }

    /// The store does not tell what others wrote.
    async fn look_later(&self, error: StoreError) -> anyhow::Result<()> {
        anyhow::ensure!(error.settles(), "cannot tell what others wrote: {}", Chain(&error));
        warn!(error = %Chain(&error), "cannot tell what others wrote; asking again in a second");
        tokio::time::sleep(LATER).await;
        Ok(())
    }

    fn finish(&mut self, mut group: Group, began: Instant) -> anyhow::Result<()> {
        histogram!("claviger_journal_group_changes")
            .record(f64::from(u32::try_from(group.len()).unwrap_or(u32::MAX)));
        histogram!("claviger_journal_commit_seconds").record(began.elapsed().as_secs_f64());
        let (head, tree) = group.take_tree();
        self.tree = tree;
        let witnessed = self.log_ends(head);
        group.succeed();
        witnessed
    }
}

/// Answers those whose group was not written, as far as anybody knows.
///
/// If the store may or may not have written, and will not tell, nobody knows where the log ends: the
/// server has to start again and look.
fn refuse(failed: Failed) -> anyhow::Result<()> {
    let is_settled = failed.is_settled();
    let error = failed.tell();
    anyhow::ensure!(is_settled, "cannot tell where the log ends: {}", Chain(&*error));
    warn!(error = %Chain(&*error), "cannot write");
    Ok(())
}
