//! What other systems are told of a record of the audit log, if they are told of it at all.
//!
//! The JSON is described by `docs/events.schema.json`.

use claviger_core::anomaly::{Anomaly, Origin};
use claviger_core::audit::{Body, Event, Sequence};
use claviger_core::decision::{Action, Decided, Verdict, Why};
use claviger_core::grant::PolicyDigest;
use claviger_core::id::SpiffeId;
use claviger_core::psk::Purpose;
use claviger_core::time::UnixTime;
use serde::{Serialize, Serializer};

use super::atlas;
use crate::policy::news;

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Something was denied.
    Denied,
    /// Something was let through because policies only observe.
    Observed,
    /// Somebody wanted to reach a registered identity to which no policy ever let it.
    UnexpectedPath,
    /// Somebody asks far more often than it used to.
    RateAnomaly,
    /// Somebody is denied again and again.
    RepeatedDenials,
    /// Something that works once was presented again.
    Replayed,
    /// An identity was put in quarantine.
    Quarantined,
    /// A quarantine is over.
    QuarantineLifted,
    /// An identity is risked more or less than before.
    RiskChanged,
    /// A human approved.
    ApprovalGiven,
    /// A human refused.
    ApprovalRefused,
    /// Policies came into force.
    PolicyLoaded,
    /// Policies are wrong, and the old ones stay.
    PolicyRefused,
}

impl Kind {
    /// The name in the JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Observed => "observed",
            Self::UnexpectedPath => "unexpected_path",
            Self::RateAnomaly => "rate_anomaly",
            Self::RepeatedDenials => "repeated_denials",
            Self::Replayed => "replayed",
            Self::Quarantined => "quarantined",
            Self::QuarantineLifted => "quarantine_lifted",
            Self::RiskChanged => "risk_changed",
            Self::ApprovalGiven => "approval_given",
            Self::ApprovalRefused => "approval_refused",
            Self::PolicyLoaded => "policy_loaded",
            Self::PolicyRefused => "policy_refused",
        }
    }

    /// How much it should worry somebody.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match self {
            Self::UnexpectedPath
            | Self::RepeatedDenials
            | Self::Replayed
            | Self::Quarantined
            | Self::PolicyRefused => Severity::High,
            Self::Denied | Self::RateAnomaly | Self::RiskChanged => Severity::Medium,
            Self::Observed | Self::ApprovalRefused => Severity::Low,
            Self::QuarantineLifted | Self::ApprovalGiven | Self::PolicyLoaded => Severity::Info,
        }
    }
}

/// How much something should worry somebody.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Not at all.
    Info,
    /// Somebody should look at it some day.
    Low,
    /// Somebody should look at it.
    Medium,
    /// Somebody should look at it now.
    High,
}

/// What other systems are told.
#[derive(Clone, Debug, Serialize)]
pub struct Notice {
    /// When it was written down.
    #[serde(serialize_with = "rfc3339")]
    pub time: UnixTime,
    /// What happened.
    pub event: Kind,
    /// How much that should worry somebody.
    pub severity: Severity,
    /// The number of the record in the audit log.
    pub record: Sequence,
    /// Why, in words.
    pub reason: String,
    /// Who wanted it, or of whom it is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<SpiffeId>,
    /// What was wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// Of whom, or of what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// What for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Purpose>,
    /// How often since the last one like it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// The policies that made it so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// Which policies were in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_snapshot: Option<PolicyDigest>,
    /// The name of the decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision_id: Option<String>,
    /// Where it comes from, as the caller says; and techniques of MITRE ATLAS that it looks like.
    #[serde(flatten)]
    pub origin: Origin,
}

fn rfc3339<S: Serializer>(time: &UnixTime, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&show(*time))
}

/// A point in time as RFC 3339 has it, in seconds.
pub(super) fn show(time: UnixTime) -> String {
    // The year 9999 ends there; what comes after it cannot be written.
    let seconds = time.as_secs().min(253_402_300_799);
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    humantime_serde::re::humantime::format_rfc3339_seconds(time).to_string()
}

impl Notice {
    /// What is told of record number `record`, which says `body`; `None` if nothing is.
    #[must_use]
    pub fn of(record: Sequence, body: &Body) -> Option<Self> {
        let empty = Empty { record, time: body.time };
        empty
            .of_decision(&body.event)
            .or_else(|| empty.of_replay(&body.event))
            .or_else(|| empty.of_change(&body.event))
    }

    fn with_decision(self, decided: &Decided, times: Option<u64>, origin: &Origin) -> Self {
        let Decided { question, decision } = decided;
        let policies = if decision.policies.is_empty() {
            decision.observed.clone()
        } else {
            decision.policies.clone()
        };
        let notice = Self {
            principal: Some(question.principal.id.clone()),
            action: Some(question.action.clone()),
            resource: Some(news::name(&question.resource)),
            purpose: question.context.purpose.clone(),
            times,
            policies,
            policy_snapshot: Some(decision.policy),
            decision_id: Some(decided.id()),
            origin: origin.clone(),
            ..self
        };
        notice.with_techniques()
    }

    /// The techniques of MITRE ATLAS that it looks like, unless the caller named some.
    fn with_techniques(mut self) -> Self {
        if self.origin.atlas_mapping.is_empty() {
            let techniques = atlas::techniques(self.event, self.action.as_ref());
            self.origin.atlas_mapping = techniques.iter().map(ToString::to_string).collect();
        }
        self
    }
}

/// What every notice of one record has.
#[derive(Clone, Copy)]
struct Empty {
    record: Sequence,
    time: UnixTime,
}

