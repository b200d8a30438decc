//! What a group of changes comes to: which of them hold, and what is written for those.

use std::collections::HashMap;
use std::time::Duration;

use claviger_core::audit::tile::Growth;
use claviger_core::audit::{Head, Sequence, TreeHash};
use claviger_core::time::UnixTime;
use tokio::sync::oneshot;

use super::{CommitError, Pending, Ready, Require};
use crate::audit::{record, tiles};
use crate::store::{Space, StoreError, Turn, Write, json, meta};

type Answer = oneshot::Sender<Result<Head, CommitError>>;

/// Changes that will be written together.
#[derive(Debug)]
pub(super) struct Group {
    /// The values of all keys that any change of the group requires something of: as the store
    /// has them, then as the changes before leave them.
    seen: HashMap<(Space, Vec<u8>), Option<Vec<u8>>>,
    writes: Vec<Write>,
    /// The number of the newest record, as the changes before leave it.
    sequence: Sequence,
    /// The tree of the log with the events of the group, and its head.
    tree: Growth,
    head: Head,
    time: UnixTime,
    /// Those whose changes hold.
    waiting: Vec<Answer>,
    /// Their changes, if they may have to be written another time.
    kept: Option<Vec<Ready>>,
}

impl Group {
    /// Assembles the group of `pending` changes within `turn`, whose log continues the `tree`. Those that
    /// conflict are answered at once; the others are `kept` if they may have to be written another time.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store can't be read; every change is answered with it.
    pub(super) async fn assemble(
        pending: Vec<Pending>,
        turn: &mut dyn Turn,
        (tree, time): (Growth, UnixTime),
        kept: bool,
    ) -> Result<Self, Failed> {
        let keys = required_keys(&pending);
        let values = match turn.get_many(keys.clone()).await {
            Ok(values) => values,
            // Nothing was written, whatever the reason.
            Err(error) => return Err(Failed { is_settled: true, ..Failed::all(pending, error) }),
        };
        let seen = keys.into_iter().zip(values).collect();
        let (head, writes, waiting) = (tree.head(), Vec::new(), Vec::new());
        let (sequence, kept) = (head.size, kept.then(Vec::new));
        let mut group = Self { seen, writes, sequence, tree, head, time, waiting, kept };
        for Pending { change, answer } in pending {
            group.admit(change, answer);
        }
        // One root for all of them, not one for each.
        group.head = group.tree.head();
        Ok(group)
    }

    fn admit(&mut self, change: Ready, answer: Answer) {
        let unmet = change.require.iter().position(|require| !self.holds(require));
        if let Some(unmet) = unmet {
            reply(answer, Err(CommitError::Conflict { unmet }));
            return;
        }
        if let Some(kept) = &mut self.kept {
            kept.push(change.clone());
        }
        for write in change.writes {
            self.apply(&write);
            self.writes.push(write);
        }
        for event in change.events {
            let body = event.at(self.time);
            self.tree.push(TreeHash::of_leaf(&body));
            self.sequence = self.sequence.saturating_add(1);
            self.writes.push(record::encode(self.sequence, body));
        }
        self.waiting.push(answer);
    }

    fn holds(&self, require: &Require) -> bool {
        self.seen.get(&(require.space, require.key.clone())) == Some(&require.value)
    }

    fn apply(&mut self, write: &Write) {
        match write {
            Write::Put { space, key, value } => {
                if let Some(seen) = self.seen.get_mut(&(*space, key.clone())) {
                    *seen = Some(value.clone());
                }
            }
            Write::Delete { space, key } => {
                if let Some(seen) = self.seen.get_mut(&(*space, key.clone())) {
                    *seen = None;
                }
            }
            Write::DeleteBelow { space, key } => {
                for ((at, name), seen) in &mut self.seen {
                    if at == space && name < key {
                        *seen = None;
                    }
                }
            }
        }
    }

    /// How many changes hold.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// The end of the log once the group is written, and its tree.
    pub(super) fn take_tree(&mut self) -> (Head, Growth) {
        (self.head, std::mem::take(&mut self.tree))
    }

    /// Takes all that is to be written, with the store's own notes about it. The notes come first:
    /// a change may set the clock back.
    pub(super) fn take_writes(&mut self, time: Option<UnixTime>) -> Vec<Write> {
        let mut writes = vec![Write::put(Space::Meta, meta::HEAD, json(&self.head))];
        if let Some(time) = time {
            writes.push(Write::put(Space::Meta, meta::TIME, json(&time)));
        }
        writes.append(&mut self.writes);
        let tiles = self.tree.take_changed();
        writes.extend(tiles.iter().map(|(id, hashes)| tiles::encode(*id, hashes)));
        writes
    }

    /// Tells everybody that it is done.
    pub(super) fn succeed(self) {
        for answer in self.waiting {
            reply(answer, Ok(self.head));
        }
    }

    /// The group was not written because of `error`.
    pub(super) fn fail(self, error: StoreError) -> Failed {
        let is_settled = error.settles();
        Failed { error, waiting: self.waiting, kept: self.kept.unwrap_or_default(), is_settled }
    }
}

/// A group that did not come about.
#[derive(Debug)]
pub(super) struct Failed {
    error: StoreError,
    waiting: Vec<Answer>,
    /// What those wait for, if it can be tried again.
    kept: Vec<Ready>,
    /// Whether it is known what was written, or will be.
    is_settled: bool,
}

impl Failed {
    /// None of `pending` was so much as looked at, because of `error`.
    pub(super) fn all(pending: Vec<Pending>, error: StoreError) -> Self {
        let (kept, waiting) = pending.into_iter().map(|one| (one.change, one.answer)).unzip();
        let is_settled = error.settles();
        Self { error, waiting, kept, is_settled }
    }

    /// Whether it is worth another attempt, for which a store may take `most`: nothing was written, for a
    /// reason that may be gone.
    pub(super) fn is_worth_another(&self, elapsed: Duration, most: Duration) -> bool {
        let gone = matches!(self.error, StoreError::Unavailable { .. });
        gone && self.kept.len() == self.waiting.len() && elapsed < most
    }

    /// Whether it is known what was written, or will be.
    pub(super) const fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// Those who wait, to be tried again.
    pub(super) fn into_pending(self) -> Vec<Pending> {
        let all = self.kept.into_iter().zip(self.waiting);
        all.map(|(change, answer)| Pending { change, answer }).collect()
    }

    /// Tells everybody why.
    pub(super) fn tell(self) -> std::sync::Arc<StoreError> {
        let error = std::sync::Arc::new(self.error);
        for answer in self.waiting {
            reply(answer, Err(CommitError::Store(std::sync::Arc::clone(&error))));
        }
        error
    }
}

fn required_keys(pending: &[Pending]) -> Vec<(Space, Vec<u8>)> {
    let requires = pending.iter().flat_map(|pending| &pending.change.require);
    let mut keys: Vec<_> = requires.map(|r| (r.space, r.key.clone())).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Answers whoever still waits. Who went away does not want to know.
fn reply(answer: Answer, result: Result<Head, CommitError>) {
    drop(answer.send(result));
}
