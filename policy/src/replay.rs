//! Deciding again what was decided: from what is on record.

use claviger_core::decision::{Decided, Decision, Verdict, Why};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::set::PolicySet;

/// A decision as it is on record.
#[derive(Clone, Debug)]
pub struct Past {
    /// What was asked and answered.
    pub decided: Decided,
    /// Why it was refused, if it was.
    pub why: Option<Why>,
    /// How often it was asked and answered so.
    pub times: u64,
    /// What kind of record it is, such as `psk_issued`.
    pub event: String,
    /// Whether the parameters of the call are left out, so that it cannot be decided again.
    pub abridged: bool,
}

/// What every record has.
#[derive(Deserialize)]
struct Body<'a> {
    event: String,
    #[serde(borrow, default)]
    decided: Option<&'a RawValue>,
}

/// What a record has beside a decision.
#[derive(Deserialize)]
struct Beside {
    #[serde(default)]
    why: Option<Why>,
    #[serde(default = "once")]
    times: u64,
    #[serde(default)]
    params_hash: Option<String>,
}

const fn once() -> u64 {
    1
}

impl Past {
    /// What `body`, a record of the audit log as JSON, says of a decision; `None` if it speaks of
    /// something else.
    ///
    /// # Errors
    ///
    /// What is wrong with the JSON.
    pub fn on_record(body: &[u8]) -> Result<Option<Self>, serde_json::Error> {
        let Body { event, decided } = serde_json::from_slice(body)?;
        let Some(decided) = decided else { return Ok(None) };
        let decided: Decided = serde_json::from_str(decided.get())?;
        let Beside { why, times, params_hash } = serde_json::from_slice(body)?;
        let abridged = params_hash.is_some() && decided.question.context.parameters.is_empty();
        Ok(Some(Self { decided, why, times, event, abridged }))
    }

    /// Whether policies made it: who is in quarantine, for one, is denied whatever they say.
    #[must_use]
    pub const fn is_by_policies(&self) -> bool {
        !matches!(self.why, Some(Why::Quarantined(_) | Why::Unregistered(_) | Why::OtherApproval))
    }

    /// What `set` says to the same question now, if that differs in anything from what is on record.
    #[must_use]
    pub fn differs(&self, set: &PolicySet) -> Option<Decision> {
        let again = set.decide(&self.decided.question);
        (bytes(&again) != bytes(&self.decided.decision)).then_some(again)
    }

    /// What `set`, which are other policies, says to the same question, if its verdict is another.
    #[must_use]
    pub fn changes(&self, set: &PolicySet) -> Option<Decision> {
        let again = set.decide(&self.decided.question);
        (again.verdict != self.verdict()).then_some(again)
    }

    /// The verdict on record.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        self.decided.decision.verdict
    }
}

/// A decision as it is on record, byte for byte.
fn bytes(decision: &Decision) -> Vec<u8> {
    serde_json::to_vec(decision).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use claviger_core::audit::{Body, Event};
    use claviger_core::decision::{Action, Context, Party, Question, Resource};
    use claviger_core::time::UnixTime;

    use super::*;
    use crate::Source;

    fn set(text: &str) -> PolicySet {
        PolicySet::compile(Source::new(vec![("p.cedar".to_owned(), text.to_owned())])).unwrap()
    }

    fn question(from: u32, to: u32, purpose: u32) -> Question {
        let party = |id: u32| Party::new(format!("spiffe://example.org/w/{id}").parse().unwrap());
        Question {
            principal: party(from),
            action: Action::Connect,
            resource: Resource::Identity(party(to)),
            context: Context {
                time: UnixTime::from_secs(u64::from(from)),
                purpose: Some(format!("p{purpose}").parse().unwrap()),
                ..Context::default()
            },
        }
    }

    /// The record of what `set` says, as it lies in the log.
    fn record(set: &PolicySet, question: Question) -> Vec<u8> {
        let decision = set.decide(&question);
        let decided = Box::new(Decided { question, decision });
        let (times, origin) = (1, Default::default());
        let event = match decided.decision.verdict {
            Verdict::Deny => {
                Event::Denied { decided, why: Why::Policy, requester: None, times, origin }
            }
            Verdict::Permit | Verdict::Observe => {
                Event::Observed { decided, requester: None, times, origin }
            }
        };
        serde_json::to_vec(&Body { time: UnixTime::from_secs(9), event }).unwrap()
    }

    const SETS: [&str; 3] = [
        r#"permit (principal, action, resource) when { context has purpose && context.purpose == "p1" };"#,
        r#"permit (principal, action == Action::"connect", resource)
           when { principal.path like "/w/1*" };
           forbid (principal, action == Action::"connect", resource)
           when { resource.path == "/w/7" };"#,
        "",
    ];

    #[test]
    fn a_thousand_decisions_over_three_policy_changes_are_the_same_byte_for_byte() {
        let sets = SETS.map(set);
        let records: Vec<_> = (0..1_000_u32)
            .map(|n| record(&sets[(n / 334) as usize], question(n % 40, n % 11, n % 3)))
            .collect();
        let again = SETS.map(set);
        let verdicts: Vec<_> = records
            .iter()
            .map(|body| {
                let past = Past::on_record(body).unwrap().unwrap();
                let digest = past.decided.decision.policy;
                let set = again.iter().find(|set| set.digest() == digest).unwrap();
                assert_eq!(past.differs(set), None);
                past.verdict()
            })
            .collect();
        assert!(verdicts.contains(&Verdict::Permit) && verdicts.contains(&Verdict::Deny));
    }

    #[test]
    fn what_was_tampered_with_is_found() {
        let permissive = set(SETS[0]);
        let body = String::from_utf8(record(&permissive, question(1, 2, 1))).unwrap();
        for (is, made) in [
            (r#""verdict":"permit""#, r#""verdict":"deny""#),
            (r#""purpose":"p1""#, r#""purpose":"p2""#),
            ("p.cedar#", "q.cedar#"),
            (r#""policies":["#, r#""obligations":{"approval":true},"policies":["#),
        ] {
            assert!(body.contains(is), "{body}");
            let past = Past::on_record(body.replace(is, made).as_bytes()).unwrap().unwrap();
            assert!(past.differs(&permissive).is_some(), "{made}");
        }
    }

    #[test]
    fn other_policies_are_held_against_what_was_decided() {
        let past = Past::on_record(&record(&set(SETS[0]), question(1, 2, 1))).unwrap().unwrap();
        assert_eq!(past.changes(&set(SETS[2])).unwrap().verdict, Verdict::Deny);
        assert_eq!(past.changes(&set(SETS[1])), None);
    }

    #[test]
    fn records_of_something_else_are_no_decisions() {
        for other in [
            r#"{"time":1,"event":"server_started","epoch":1}"#,
            r#"{"time":1,"event":"of_a_newer_version","why":7}"#,
        ] {
            assert!(Past::on_record(other.as_bytes()).unwrap().is_none());
        }
        Past::on_record(br#"{"time":1,"event":"denied","decided":{}}"#).unwrap_err();
    }
}
