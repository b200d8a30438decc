//! The connections there are, and how each is told that it has to end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use claviger_core::decision::{Question, Resource};
use claviger_core::id::SpiffeId;
use tokio_util::sync::CancellationToken;

use super::{Denied, Enforcer};

/// The connections there are.
#[derive(Debug)]
pub(super) struct Live {
    most: usize,
    /// How many there ever were.
    entered: u64,
    connections: BTreeMap<u64, Connection>,
    /// Whether this process has no identity.
    nobody: bool,
}

/// What was asked about a connection, and how it is told to end.
#[derive(Debug)]
struct Connection {
    question: Question,
    end: Arc<End>,
}

/// That a connection has to end.
#[derive(Debug, Default)]
struct End {
    now: CancellationToken,
    why: OnceLock<Denied>,
}

/// A connection may be, for now. Dropped when it ends.
#[derive(Debug)]
pub struct Admitted {
    number: u64,
    end: Arc<End>,
    enforcer: Enforcer,
}

impl Live {
    pub(super) const fn new(most: usize) -> Self {
        Self { most, entered: 0, connections: BTreeMap::new(), nobody: false }
    }

    pub(super) fn count(&self) -> usize {
        self.connections.len()
    }

    pub(super) const fn nobody(&self) -> bool {
        self.nobody
    }

    /// Says whether that changes anything.
    pub(super) const fn set_nobody(&mut self, nobody: bool) -> bool {
        let changed = self.nobody != nobody;
        self.nobody = nobody;
        changed
    }

    /// Enters a connection that was decided about.
    pub(super) fn enter(
        &mut self,
        question: Question,
        enforcer: &Enforcer,
    ) -> Result<Admitted, Denied> {
        if self.most <= self.connections.len() {
            return Err(Denied::Full(self.most));
        }
        self.entered = self.entered.wrapping_add(1);
        let (number, end) = (self.entered, Arc::<End>::default());
        self.connections.insert(number, Connection { question, end: Arc::clone(&end) });
        Ok(Admitted { number, end, enforcer: enforcer.clone() })
    }

    /// What was asked about each connection, or about those of which one end is `concerned`.
    pub(super) fn questions(
        &self,
        concerned: Option<&BTreeSet<SpiffeId>>,
    ) -> impl Iterator<Item = (u64, &Question)> {
        let concerns = move |question: &Question| {
            concerned.is_none_or(|ids| ends(question).any(|id| ids.contains(id)))
        };
        let all = self.connections.iter().map(|(number, one)| (*number, &one.question));
        all.filter(move |(_, question)| concerns(question))
    }

    /// Tells a connection to end, and why; what had been asked about it.
    pub(super) fn end(&mut self, number: u64, why: &Denied) -> Option<Question> {
        let Connection { question, end } = self.connections.remove(&number)?;
        // Only we say so, and only once: it is gone from the map.
        let _said = end.why.set(why.clone());
        end.now.cancel();
        Some(question)
    }

    fn leave(&mut self, number: u64) {
        self.connections.remove(&number);
    }
}

/// The two ends that a question is about.
fn ends(question: &Question) -> impl Iterator<Item = &SpiffeId> {
    let other = match &question.resource {
        Resource::Identity(party) => Some(&party.id),
        Resource::TrustDomain(_) | Resource::Tool(_) => None,
    };
    std::iter::once(&question.principal.id).chain(other)
}

impl Admitted {
    /// Why the connection has to end, once it has to.
    #[must_use]
    pub fn over(&self) -> Option<&Denied> {
        self.end.why.get()
    }

    /// Fires when the connection has to end; [`Self::over`] then says why.
    #[must_use]
    pub fn token(&self) -> &CancellationToken {
        &self.end.now
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.enforcer.live().leave(self.number);
    }
}