#[expect(clippy::wildcard_enum_match_arm, reason = "of most records nobody is told")]
impl Empty {
    const fn notice(self, event: Kind, reason: String) -> Notice {
        Notice {
            time: self.time,
            event,
            severity: event.severity(),
            record: self.record,
            reason,
            principal: None,
            action: None,
            resource: None,
            purpose: None,
            times: None,
            policies: Vec::new(),
            policy_snapshot: None,
            decision_id: None,
            origin: Origin {
                prompt_id: None,
                subject_chain: Vec::new(),
                dataset_scope: Vec::new(),
                atlas_mapping: Vec::new(),
            },
        }
    }

    fn of_decision(self, event: &Event) -> Option<Notice> {
        let (decided, why, times, origin) = match event {
            Event::Denied { decided, why, times, origin, .. } => {
                (decided, Some(why), times, origin)
            }
            Event::Observed { decided, times, origin, .. } => (decided, None, times, origin),
            Event::AccessDecided { decided, why, times, origin, .. } => {
                (decided, why.as_ref(), times, origin)
            }
            Event::AnomalyFound { anomaly, decided, origin, .. } => {
                let (kind, reason) = anomalous(*anomaly);
                return Some(self.notice(kind, reason).with_decision(decided, None, origin));
            }
            _ => return None,
        };
        let kind = match (why, decided.decision.verdict) {
            (Some(_), _) | (None, Verdict::Deny) => Kind::Denied,
            (None, Verdict::Observe) => Kind::Observed,
            (None, Verdict::Permit) => return None,
        };
        let notice = self.notice(kind, because(decided, why));
        Some(notice.with_decision(decided, Some(*times), origin))
    }

    fn of_replay(self, event: &Event) -> Option<Notice> {
        let notice = match event {
            Event::PskReplayed { binding, .. } => Notice {
                principal: Some(binding.client.clone()),
                action: Some(Action::RedeemPsk),
                resource: Some(binding.server.to_string()),
                purpose: Some(binding.purpose.clone()),
                ..self.notice(Kind::Replayed, "a spent PSK was presented again".to_owned())
            },
            Event::EvidenceReplayed { kind, issuer, .. } => {
                let reason = format!("evidence of kind {kind} by {issuer} was presented again");
                self.notice(Kind::Replayed, reason)
            }
            Event::JoinTokenReplayed { .. } => {
                let reason = "a join token was presented by a second key";
                self.notice(Kind::Replayed, reason.to_owned())
            }
            _ => return None,
        };
        Some(notice.with_techniques())
    }

    fn of_change(self, event: &Event) -> Option<Notice> {
        let of = |kind, id: &SpiffeId, reason: String| Notice {
            principal: Some(id.clone()),
            ..self.notice(kind, reason)
        };
        Some(match event {
            Event::Quarantined { id, reason, .. } => of(Kind::Quarantined, id, reason.to_string()),
            Event::QuarantineLifted { id, reason, .. } => {
                of(Kind::QuarantineLifted, id, reason.to_string())
            }
            Event::RiskChanged { id, from, to, reason, .. } => {
                of(Kind::RiskChanged, id, format!("from {from} to {to} percent: {reason}"))
            }
            Event::ApprovalGiven { id, principal, action, .. } => Notice {
                action: Some(action.clone()),
                ..of(Kind::ApprovalGiven, principal, format!("approval {id}"))
            },
            Event::ApprovalRefused { id, principal, action, .. } => Notice {
                action: Some(action.clone()),
                ..of(Kind::ApprovalRefused, principal, format!("approval {id}"))
            },
            Event::PolicyLoaded { policy, policies, .. } => Notice {
                policy_snapshot: Some(*policy),
                ..self.notice(Kind::PolicyLoaded, format!("{policies} policies came into force"))
            },
            Event::PolicyRefused { policy, reason, .. } => Notice {
                policy_snapshot: Some(*policy),
                ..self.notice(Kind::PolicyRefused, reason.clone())
            },
            _ => return None,
        })
    }
}

/// Why it was decided so, in words.
fn because(decided: &Decided, why: Option<&Why>) -> String {
    match why {
        Some(Why::Quarantined(id)) => return format!("`{id}` is in quarantine"),
        Some(Why::Unregistered(id)) => return format!("nobody is registered as `{id}`"),
        Some(Why::OtherApproval) => return "the approval is for something else".to_owned(),
        Some(Why::Rate) => return "it was done as often as it may be for now".to_owned(),
        Some(Why::Approval(id)) => return format!("a human has to approve first: {id}"),
        Some(Why::Refused(id)) => return format!("a human refused: {id}"),
        Some(Why::Unmet) => return "what the policies demand beside cannot be met".to_owned(),
        Some(Why::Policy) | None => {}
    }
    let decision = &decided.decision;
    if !decision.errors.is_empty() {
        return format!("a policy cannot be evaluated: {}", decision.errors.join("; "));
    }
    if !decision.reasons.is_empty() {
        return decision.reasons.join("; ");
    }
    if !decision.policies.is_empty() {
        return format!("by {}", decision.policies.join(", "));
    }
    "no policy permits it".to_owned()
}

fn anomalous(anomaly: Anomaly) -> (Kind, String) {
    match anomaly {
        Anomaly::UnexpectedPath => {
            let reason = "no policy ever let it reach this identity";
            (Kind::UnexpectedPath, reason.to_owned())
        }
        Anomaly::Rate { times, usual } => {
            let reason = format!("it asked {times} times in this minute; {usual} are usual");
            (Kind::RateAnomaly, reason)
        }
        Anomaly::RepeatedDenials { denied } => {
            (Kind::RepeatedDenials, format!("{denied} of its last 100 decisions were denials"))
        }
    }
}
