//! What policies demand beside that they permit: that it is not done too often, and that a human
//! approved of it.

use claviger_core::approval::ApprovalId;
use claviger_core::decision::{Decided, Obligations, Verdict, Why};
use claviger_core::time::UnixTime;

use super::{Denied, Policies};
use crate::approvals::{Approvals, Given};
use crate::journal::{Change, CommitError};
use crate::limits::{Exceeded, Turn};

/// What a permit demands, met. Unless it is kept, because what was permitted was done, a turn is given
/// back and an approval stays good.
#[derive(Debug)]
#[must_use]
pub struct Met {
    turn: Option<Turn>,
    approval: Option<(Approvals, Given)>,
}

impl Met {
    /// What has to happen in the write that records what was permitted, or neither.
    pub(crate) fn change(&self) -> Change {
        self.approval.as_ref().map(|(_, given)| given.use_up()).unwrap_or_default()
    }

    /// It was done, and what [`Self::change`] says has happened.
    pub(crate) fn keep(self) {
        if let Some(turn) = self.turn {
            turn.keep();
        }
        if let Some((approvals, given)) = self.approval {
            approvals.forget(&given);
        }
    }

    /// It was not done, because of `error`. An approval that somebody else has used is none any more.
    pub(crate) fn heed(&self, error: &CommitError) {
        if let (CommitError::Conflict { .. }, Some((approvals, given))) = (error, &self.approval) {
            approvals.forget(given);
        }
    }

    /// The approval that it takes, and the last second at which that is good.
    #[must_use]
    pub fn approval(&self) -> Option<(ApprovalId, UnixTime)> {
        self.approval.as_ref().map(|(_, given)| (given.id, given.until))
    }

    /// What no policy demanded anything of: for tests and benchmarks, which ask none.
    pub const fn nothing() -> Self {
        Self { turn: None, approval: None }
    }
}

impl Policies {
    /// Takes what the policies demand of what they permitted: a human's approval, and a turn. Where they
    /// only observe, they demand nothing.
    ///
    /// # Errors
    ///
    /// [`Denied`] if there is none; then nothing was taken.
    pub fn meet(&self, decided: &Decided) -> Result<Met, Denied> {
        let denied = |why| Denied { decided: Box::new(decided.clone()), why };
        let (question, decision) = (&decided.question, &decided.decision);
        let Obligations { rate, approval, audit: _ } = match decision.verdict {
            Verdict::Permit => decision.obligations,
            Verdict::Observe => Obligations::default(),
            Verdict::Deny => return Err(denied(Why::Policy)),
        };
        let approvals = &self.0.approvals;
        let given = approval.then(|| approvals.find(question)).transpose().map_err(denied)?;
        let taken = rate.map(|rate| self.0.limits.take(question, rate)).transpose();
        let turn = taken.map_err(|Exceeded| denied(Why::Rate))?;
        Ok(Met { turn, approval: given.map(|given| (approvals.clone(), given)) })
    }

    /// What to say where an approval was used by somebody else, or its epoch has ended.
    pub(crate) fn unmet(&self, decided: Box<Decided>) -> Denied {
        match self.meet(&decided) {
            Err(denied) => denied,
            Ok(_another_was_given) => {
                let id = ApprovalId::of(&decided.question);
                Denied { decided, why: Why::Approval(id) }
            }
        }
    }

    /// What waits for a human, and what was approved of.
    pub(crate) fn approvals(&self) -> &Approvals {
        &self.0.approvals
    }
}

/// Refuses what is permitted under a condition that cannot be met: of what is done, only keys, connections
/// and calls are counted and approved of. To redeem a key was permitted with the key.
pub(super) fn check(decided: Box<Decided>) -> Result<Box<Decided>, Denied> {
    let Obligations { rate, approval, audit: _ } = decided.decision.obligations;
    let demands = decided.decision.verdict == Verdict::Permit && (rate.is_some() || approval);
    if demands && !decided.question.action.has_purpose() {
        return Err(Denied { decided, why: Why::Unmet });
    }
    Ok(decided)
}
