//! The task that drops what has expired, and notices a clock that was set back.

use std::collections::HashMap;
use std::ops::Bound;
use std::time::Duration;

use claviger_core::psk::identity::Serial;
use claviger_core::time::UnixTime;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::series::SweepSeriesError;
use super::token::TokenRecord;
use super::{Ledger, once};
use crate::ca::issued;
use crate::epoch::{Doubt, FenceError};
use crate::journal::{Change, CommitError};
use crate::store::{Order, Space, StoreError, Write, parse};

/// How often it looks. Records are kept by the minute, so sooner is of no use.
const PERIOD: Duration = Duration::from_secs(15);

/// How many records one write drops: few enough that redemptions do not wait for it.
const BATCH: usize = 1_024;

/// For how long it is remembered of an SVID that has ended that it was issued: as a revocation list has
/// it, it ends with its last second.
const LAST: Duration = Duration::from_secs(1);

/// How often it looks at series.
const SERIES_PERIOD: Duration = Duration::from_secs(60 * 60);

/// How long ago a PSK or SVID may have been decided about, and still be on its way into the store.
const STRAGGLERS: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub(super) struct Sweeper {
    ledger: Ledger,
    /// Where it stopped: there is nothing to drop before. It saves stepping over what was dropped.
    from: [u8; 16],
    /// Below what was dropped last of stores that drop whole parts, by space.
    dropped: HashMap<Space, Vec<u8>>,
    /// The same of what was issued.
    issued_from: [u8; 8],
    /// The time of the last round.
    last: UnixTime,
    /// When series are looked at next: each is remembered for days.
    series_at: UnixTime,
}

