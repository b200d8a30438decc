//! The one task that owns entries and SVIDs.

use std::sync::Arc;
use std::time::Duration;

use claviger_core::time::Clock;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::book::{Answer, Book, Counts, Kind};
use super::issue::{Issued, Trust, issue};
use super::{Applied, Snapshot, Update, WorkloadSvid, WorkloadWit};
use crate::backoff::jitter;
use crate::metrics;
use crate::server::Link;
use crate::standings::Edition;

/// Batches under way, of one kind.
type Asked<S> = FuturesUnordered<BoxFuture<'static, Vec<Answer<S>>>>;

/// Batches under way at a time, of each kind. One is on its way while the server works on another.
const BATCHES: usize = 4;

/// The clock is asked again at least this often: it may be set, and the machine may sleep.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Owns the book: takes in updates, asks for SVIDs, publishes snapshots.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// What it owns.
    pub(crate) book: Book,
    /// What the server says.
    pub(crate) updates: mpsc::Receiver<Update>,
    /// The way to the server.
    pub(crate) link: watch::Receiver<Option<Link>>,
    /// What everyone else sees.
    pub(crate) outputs: Outputs,
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
    /// Fires when nobody may be served any more.
    pub(crate) banned: CancellationToken,
    /// Rings when identities stand otherwise.
    pub(crate) editions: watch::Receiver<Edition>,
}

/// What the keeper publishes.
#[derive(Debug)]
pub(crate) struct Outputs {
    /// What can be given out; nothing before the first update.
    pub(crate) snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    /// How far what the server says has been taken in.
    pub(crate) applied: watch::Sender<Applied>,
}

impl Keeper {
    /// Keeps the book until `stop` fires.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let (mut x509, mut wit) = (Asked::<WorkloadSvid>::new(), Asked::<WorkloadWit>::new());
        let bell = self.book.bell();
        let (mut open, mut standings) = (true, self.book.reconsider(self.clock.now()));
        loop {
            self.publish(standings);
            self.ask(&mut x509);
            self.ask(&mut wit);
            let pause = self.pause(x509.len() < BATCHES && wit.len() < BATCHES);
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.banned.cancelled() => {
                    self.withdraw_all();
                    stop.cancelled().await;
                    return Ok(());
                }
                update = self.updates.recv(), if open => match update {
                    Some(update) => self.take_in(update),
                    None => open = false,
                },
                Some(answers) = x509.next() => {
                    self.book.settle(answers, self.clock.now(), jitter);
                }
                Some(answers) = wit.next() => {
                    self.book.settle(answers, self.clock.now(), jitter);
                }
                () = bell.notified() => {}
                Ok(()) = self.editions.changed() => {
                    standings = self.book.reconsider(self.clock.now());
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Asks for the SVIDs of one kind that are due, as far as there is room.
    fn ask<S: Issued>(&mut self, asked: &mut Asked<S>) {
        while asked.len() < BATCHES {
            let Some(bundle) = self.book.bundle() else { return };
            let entries = self.book.take_due::<S>(self.clock.now());
            if entries.is_empty() {
                return;
            }
            let trust = Trust { bundle, clock: Arc::clone(&self.clock) };
            let link = self.link.borrow().clone();
            asked.push(issue(link, entries, trust).boxed());
        }
    }

    /// Takes in `update` and those behind it: one snapshot is enough for all.
    fn take_in(&mut self, update: Update) {
        let now = self.clock.now();
        self.book.apply(update, now);
        while let Ok(update) = self.updates.try_recv() {
            self.book.apply(update, now);
        }
    }

    fn publish(&mut self, standings: u64) {
        self.book.drop_ended(self.clock.now());
        if let Some(snapshot) = self.book.take_changed() {
            let Counts { entries, x509, wit } = self.book.counts();
            metrics::held(entries, [(WorkloadSvid::NAME, x509), (WorkloadWit::NAME, wit)]);
            self.outputs.snapshots.send_replace(Some(Arc::new(snapshot)));
        }
        // The snapshot comes first: what is acknowledged is given out no more.
        let applied = Applied { cursor: self.book.applied(), standings };
        self.outputs.applied.send_if_modified(|last| {
            let changed = *last != applied;
            *last = applied;
            changed
        });
    }

    fn withdraw_all(&self) {
        self.outputs.snapshots.send_modify(|snapshot| {
            *snapshot = snapshot.as_ref().map(|last| Arc::new(last.emptied()));
        });
    }

    /// How long there is nothing to do; with no room for another batch, what is due has to wait.
    fn pause(&self, has_room: bool) -> Duration {
        let now = self.clock.now();
        let next = self.book.next_event().map_or(LONGEST_SLEEP, |next| next.since(now));
        let least = if has_room { Duration::ZERO } else { Duration::from_secs(1) };
        next.clamp(least, LONGEST_SLEEP)
    }
}
