//! What waits for a human, what they approved of and what they refused.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use claviger_core::approval::ApprovalId;
use claviger_core::decision::{Question, Why};
use claviger_core::time::UnixTime;

use super::Given;

/// How long something waits, and how long a refusal counts.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// The most things that wait, or that were refused. Of more, those that were asked first go.
const MAX_WAITING: usize = 1_000;

/// The same of any one principal, so that nobody pushes out what others wait for.
const MAX_WAITING_PER_PRINCIPAL: usize = 100;

#[derive(Debug, Default)]
pub(super) struct Table {
    items: HashMap<ApprovalId, Item>,
    /// Rises with each item, so that those of the same second have an order.
    next: u64,
    /// The latest time that was ever seen: an approval does not live again when a clock is set back.
    now: UnixTime,
    /// Keys in the store of approvals that have ended; they go with the next write.
    buried: BTreeSet<Vec<u8>>,
}

#[derive(Debug)]
struct Item {
    question: Question,
    number: u64,
    asked_at: UnixTime,
    until: UnixTime,
    said: Said,
}

#[derive(Debug)]
enum Said {
    Nothing,
    Yes(Given),
    No,
}

/// How something that was asked for stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    Waiting,
    Approved,
    Refused,
}

/// Something that was asked for, as the operator sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Listed {
    pub(crate) id: ApprovalId,
    pub(crate) question: Question,
    pub(crate) state: State,
    pub(crate) asked_at: UnixTime,
    /// Until when it waits, can be used or is refused.
    pub(crate) until: UnixTime,
}

impl Table {
    pub(super) fn find(&mut self, question: &Question) -> Result<Given, Why> {
        let id = ApprovalId::of(question);
        self.pass(question.context.time);
        match self.items.get(&id).map(|item| &item.said) {
            Some(Said::Yes(given)) => return Ok(given.clone()),
            Some(Said::No) => return Err(Why::Refused(id)),
            Some(Said::Nothing) => return Err(Why::Approval(id)),
            None => {}
        }
        self.make_room(question);
        let until = self.now.after(PATIENCE);
        self.put(id, question.clone(), self.now, until, Said::Nothing);
        Err(Why::Approval(id))
    }

    /// What waits under that name, or was answered before.
    pub(super) fn question(&mut self, id: &ApprovalId, now: UnixTime) -> Option<Question> {
        self.pass(now);
        self.items.get(id).map(|item| item.question.clone())
    }

    pub(super) fn give(&mut self, question: Question, given: Given) -> Listed {
        let (id, until) = (given.id, given.until);
        self.buried.remove(id.as_bytes().as_slice());
        let asked_at = self.items.get(&id).map_or(self.now, |item| item.asked_at);
        self.put(id, question, asked_at, until, Said::Yes(given))
    }

    pub(super) fn refuse(&mut self, id: &ApprovalId, now: UnixTime) -> Option<Listed> {
        self.pass(now);
        let until = self.now.after(PATIENCE);
        let item = self.items.get_mut(id)?;
        (item.said, item.until) = (Said::No, until);
        Some(item.listed(*id))
    }

    /// Unless another was given meanwhile.
    pub(super) fn forget(&mut self, given: &Given) {
        let same = |item: &Item| matches!(&item.said, Said::Yes(other) if other == given);
        if self.items.get(&given.id).is_some_and(same) {
            self.items.remove(&given.id);
        }
    }

    /// The approval that lies in the store under `key` does not any more.
    pub(super) fn withdraw(&mut self, key: &[u8]) {
        self.buried.remove(key);
        self.items.retain(|id, item| id.as_bytes() != key || !matches!(item.said, Said::Yes(_)));
    }

    pub(super) fn list(&mut self, now: UnixTime) -> Vec<Listed> {
        self.pass(now);
        let mut all: Vec<_> = self.items.iter().collect();
        all.sort_unstable_by_key(|(_, item)| (item.asked_at, item.number));
        all.into_iter().map(|(id, item)| item.listed(*id)).collect()
    }

    /// How many approvals are given and not used.
    pub(super) fn given(&self) -> usize {
        self.items.values().filter(|item| matches!(item.said, Said::Yes(_))).count()
    }

    pub(super) fn bury(&mut self, key: Vec<u8>) {
        self.buried.insert(key);
    }

    pub(super) fn buried(&self) -> Vec<Vec<u8>> {
        self.buried.iter().cloned().collect()
    }

    pub(super) fn unbury(&mut self, keys: &[Vec<u8>]) {
        for key in keys {
            self.buried.remove(key);
        }
    }

    fn put(
        &mut self,
        id: ApprovalId,
        question: Question,
        asked_at: UnixTime,
        until: UnixTime,
        said: Said,
    ) -> Listed {
        self.next = self.next.saturating_add(1);
        let item = Item { question, number: self.next, asked_at, until, said };
        let listed = item.listed(id);
        self.items.insert(id, item);
        listed
    }

    /// It is `now`, or later: what has ended goes.
    fn pass(&mut self, now: UnixTime) {
        self.now = self.now.max(now);
        let (now, buried) = (self.now, &mut self.buried);
        self.items.retain(|id, item| {
            let stays = now <= item.until;
            if !stays && matches!(item.said, Said::Yes(_)) {
                buried.insert(id.as_bytes().to_vec());
            }
            stays
        });
    }

    /// Room for one more that waits.
    fn make_room(&mut self, question: &Question) {
        let waits = |item: &&Item| !matches!(item.said, Said::Yes(_));
        let own = |item: &&Item| item.question.principal.id == question.principal.id;
        let items = || self.items.values().filter(waits);
        let oldest = if MAX_WAITING_PER_PRINCIPAL <= items().filter(own).count() {
            items().filter(own).map(|item| item.number).min()
        } else if MAX_WAITING <= items().count() {
            items().map(|item| item.number).min()
        } else {
            None
        };
        if let Some(oldest) = oldest {
            self.items.retain(|_id, item| item.number != oldest);
        }
    }
}

impl Item {
    fn listed(&self, id: ApprovalId) -> Listed {
        let state = match self.said {
            Said::Nothing => State::Waiting,
            Said::Yes(_) => State::Approved,
            Said::No => State::Refused,
        };
        let (question, asked_at, until) = (self.question.clone(), self.asked_at, self.until);
        Listed { id, question, state, asked_at, until }
    }
}
