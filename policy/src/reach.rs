//! Who reaches whom, for which purpose: every path that the policies leave open, in the most
//! favourable circumstances.
//!
//! A path leads from an identity to another if they may connect by certificates, or if one may have a
//! one-time key that the other may redeem; and to a tool if it may be called. That there is no path
//! is certain: `possible` leaves nothing out. That there is one is shown by questions that the
//! policies say yes to; where none was found, the path is said to be [`Proof::Open`].

mod declared;
mod population;
pub(crate) mod possible;
mod rules;
mod search;
#[cfg(test)]
mod tests;
mod witness;

use std::collections::{BTreeMap, BTreeSet};

use claviger_core::decision::{Action, Decided, ToolName};
use claviger_core::id::SpiffeId;
use claviger_core::psk::Purpose;
use serde::Serialize;

pub(crate) use self::declared::{least, tool_is_in, tools};
pub use self::population::{Class, Subject, everyone};
use self::possible::Broken;
use self::rules::Rules;
use self::search::{Found, Search};
use crate::set::PolicySet;
use crate::vocabulary::Vocabulary;

/// The most pairs of classes, or of a class and a tool, that are looked at.
pub const MOST_PAIRS: usize = 1_000_000;

/// How one gets there.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// By certificates.
    Connect,
    /// By a one-time key.
    Psk,
    /// By calling it.
    Call,
}

impl Way {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Psk => "psk",
            Self::Call => "call",
        }
    }
}

/// Where a path leads.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Target {
    /// To each of a class, by its number.
    Class(usize),
    /// To a tool.
    Tool(ToolName),
}

/// Why a path is said to be there.
#[derive(Clone, Debug)]
pub enum Proof {
    /// These questions are answered with yes, each by the decision beside it.
    Shown(Vec<Decided>),
    /// It could not be ruled out, and no such question was found.
    Open,
}

/// From each of a class to each of another, or to a tool.
#[derive(Clone, Debug)]
pub struct Path {
    /// The number of the class.
    pub from: usize,
    /// Where to.
    pub to: Target,
    /// What for; none stands for any purpose that nobody speaks of.
    pub purpose: Option<Purpose>,
    /// How.
    pub way: Way,
    /// Why.
    pub proof: Proof,
}

impl Path {
    /// Whether it was shown, and not only could not be ruled out.
    #[must_use]
    pub const fn is_shown(&self) -> bool {
        matches!(self.proof, Proof::Shown(_))
    }
}

/// Who reaches whom.
#[derive(Debug)]
pub struct Reach {
    /// Everyone, in classes that no policy can tell apart.
    pub classes: Vec<Class>,
    /// Every path, in the order of its ends.
    pub paths: Vec<Path>,
    /// The pairs that were asked about for a purpose, which is thereby not one that nobody speaks of.
    asked: BTreeMap<(usize, Target), BTreeSet<Purpose>>,
}

/// Why it cannot be told who reaches whom.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// There are more pairs than anyone can wait for.
    #[error(
        "policies tell apart so many identities that {pairs} pairs would have to be looked at, more than {MOST_PAIRS}; write them by groups and attributes rather than by identity"
    )]
    TooMany {
        /// How many.
        pairs: usize,
    },
    /// Cedar could not make sense of a question.
    #[error("cannot tell what the policies say: {0}")]
    Broken(Broken),
}

impl From<Broken> for ReachError {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl Reach {
    /// Who reaches whom by `set`, among those that it knows of and `known`.
    ///
    /// # Errors
    ///
    /// [`ReachError::TooMany`] if policies tell apart too many.
    pub fn of(set: &PolicySet, known: &[SpiffeId]) -> Result<Self, ReachError> {
        Self::among(set, everyone(set, known))
    }

    /// Who reaches whom by `set`, among these.
    ///
    /// # Errors
    ///
    /// [`ReachError::TooMany`] if policies tell apart too many.
    pub fn among(
        set: &PolicySet,
        everyone: BTreeMap<SpiffeId, Subject>,
    ) -> Result<Self, ReachError> {
        let rules = Rules::of(set)?;
        let words = Vocabulary::of_all(rules.all().iter().map(|rule| rule.words.clone()));
        let classes = population::classes(set, &words, everyone)?;
        let search = Search { set, rules: &rules, words: &words, classes: &classes };
        let mut found = Found::default();
        search.way(&Way::Connect, &[Action::Connect], &mut found)?;
        search.way(&Way::Psk, &[Action::IssuePsk, Action::RedeemPsk], &mut found)?;
        for tool in tools(set) {
            search.way(&Way::Call, &[Action::Call(tool)], &mut found)?;
        }
        let Found { mut paths, asked } = found;
        paths.sort_by(|a, b| {
            (a.from, &a.to, &a.purpose, &a.way).cmp(&(b.from, &b.to, &b.purpose, &b.way))
        });
        Ok(Self { classes, paths, asked })
    }

    /// The class of `id`, if it is known.
    #[must_use]
    pub fn class_of(&self, id: &SpiffeId) -> Option<usize> {
        self.classes.iter().position(|class| class.members.iter().any(|known| known.id == *id))
    }

    /// How many services and tools each of class `number` reaches.
    #[must_use]
    pub fn services(&self, number: usize) -> usize {
        let targets: BTreeSet<_> =
            self.paths.iter().filter(|path| path.from == number).map(|path| &path.to).collect();
        let size = |target: &Target| match target {
            Target::Tool(_) => 1,
            Target::Class(other) => {
                let members = self.classes.get(*other).map(|class| &class.members);
                let size = members.map_or(0, Vec::len);
                let many = members.is_some_and(|all| all.iter().any(Subject::stands_in));
                // Nobody counts for themselves; of many, there is always another.
                size.saturating_sub(usize::from(*other == number && !many))
            }
        };
        targets.into_iter().map(size).sum()
    }

    /// What is written of `target`.
    #[must_use]
    pub fn label(&self, target: &Target) -> String {
        match target {
            Target::Class(number) => {
                self.classes.get(*number).map(Class::label).unwrap_or_default()
            }
            Target::Tool(tool) => format!("tool:{tool}"),
        }
    }

    /// Every purpose that was asked for between these, beside those that nobody speaks of.
    pub(crate) fn purposes(&self, from: usize, to: &Target) -> impl Iterator<Item = &Purpose> {
        self.asked.get(&(from, to.clone())).into_iter().flatten()
    }
}
