//! Which refusals and observations were written to the audit log a moment ago.
//!
//! A workload that asks in vain a thousand times a second must not fill the log: each principal,
//! action, resource and purpose is written once a minute, with how often it was, and there is a bound
//! on how many of them.

use std::collections::HashMap;
use std::mem;
use std::sync::{Mutex, PoisonError};

use claviger_core::decision::{Action, Question, Resource};
use claviger_core::id::SpiffeId;
use claviger_core::psk::Purpose;
use claviger_core::time::UnixTime;

/// The most that is written in one minute.
const MAX: usize = 1_024;

/// What two questions have in common that are not worth two records.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Alike {
    principal: SpiffeId,
    action: Action,
    resource: String,
    purpose: Option<Purpose>,
}

/// What is on record of this minute.
#[derive(Debug, Default)]
pub(super) struct News(Mutex<Minutes>);

/// How often each was since it was written, in this minute and in the one before.
#[derive(Debug, Default)]
struct Minutes {
    number: u64,
    now: HashMap<Alike, u64>,
    before: HashMap<Alike, u64>,
}

impl News {
    /// How often there was a question like this since one was written, itself included; `None` if one
    /// was written in this minute, or if too many others were.
    pub(super) fn times(&self, question: &Question, now: UnixTime) -> Option<u64> {
        let alike = Alike {
            principal: question.principal.id.clone(),
            action: question.action.clone(),
            resource: name(&question.resource),
            purpose: question.context.purpose.clone(),
        };
        let mut minutes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        minutes.turn(now.as_secs() / 60);
        if let Some(unwritten) = minutes.now.get_mut(&alike) {
            *unwritten = unwritten.saturating_add(1);
            return None;
        }
        if MAX <= minutes.now.len() {
            return None;
        }
        let unwritten = minutes.before.remove(&alike).unwrap_or_default();
        minutes.now.insert(alike, 0);
        Some(unwritten.saturating_add(1))
    }
}

impl Minutes {
    fn turn(&mut self, number: u64) {
        if self.number == number {
            return;
        }
        let past = mem::take(&mut self.now);
        let followed = self.number.checked_add(1) == Some(number);
        self.before = if followed { past } else { HashMap::new() };
        self.number = number;
    }
}

/// A resource as it is named in a line.
pub(crate) fn name(resource: &Resource) -> String {
    match resource {
        Resource::TrustDomain(domain) => domain.to_string(),
        Resource::Identity(party) => party.id.to_string(),
        Resource::Tool(tool) => tool.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use claviger_core::decision::{Context, Party};

    use super::*;

    fn times(news: &News, purpose: &str, now: u64) -> Option<u64> {
        let party = |id: &str| Party::new(id.parse().unwrap());
        let question = Question {
            principal: party("spiffe://example.org/a"),
            action: Action::IssuePsk,
            resource: Resource::Identity(party("spiffe://example.org/b")),
            context: Context { purpose: Some(purpose.parse().unwrap()), ..Context::default() },
        };
        news.times(&question, UnixTime::from_secs(now))
    }

    #[test]
    fn each_is_written_once_a_minute_with_how_often_it_was() {
        let news = News::default();
        assert_eq!(times(&news, "read", 0), Some(1));
        assert_eq!(times(&news, "read", 30), None);
        assert_eq!(times(&news, "read", 59), None);
        assert_eq!(times(&news, "write", 59), Some(1));
        assert_eq!(times(&news, "read", 60), Some(3));
        assert_eq!(times(&news, "read", 61), None);
        assert_eq!(times(&news, "read", 200), Some(1));
    }

    #[test]
    fn there_is_a_bound_on_all_of_them() {
        let news = News::default();
        let written = (0..2 * MAX).filter(|n| times(&news, &n.to_string(), 0).is_some()).count();
        assert_eq!(written, MAX);
    }
}