/// A round was not completed; the next one takes it up again.
#[derive(Debug, thiserror::Error)]
pub(super) enum SweepError {
    #[error("cannot read what has expired")]
    Store(#[from] StoreError),
    #[error("cannot drop what has expired")]
    Commit(#[from] CommitError),
    #[error("cannot drop series that have ended")]
    Series(#[from] SweepSeriesError),
    #[error("cannot begin a new epoch")]
    Fence(#[from] FenceError),
}

impl Sweeper {
    pub(super) fn new(ledger: Ledger) -> Self {
        let (last, series_at) = (UnixTime::default(), UnixTime::default());
        Self {
            ledger,
            from: [0; 16],
            dropped: HashMap::new(),
            issued_from: [0; 8],
            last,
            series_at,
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        // The clock was looked at when the storage was opened; nothing else is urgent.
        let mut rounds = tokio::time::interval_at(Instant::now() + PERIOD, PERIOD);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(rounds.tick()).await.is_some() {
            if let Err(error) = self.round().await {
                warn!(error = %claviger_runtime::telemetry::Chain(&error), "sweep interrupted");
            }
        }
        Ok(())
    }

    /// Looks at the clock, then drops what has expired.
    pub(super) async fn round(&mut self) -> Result<(), SweepError> {
        let epochs = &self.ledger.0.epochs;
        if let Some(behind) = epochs.time().behind() {
            let doubt = Doubt::ClockSetBack { seconds: behind.as_secs() };
            epochs.fence(epochs.current().number, &doubt).await?;
        }
        let now = self.ledger.now();
        if now < self.last {
            self.from = [0; 16];
            self.issued_from = [0; 8];
            self.series_at = now;
        }
        self.last = now;
        if self.ledger.0.journal.store().is_shared() {
            self.drop_parts(now).await?;
        } else if self.ledger.0.psks.used() > 0 {
            self.drop_psks(now).await?;
        }
        if self.ledger.0.tokens.used() > 0 {
            self.drop_tokens(now).await?;
        }
        if !self.ledger.0.journal.store().is_shared() {
            let freed = |count| self.ledger.0.once.free(count);
            if self.ledger.0.once.used() > 0 {
                self.drop_below(Space::Once, ([0; 8], once::first_alive(now)), freed).await?;
            }
            let ended = issued::first_alive(now.before(LAST));
            self.drop_below(Space::Issued, (self.issued_from, ended), |_count| {}).await?;
            self.issued_from = issued::first_alive(now.before(STRAGGLERS));
        }
        if self.ledger.0.series.len() > 0 && self.series_at <= now {
            self.ledger.drop_series(now).await?;
            self.series_at = now.after(SERIES_PERIOD);
        }
        Ok(())
    }

    /// Drops the parts in which everything has expired, of a store that others fill and sweep, too. How
    /// many there are is counted anew each time.
    async fn drop_parts(&mut self, now: UnixTime) -> Result<(), SweepError> {
        let inner = &self.ledger.0;
        let store = inner.journal.store();
        let alive = [
            (Space::Psks, Serial::first_alive(now.before(STRAGGLERS)).to_vec()),
            (Space::Once, once::first_alive(now.before(STRAGGLERS)).to_vec()),
            (Space::Issued, issued::first_alive(now.before(STRAGGLERS)).to_vec()),
        ];
        let mut is_news = false;
        for (space, alive) in alive {
            let key = store.whole_parts(space, &alive).unwrap_or(alive);
            if self.dropped.get(&space) != Some(&key) {
                let writes = vec![Write::DeleteBelow { space, key: key.clone() }];
                inner.journal.commit(Change { writes, ..Change::default() }).await?;
                self.dropped.insert(space, key);
                is_news = true;
            }
        }
        if is_news {
            inner.psks.recount(store.count(Space::Psks).await?);
            inner.tokens.recount(store.count(Space::Tokens).await?);
            inner.once.recount(store.count(Space::Once).await?);
        }
        Ok(())
    }

    /// Drops what lies in `space` below `alive`, where there is nothing below `from`. How many those were
    /// is told to `freed`.
    async fn drop_below(
        &self,
        space: Space,
        (from, alive): ([u8; 8], [u8; 8]),
        freed: impl Fn(usize),
    ) -> Result<(), SweepError> {
        let journal = &self.ledger.0.journal;
        loop {
            let (from, to) = (Bound::Included(from.to_vec()), Bound::Excluded(alive.to_vec()));
            let expired = journal.store().scan(space, from, to, Order::Ascending, BATCH).await?;
            let Some((last, _)) = expired.last() else { return Ok(()) };
            // The least key above the last one.
            let key = [last.as_slice(), &[0]].concat();
            let writes = vec![Write::DeleteBelow { space, key }];
            journal.commit(Change { writes, ..Change::default() }).await?;
            freed(expired.len());
        }
    }

    async fn drop_psks(&mut self, now: UnixTime) -> Result<(), SweepError> {
        let inner = &self.ledger.0;
        let alive = Serial::first_alive(now);
        loop {
            let from = Bound::Included(self.from.to_vec());
            let to = Bound::Excluded(alive.to_vec());
            let store = inner.journal.store();
            let expired = store.scan(Space::Psks, from, to, Order::Ascending, BATCH).await?;
            let Some((last, _)) = expired.last() else { break };
            // The least key above the last one.
            let key = [last.as_slice(), &[0]].concat();
            let writes = vec![Write::DeleteBelow { space: Space::Psks, key }];
            inner.journal.commit(Change { writes, ..Change::default() }).await?;
            inner.psks.free(expired.len());
            self.from = last.as_slice().try_into().unwrap_or(self.from);
        }
        self.from = Serial::first_alive(now.before(STRAGGLERS));
        Ok(())
    }

    async fn drop_tokens(&self, now: UnixTime) -> Result<(), SweepError> {
        let inner = &self.ledger.0;
        let epoch = inner.epochs.current().number;
        let mut from = Bound::Unbounded;
        loop {
            let (store, to) = (inner.journal.store(), Bound::Unbounded);
            let page = store.scan(Space::Tokens, from, to, Order::Ascending, BATCH).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            from = Bound::Excluded(last.clone());
            let mut writes = Vec::new();
            for (key, stored) in page {
                let record: TokenRecord = parse(&stored)?;
                if record.expires_at < now || record.epoch < epoch {
                    writes.push(Write::delete(Space::Tokens, key));
                }
            }
            let dropped = writes.len();
            if dropped > 0 {
                inner.journal.commit(Change { writes, ..Change::default() }).await?;
                inner.tokens.free(dropped);
            }
        }
    }
}
