//! `claviger audit replay`.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use claviger_core::decision::Decision;
use claviger_core::grant::PolicyDigest;
use claviger_policy::replay::Past;
use claviger_policy::{PolicySet, Source};
use serde::Serialize;

use super::decisions::{Decisions, Part, PolicySets};
use super::phrases;
use crate::admin::Server;
use crate::console::{self, Console};
use crate::failure::Failure;
use crate::socket::AdminSocket;

/// The most differences that are shown.
const MOST: usize = 1_000;

#[derive(Args, Debug)]
pub(crate) struct Replay {
    #[command(flatten)]
    part: Part,

    /// Only what was decided by the policies with this digest
    #[arg(long, value_name = "DIGEST")]
    policy: Option<PolicyDigest>,

    /// Says what the policies in this folder would have answered instead
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,

    #[command(flatten)]
    socket: AdminSocket,
}

impl Replay {
    pub(super) async fn run(self, console: Console) -> Result<(), Failure> {
        let against = match &self.against {
            Some(dir) => {
                let set = Source::read(dir).and_then(PolicySet::compile);
                Some(set.map_err(|error| Failure::because(&error))?)
            }
            None => None,
        };
        let server = Server::connect(&self.socket, console).await?;
        let replaying = self.replay(&server, against.as_ref());
        let replayed = console.watch("deciding again", replaying).await?;
        console.answer(&replayed)?;
        match replayed.differing {
            0 => Ok(()),
            _ if against.is_some() => Ok(()),
            differing => Err(Failure::failed(format_args!(
                "{} not what the policies say",
                many(differing, "decision on record is", "decisions on record are")
            ))
            .try_this("`claviger audit verify` tells whether the log was changed")),
        }
    }

    async fn replay(
        &self,
        server: &Server,
        against: Option<&PolicySet>,
    ) -> Result<Replayed, Failure> {
        let mut decisions = Decisions::read(server, self.part).await?;
        let mut sets = PolicySets::new(server);
        let mut replayed =
            Replayed { against: against.map(PolicySet::digest), ..Replayed::default() };
        while let Some((record, past)) = decisions.next().await? {
            let digest = past.decided.decision.policy;
            if self.policy.is_some_and(|only| only != digest) {
                continue;
            }
            let again = if !past.is_by_policies() {
                Err(&mut replayed.quarantined)
            } else if past.abridged {
                Err(&mut replayed.abridged)
            } else if let Some(other) = against {
                Ok(past.changes(other))
            } else if let Some(set) = sets.with(digest).await? {
                Ok(past.differs(set))
            } else {
                Err(&mut replayed.lost)
            };
            match again {
                Ok(again) => replayed.count(record, &past, again),
                Err(left_out) => *left_out = left_out.saturating_add(1),
            }
        }
        replayed.policy_sets = sets.count();
        Ok(replayed)
    }
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
struct Replayed {
    /// How many were decided again.
    decisions: u64,
    /// By how many policy sets.
    policy_sets: usize,
    /// By which other policies, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<PolicyDigest>,
    /// How many have another answer.
    differing: u64,
    /// Left out: policies were not asked, because of a quarantine.
    quarantined: u64,
    /// Left out: the parameters of the call are not on record.
    abridged: u64,
    /// Left out: the policies are not kept any more, or are of another version.
    lost: u64,
    /// Those that differ, up to [`MOST`].
    differences: Vec<Difference>,
}

/// A decision with another answer.
#[derive(Debug, Serialize)]
struct Difference {
    record: u64,
    /// What was asked.
    question: String,
    /// What is on record.
    recorded: Decision,
    /// What is answered now.
    again: Decision,
}

impl Replayed {
    fn count(&mut self, record: u64, past: &Past, again: Option<Decision>) {
        self.decisions = self.decisions.saturating_add(1);
        let Some(again) = again else { return };
        self.differing = self.differing.saturating_add(1);
        if self.differences.len() < MOST {
            let recorded = past.decided.decision.clone();
            let question = phrases::question(&past.decided.question);
            self.differences.push(Difference { record, question, recorded, again });
        }
    }
}

impl fmt::Display for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decisions = many(self.decisions, "decision", "decisions");
        let by = match self.against {
            Some(_) => "held against the folder".to_owned(),
            None => {
                let sets = u64::try_from(self.policy_sets).unwrap_or(u64::MAX);
                many(sets, "policy set", "policy sets")
            }
        };
        match self.differing {
            0 => write!(f, "{decisions}, {by}: all the same")?,
            n => write!(
                f,
                "{decisions}, {by}: {} differently",
                many(n, "is decided", "are decided")
            )?,
        }
        for (count, why) in [
            (self.quarantined, "denied because of a quarantine, whatever policies say"),
            (self.abridged, "whose parameters are not on record"),
            (self.lost, "by policies that are not kept any more, or are of another version"),
        ] {
            if count != 0 {
                write!(f, "\nleft out: {} {why}", console::grouped(count))?;
            }
        }
        for difference in &self.differences {
            write!(f, "\n{difference}")?;
        }
        let shown = u64::try_from(self.differences.len()).unwrap_or(u64::MAX);
        match self.differing.saturating_sub(shown) {
            0 => Ok(()),
            more => write!(f, "\nand {} more", console::grouped(more)),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "record {}: {}", self.record, self.question)?;
        writeln!(f, "  on record: {}", phrases::answer(&self.recorded))?;
        write!(f, "  now:       {}", phrases::answer(&self.again))
    }
}

fn many(count: u64, one: &str, several: &str) -> String {
    let name = if count == 1 { one } else { several };
    format!("{} {name}", console::grouped(count))
}

#[cfg(test)]
mod tests {
    use claviger_core::decision::Verdict;

    use super::*;

    #[test]
    fn people_read_how_many_and_what_differs() {
        let all = Replayed { decisions: 1_000, policy_sets: 3, ..Replayed::default() };
        assert_eq!(all.to_string(), "1,000 decisions, 3 policy sets: all the same");
        let decision = |policies: &[&str]| Decision {
            policies: policies.iter().map(ToString::to_string).collect(),
            ..Decision::denial(PolicyDigest::of(b"p"), Vec::new())
        };
        let difference = Difference {
            record: 7,
            question: "spiffe://x/a connect spiffe://x/b for read".to_owned(),
            recorded: Decision { verdict: Verdict::Permit, ..decision(&["a.cedar#one"]) },
            again: decision(&[]),
        };
        let some = Replayed {
            decisions: 1,
            policy_sets: 1,
            differing: 1,
            quarantined: 2,
            differences: vec![difference],
            ..Replayed::default()
        };
        let wanted = "1 decision, 1 policy set: 1 is decided differently\n\
            left out: 2 denied because of a quarantine, whatever policies say\n\
            record 7: spiffe://x/a connect spiffe://x/b for read\n  \
            on record: permit by a.cedar#one\n  now:       deny by no policy";
        assert_eq!(some.to_string(), wanted);
    }
}
