//! The result of a run.

use std::fmt;

use serde::Serialize;

use super::catalogue::Level;

/// What was found out about a Workload API.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Where it is served.
    pub(crate) address: String,
    #[serde(flatten)]
    pub(crate) summary: Summary,
    /// By number.
    pub(crate) checks: Vec<Verdict>,
    /// What to do to see more.
    pub(crate) advice: Vec<Advice>,
}

/// What a user could do to see more.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Advice {
    /// Register this program: it has no identity here.
    Register,
    /// Federate the suite's own trust domain with this program's.
    Federate,
}

/// How many checks ended how.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) not_observable: usize,
}

/// One check's result.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) number: u8,
    pub(crate) name: &'static str,
    /// The document and the section.
    pub(crate) standard: String,
    pub(crate) level: Level,
    /// How a socket shows it; nothing if none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) how: Option<&'static str>,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
    /// What was expected, and looked at.
    pub(crate) looked_at: Vec<&'static str>,
    /// What belongs to the check, and could not be looked at in this run.
    pub(crate) not_seen: Vec<&'static str>,
}

/// How a check ended.
#[derive(Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// What was looked at is as it must be.
    Passed,
    /// Something is not.
    Failed {
        /// At least one.
        failures: Vec<Miss>,
    },
    /// Nothing that belongs to it could be looked at. This says neither good nor bad.
    NotObservable {
        /// The reason.
        why: &'static str,
    },
}

/// A rule and how it was broken.
#[derive(Debug, Eq, PartialEq, Serialize)]
pub(crate) struct Miss {
    pub(crate) level: Level,
    pub(crate) expected: &'static str,
    pub(crate) seen: String,
}

impl Report {
    /// A report on `checks`.
    pub(crate) fn new(address: String, checks: Vec<Verdict>, advice: Vec<Advice>) -> Self {
        let mut summary = Summary::default();
        for check in &checks {
            match check.outcome {
                Outcome::Passed => summary.passed += 1,
                Outcome::Failed { .. } => summary.failed += 1,
                Outcome::NotObservable { .. } => summary.not_observable += 1,
            }
        }
        Self { address, summary, checks, advice }
    }

    /// The part on the checks with these numbers.
    pub(crate) fn only(self, numbers: &[u8]) -> Self {
        let checks = self.checks.into_iter().filter(|check| numbers.contains(&check.number));
        Self::new(self.address, checks.collect(), self.advice)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, not_observable } = self;
        write!(f, "{passed} passed, {failed} failed, {not_observable} not observable")
    }
}
