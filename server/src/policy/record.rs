//! What becomes of every decision: metrics count it, it is held against the principal's past, and
//! what was denied or would have been is written to the audit log.
//!
//! What is issued is written down by whoever issues it, before it is. A denial is written down a moment
//! after it, by a task of its own: whoever decides does not wait. If the task can't keep up, records
//! are dropped and counted.

use std::sync::Arc;

use claviger_core::anomaly::{Anomaly, Origin};
use claviger_core::audit::Event;
use claviger_core::decision::{Action, Decided, Question, Resource, Verdict, Why};
use claviger_core::grant::Requester;
use claviger_core::id::SpiffeId;
use claviger_core::time::UnixTime;
use claviger_runtime::tasks::Tasks;
use claviger_runtime::telemetry::Chain;
use metrics::counter;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::anomalies::{Anomalies, Outcome, Seen};
use super::known::Known;
use super::news::News;
use crate::journal::{Change, Journal};
use crate::metrics as names;

/// How many events may wait to be written. [`News`] lets through some 1,000 a minute and the journal
/// takes that many at once; an event is about 2 KiB.
const QUEUE: usize = 2_048;

/// The most events that are written at once.
const BATCH: usize = 256;

/// Where decisions are heard of. Clones are handles to the same. By default, nothing is written down.
#[derive(Clone, Debug, Default)]
pub struct Record(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    news: News,
    anomalies: Anomalies,
    queue: Option<mpsc::Sender<Event>>,
}

/// On whose word something is asked, and where the question comes from.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Who asks, where it is not the principal.
    pub requester: Option<Requester>,
    /// Where it comes from, as the caller says.
    pub origin: Origin,
}

impl Asked {
    /// On this word.
    #[must_use]
    pub fn by(requester: &Requester) -> Self {
        Self { requester: Some(requester.clone()), origin: Origin::default() }
    }
}

impl Record {
    /// Begins to write into `journal`.
    #[must_use]
    pub fn start(journal: Journal, tasks: &Tasks) -> Self {
        let (queue, events) = mpsc::channel(QUEUE);
        tasks.spawn("decisions", |stop| write(events, journal, stop));
        Self(Arc::new(Inner { queue: Some(queue), ..Inner::default() }))
    }

    /// Takes note of a decision. `why` tells that it was refused.
    pub(crate) fn decided(
        &self,
        decided: &Decided,
        why: Option<&Why>,
        asked: &Asked,
        known: &dyn Known,
        now: UnixTime,
    ) {
        self.judge(decided, why, &asked.origin, known, now);
        let event = |times| {
            let (decided, requester) = (Box::new(decided.clone()), asked.requester.clone());
            let origin = asked.origin.clone();
            match why.cloned() {
                Some(why) => Event::Denied { decided, why, requester, times, origin },
                None => Event::Observed { decided, requester, times, origin },
            }
        };
        if outcome(decided, why) != Outcome::Permitted
            && let Some(times) = self.times(&decided.question, now)
        {
            self.write(event(times));
        }
    }

    /// How often there was a question like this since one was written down, itself included; `None` if
    /// it is not to be written down.
    pub(crate) fn times(&self, question: &Question, now: UnixTime) -> Option<u64> {
        self.0.news.times(question, now)
    }

    /// Counts a decision and holds it against the principal's past, for those who write down
    /// themselves what was decided.
    pub(crate) fn judge(
        &self,
        decided: &Decided,
        why: Option<&Why>,
        origin: &Origin,
        known: &dyn Known,
        now: UnixTime,
    ) {
        let outcome = outcome(decided, why);
        let action = decided.question.action.kind();
        counter!(names::DECISIONS, "verdict" => label(outcome), "action" => action).increment(1);
        let source = &decided.question.principal.id;
        let target = target(decided);
        let seen = Seen { source, target, outcome, now };
        let registered =
            || known.is_registered(source) && target.is_some_and(|id| known.is_registered(id));
        for anomaly in self.0.anomalies.look(seen, registered) {
            counter!(names::ANOMALIES, "kind" => kind(anomaly)).increment(1);
            let (decided, why) = (Box::new(decided.clone()), why.cloned());
            self.write(Event::AnomalyFound { anomaly, decided, why, origin: origin.clone() });
        }
    }

    fn write(&self, event: Event) {
        let Some(queue) = &self.0.queue else { return };
        if queue.try_send(event).is_err() {
            counter!(names::DECISIONS_UNWRITTEN).increment(1);
        }
    }
}

fn outcome(decided: &Decided, why: Option<&Why>) -> Outcome {
    match (why, decided.decision.verdict) {
        (Some(Why::Policy), _) | (None, Verdict::Deny) => Outcome::Denied,
        (Some(_), _) => Outcome::Withheld,
        (None, Verdict::Observe) => Outcome::Observed,
        (None, Verdict::Permit) => Outcome::Permitted,
    }
}

/// Whom the principal wants to reach, if anybody.
fn target(decided: &Decided) -> Option<&SpiffeId> {
    let Resource::Identity(party) = &decided.question.resource else { return None };
    match decided.question.action {
        Action::Connect | Action::IssuePsk | Action::RedeemPsk | Action::RedeemPskByIdentity => {
            Some(&party.id)
        }
        Action::IssueX509
        | Action::IssueX509Ca
        | Action::IssueJwt
        | Action::IssueWit
        | Action::IssueEar
        | Action::Call(_)
        | Action::Ask
        | Action::Signal => None,
    }
}

/// The value of a metric's label.
const fn label(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Permitted => "permit",
        Outcome::Observed => "observe",
        Outcome::Denied | Outcome::Withheld => "deny",
    }
}

/// The value of a metric's label.
const fn kind(anomaly: Anomaly) -> &'static str {
    match anomaly {
        Anomaly::UnexpectedPath => "unexpected_path",
        Anomaly::Rate { .. } => "rate_anomaly",
        Anomaly::RepeatedDenials { .. } => "repeated_denials",
    }
}

/// Writes what comes until told to stop, and then what is left.
async fn write(
    mut queue: mpsc::Receiver<Event>,
    journal: Journal,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        let mut events = Vec::new();
        let waited = stop.run_until_cancelled(queue.recv_many(&mut events, BATCH)).await;
        if waited.is_none() {
            queue.close();
            queue.recv_many(&mut events, BATCH).await;
        }
        let count = events.len();
        if count == 0 {
            return Ok(());
        }
        if let Err(error) = journal.commit(Change { events, ..Change::default() }).await {
            counter!(names::DECISIONS_UNWRITTEN).increment(count.try_into().unwrap_or(u64::MAX));
            warn!(error = %Chain(&error), count, "denials are not on record");
        }
    }
}
