//! What is written down of each decision, before it is answered.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};

use claviger_core::anomaly::Origin;
use claviger_core::approval::digest_of_parameters;
use claviger_core::audit::Event;
use claviger_core::decision::{Action, AuditLevel, Decided, Resource, Why};
use claviger_core::id::SpiffeId;
use claviger_core::psk::Purpose;
use claviger_core::time::UnixTime;

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
        change.events.push(event(gateway, decided, None, 1, origin));
        self.shared.storage.journal.commit(change).await.map(drop)
    }

    /// Writes down a denial, unless the same was written within the minute.
    pub(super) async fn record_denial(
        &self,
        gateway: &SpiffeId,
        denied: &Denied,
        origin: Origin,
    ) -> Result<(), Refusal> {
        let Some(times) = self.denials.count(&denied.decided, self.shared.now()) else {
            return Ok(());
        };
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

/// The most kinds of denials that are written in one minute.
const MAX: usize = 1_024;

/// The denials of this minute: who asks in vain a thousand times a second does not fill the log.
#[derive(Debug, Default)]
pub(super) struct Denials(Mutex<Minute>);

type Kind = (SpiffeId, Action, String, Option<Purpose>);

#[derive(Debug, Default)]
struct Minute {
    number: u64,
    /// Those not written since they were written last.
    times: HashMap<Kind, u64>,
    /// The same of the minute before.
    before: HashMap<Kind, u64>,
}

impl Denials {
    /// How often that was denied since it was written last, if it is to be written now.
    fn count(&self, decided: &Decided, now: UnixTime) -> Option<u64> {
        let question = &decided.question;
        let resource = match &question.resource {
            Resource::TrustDomain(name) => name.to_string(),
            Resource::Identity(party) => party.id.to_string(),
            Resource::Tool(name) => name.to_string(),
        };
        let (id, action) = (question.principal.id.clone(), question.action.clone());
        let kind = (id, action, resource, question.context.purpose.clone());
        let mut minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = now.as_secs() / 60;
        if minute.number != number {
            let before = std::mem::take(&mut minute.times);
            *minute = Minute { number, times: HashMap::new(), before };
        }
        let Minute { times, before, .. } = &mut *minute;
        let room = times.len() < MAX;
        match times.entry(kind) {
            Entry::Occupied(mut seen) => {
                *seen.get_mut() = seen.get().saturating_add(1);
                None
            }
            Entry::Vacant(new) if room => {
                let missed = before.remove(new.key()).unwrap_or(0);
                new.insert(0);
                Some(missed.saturating_add(1))
            }
            Entry::Vacant(_) => None,
        }
    }
}
