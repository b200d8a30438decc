//! One decision: parse, decide, record, answer.

use claviger_core::anomaly::Origin;
use claviger_core::approval::ApprovalId;
use claviger_core::decision::{Decided, Question, Resource, Why};
use claviger_core::grant::PolicyDigest;
use claviger_core::id::SpiffeId;
use serde::Serialize;
use tracing::info;

use super::Inner;
use super::asked::{self, Asked};
use super::refusal::Refusal;
use super::wire::Evaluation;
use crate::direct::wire::parse;
use crate::journal::CommitError;
use crate::policy::{Denied, Met};

/// What a gateway is answered (AuthZEN §6.2).
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    pub(super) decision: bool,
    pub(super) context: Beside,
}

/// What is said beside the decision (§6.2.1).
#[derive(Debug, Serialize)]
pub(super) struct Beside {
    /// The policies that were asked.
    policy: PolicyDigest,
    /// What a human has to approve of, or has refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    approval: Option<ApprovalId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason_user: Option<Text>,
}

/// A text in one language.
#[derive(Debug, Serialize)]
struct Text {
    en: &'static str,
}

impl Answer {
    fn yes(decided: &Decided, approval: Option<ApprovalId>) -> Self {
        let policy = decided.decision.policy;
        Self { decision: true, context: Beside { policy, approval, reason_user: None } }
    }

    /// The reason is the operator's: a gateway learns no more than that it may not, or has to wait.
    fn no(policy: PolicyDigest, why: &Why) -> Self {
        let (approval, en) = match why {
            Why::Approval(id) => (Some(*id), "a human has to approve of this first"),
            Why::Refused(id) => (Some(*id), "a human refused this"),
            Why::Policy
            | Why::Quarantined(_)
            | Why::Unregistered(_)
            | Why::OtherApproval
            | Why::Rate
            | Why::Unmet => (None, "not permitted"),
        };
        let reason_user = Some(Text { en });
        Self { decision: false, context: Beside { policy, approval, reason_user } }
    }
}

/// The one question in `body`.
pub(super) async fn one(door: &Inner, gateway: &SpiffeId, body: &[u8]) -> Result<Answer, Refusal> {
    answer(door, gateway, parse::<Evaluation>(body)?).await
}

/// The answer to `evaluation`.
///
/// # Errors
///
/// [`Refusal`] if the gateway may not ask about the subject, or nothing could be written down.
pub(super) async fn answer(
    door: &Inner,
    gateway: &SpiffeId,
    evaluation: Evaluation,
) -> Result<Answer, Refusal> {
    let policy = &door.shared.policy;
    let asked = match asked::subject(&evaluation) {
        Ok(subject) => {
            policy.may_ask(gateway, &subject).map_err(Refusal::Denied)?;
            Asked::try_from(evaluation)
        }
        Err(unfit) => Err(unfit),
    };
    let asked = match asked {
        Ok(asked) => asked,
        Err(unfit) => {
            info!(%gateway, reason = %unfit, "denied: it cannot be asked");
            return Ok(Answer::no(policy.current().digest(), &Why::Policy));
        }
    };

    let Asked { subject, action, resource, context, origin, approval } = asked;
    let question = policy.question(&subject, action, resource, context);
    match decide(door, question, approval) {
        Ok((decided, met)) => permit(door, gateway, decided, met, origin).await,
        Err(denied) => {
            info!(%gateway, %subject, reason = %reason(&denied), "denied");
            door.record_denial(gateway, &denied, origin).await?;
            Ok(Answer::no(denied.policy(), &denied.why))
        }
    }
}

/// Asks the policies, unless it is denied anyway.
fn decide(
    door: &Inner,
    question: Question,
    approval: Option<ApprovalId>,
) -> Result<(Box<Decided>, Met), Denied> {
    let (policy, registry) = (&door.shared.policy, &door.shared.registry);
    let peer = match &question.resource {
        Resource::Identity(party) => Some(&party.id),
        Resource::TrustDomain(_) | Resource::Tool(_) => None,
    };
    let mut ends = std::iter::once(&question.principal.id).chain(peer);
    if let Some(unknown) = ends.find(|id| !registry.is_registered(id)) {
        let why = Why::Unregistered(unknown.clone());
        return Err(policy.deny(question, why));
    }
    if approval.is_some_and(|id| id != ApprovalId::of(&question)) {
        return Err(policy.deny(question, Why::OtherApproval));
    }
    policy.authorize(question)
}

async fn permit(
    door: &Inner,
    gateway: &SpiffeId,
    decided: Box<Decided>,
    met: Met,
    origin: Origin,
) -> Result<Answer, Refusal> {
    match door.record_permit(gateway, &decided, &met, origin.clone()).await {
        Ok(()) => {
            let answer = Answer::yes(&decided, met.approval().map(|(id, _)| id));
            met.keep();
            Ok(answer)
        }
        // Of several who use one approval, another was first.
        Err(error @ CommitError::Conflict { .. }) => {
            met.heed(&error);
            drop(met);
            let denied = door.shared.policy.unmet(decided);
            door.record_denial(gateway, &denied, origin).await?;
            Ok(Answer::no(denied.policy(), &denied.why))
        }
        Err(error) => Err(Refusal::Record(error)),
    }
}

/// What the operator reads.
fn reason(denied: &Denied) -> String {
    let decision = &denied.decided.decision;
    let reasons = decision.reasons.iter().chain(&decision.errors);
    reasons.fold(denied.to_string(), |text, reason| format!("{text}: {reason}"))
}
