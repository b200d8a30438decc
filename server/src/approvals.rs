//! Approvals: what may only be done if a human said so, of exactly this, once.
//!
//! Whoever asks for something that a policy permits with `@approval("human")` is denied, and what they
//! asked for waits for the operator. Approved of, the next request that is the same to the last parameter
//! uses the approval up, in the same write that records it.
//!
//! | to find | look in |
//! |---|---|
//! | what waits, and what was said of it | `table` |
//!
//! What waits lies in memory. An approval lies in the store, in the epoch in which it was given: a server
//! that was restored from a backup honours none that it may have seen used.

mod table;

use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use claviger_core::approval::ApprovalId;
use claviger_core::audit::Event;
use claviger_core::decision::{Question, Why};
use claviger_core::grant::Requester;
use claviger_core::time::UnixTime;
use serde::{Deserialize, Serialize};

use crate::epoch::{Epoch, Epochs};
use crate::journal::{Change, CommitError, Journal, Require};
use crate::store::{Order, Space, StoreError, Write, json, parse};
use table::Table;
pub(crate) use table::{Listed, State};

/// How long an approval can be used if nobody says.
pub const TTL: Duration = Duration::from_secs(300);

/// The longest that one can be used.
pub const MAX_TTL: Duration = Duration::from_secs(86_400);

/// The most approvals that are given and not used.
const MAX_GIVEN: usize = 1_000;

/// What waits for an approval, and what was approved of. Clones are handles to the same.
#[derive(Clone, Debug, Default)]
pub struct Approvals(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    table: Mutex<Table>,
    /// Held from the look at what waits to what is said of it.
    answering: tokio::sync::Mutex<()>,
}

/// An approval that was given: proof that there was one, until it is used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Given {
    pub(crate) id: ApprovalId,
    pub(crate) until: UnixTime,
    /// The record as it lies in the store.
    stored: Vec<u8>,
    /// The epoch in which it was given, as a requirement.
    epoch: Require,
}

/// As it lies in the store.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Record {
    question: Question,
    given_at: UnixTime,
    until: UnixTime,
    epoch: u64,
}

/// What the human says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Answer {
    /// It may be done once, until then.
    Yes(Duration),
    /// It may not.
    No,
}

impl Given {
    /// What has to happen with whatever it permits, or not at all.
    pub(crate) fn use_up(&self) -> Change {
        let key = *self.id.as_bytes();
        Change {
            require: vec![
                self.epoch.clone(),
                Require::value(Space::Approvals, key, self.stored.clone()),
            ],
            writes: vec![Write::delete(Space::Approvals, key)],
            events: vec![Event::ApprovalUsed { id: self.id }],
        }
    }
}

impl Approvals {
    /// Takes up what was approved of and not used when the server ended.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read.
    pub(crate) async fn load(&self, journal: &Journal, epochs: &Epochs) -> Result<(), StoreError> {
        let (store, unbounded) = (journal.store(), Bound::Unbounded);
        let limit = MAX_GIVEN.saturating_mul(2);
        let found =
            store.scan(Space::Approvals, unbounded.clone(), unbounded, Order::Ascending, limit);
        let (epoch, now) = (epochs.current(), epochs.time().now());
        for (key, stored) in found.await? {
            self.take_up(key, stored, &epoch, now)?;
        }
        Ok(())
    }

    /// What lies in the store under `key` counts, or is none any more.
    fn take_up(
        &self,
        key: Vec<u8>,
        stored: Vec<u8>,
        epoch: &Epoch,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let record: Record = parse(&stored)?;
        let id = ApprovalId::of(&record.question);
        let is_alive = record.epoch == epoch.number
            && key == id.as_bytes()
            && now <= record.until
            && record.until <= now.after(MAX_TTL);
        if is_alive {
            let given = Given { id, until: record.until, stored, epoch: epoch.in_force() };
            self.table().give(record.question, given);
        } else {
            self.table().bury(key);
        }
        Ok(())
    }

