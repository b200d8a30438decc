//! What is written down of each decision, before it is answered.

use claviger_core::anomaly::Origin;
use claviger_core::approval::digest_of_parameters;
use claviger_core::audit::Event;
use claviger_core::decision::{Action, AuditLevel, Decided, Why};
use claviger_core::id::SpiffeId;

use super::Inner;
use super::refusal::Refusal;
use crate::journal::{Change, CommitError};
use crate::policy::{Denied, Met};

impl Inner {
    /// Writes down that `decided` permits something, and with it what the conditions take.
    pub(super) async fn record_permit(
        &self,
        gateway: &SpiffeId,
        decided: &Decided,
        met: &Met,
        origin: Origin,
    ) -> Result<(), CommitError> {
        let mut change = met.change();
        change.events.push(event(gateway, decided, None, 1, origin.clone()));
        self.shared.storage.journal.commit(change).await?;
        self.shared.policy.judge(decided, None, &origin);
        Ok(())
    }

    /// Writes down a denial, unless the same was written within the minute.
    pub(super) async fn record_denial(
        &self,
        gateway: &SpiffeId,
        denied: &Denied,
        origin: Origin,
    ) -> Result<(), Refusal> {
        let policy = &self.shared.policy;
        policy.judge(&denied.decided, Some(&denied.why), &origin);
        let Some(times) = policy.times(&denied.decided.question) else { return Ok(()) };
        let why = Some(denied.why.clone());
        let events = vec![event(gateway, &denied.decided, why, times, origin)];
        let change = Change { events, ..Change::default() };
        self.shared.storage.journal.commit(change).await.map(drop).map_err(Refusal::Record)
    }
}

/// The record: of the parameters no more than the policies say.
fn event(
    gateway: &SpiffeId,
    decided: &Decided,
    why: Option<Why>,
    times: u64,
    origin: Origin,
) -> Event {
    let mut decided = Box::new(decided.clone());
    let parameters = std::mem::take(&mut decided.question.context.parameters);
    let is_call = matches!(decided.question.action, Action::Call(_));
    let params_hash = is_call.then(|| hex::encode(digest_of_parameters(&parameters)));
    let level = decided.decision.obligations.audit;
    let params = match level {
        AuditLevel::Standard => Vec::new(),
        AuditLevel::Detailed | AuditLevel::Full => parameters.keys().cloned().collect(),
    };
    if level == AuditLevel::Full {
        decided.question.context.parameters = parameters;
    } else {
        // What Cedar says of a parameter may quote it.
        decided.decision.errors.clear();
    }
    let gateway = gateway.clone();
    Event::AccessDecided { gateway, decided, why, params_hash, params, times, origin }
}