    /// Takes in what was said to another server, or used there, if `group` says so.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if what it says is no approval.
    pub(crate) fn take_in(&self, group: &[Write], epochs: &Epochs) -> Result<(), StoreError> {
        for write in group {
            match write {
                Write::Put { space: Space::Approvals, key, value } => {
                    let (epoch, now) = (epochs.current(), epochs.time().now());
                    self.take_up(key.clone(), value.clone(), &epoch, now)?;
                }
                Write::Delete { space: Space::Approvals, key } => self.table().withdraw(key),
                Write::Put { .. } | Write::Delete { .. } | Write::DeleteBelow { .. } => {}
            }
        }
        Ok(())
    }

    /// The approval of exactly what `question` asks. Without one, it waits for one from now on.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub(crate) fn find(&self, question: &Question) -> Result<Given, Why> {
        self.table().find(question)
    }

    /// It was used, or cannot be: it is none any more.
    pub(crate) fn forget(&self, given: &Given) {
        self.table().forget(given);
    }

    /// What waits, what was approved of and not used, and what was refused lately; what was asked first
    /// comes first.
    pub(crate) fn list(&self, now: UnixTime) -> Vec<Listed> {
        self.table().list(now)
    }

    /// Records what a human says of `id`, durably, and lets it count.
    ///
    /// # Errors
    ///
    /// [`AnswerError`]; then it is as it was.
    pub(crate) async fn answer(
        &self,
        (journal, epochs): (&Journal, &Epochs),
        id: ApprovalId,
        answer: Answer,
        by: Requester,
    ) -> Result<Listed, AnswerError> {
        let _alone = self.0.answering.lock().await;
        let now = epochs.time().now();
        let question = self.table().question(&id, now).ok_or(AnswerError::Unknown)?;
        let buried = self.table().buried();
        let mut change = Change {
            writes: buried.iter().map(|key| Write::delete(Space::Approvals, key.clone())).collect(),
            ..Change::default()
        };
        let (principal, action) = (question.principal.id.clone(), question.action.clone());
        let listed = match answer {
            Answer::No => {
                change.writes.push(Write::delete(Space::Approvals, *id.as_bytes()));
                change.events.push(Event::ApprovalRefused { id, principal, action, requester: by });
                journal.commit(change).await.map_err(AnswerError::Commit)?;
                self.table().refuse(&id, now).ok_or(AnswerError::Unknown)?
            }
            Answer::Yes(ttl) => {
                if MAX_TTL < ttl || ttl.is_zero() {
                    return Err(AnswerError::Ttl);
                }
                if MAX_GIVEN <= self.table().given() {
                    return Err(AnswerError::Full);
                }
                let (until, epoch) = (now.after(ttl), epochs.current());
                let (question, number) = (question, epoch.number);
                let record = Record { question, given_at: now, until, epoch: number };
                let (stored, in_force) = (json(&record), epoch.in_force());
                change.require.push(in_force.clone());
                change.writes.push(Write::put(Space::Approvals, *id.as_bytes(), stored.clone()));
                let given = Event::ApprovalGiven { id, principal, action, until, requester: by };
                change.events.push(given);
                journal.commit(change).await.map_err(AnswerError::Commit)?;
                let given = Given { id, until, stored, epoch: in_force };
                self.table().give(record.question, given)
            }
        };
        self.table().unbury(&buried);
        Ok(listed)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a human said does not count.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    /// Nobody asked for it, or not lately.
    #[error("nobody asked for it within the last hour; `claviger approval list` shows what waits")]
    Unknown,
    /// It would last too long.
    #[error("an approval can be used for 1 s to {} s", MAX_TTL.as_secs())]
    Ttl,
    /// There are as many as there may be.
    #[error("{MAX_GIVEN} approvals are given and not used, as many as there may be; refuse some")]
    Full,
    /// It could not be written down.
    #[error("cannot record what was said")]
    Commit(#[source] CommitError),
}

#[cfg(test)]
mod tests;
