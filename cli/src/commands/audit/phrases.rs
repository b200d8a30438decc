//! Questions and answers in words.

use claviger_core::decision::{Decision, Question, Resource, Verdict};

/// `spiffe://example.org/web connect spiffe://example.org/db for read`.
pub(super) fn question(question: &Question) -> String {
    let resource = match &question.resource {
        Resource::TrustDomain(domain) => domain.to_string(),
        Resource::Identity(party) => party.id.to_string(),
        Resource::Tool(tool) => tool.to_string(),
    };
    let purpose = question.context.purpose.as_ref().map(|purpose| format!(" for {purpose}"));
    let (principal, action) = (&question.principal.id, &question.action);
    format!("{principal} {action} {resource}{}", purpose.unwrap_or_default())
}

/// `permit by default.cedar#own`.
pub(super) fn answer(decision: &Decision) -> String {
    let verdict = match decision.verdict {
        Verdict::Permit => "permit",
        Verdict::Observe => "observe",
        Verdict::Deny => "deny",
    };
    let names = match decision.policies.as_slice() {
        [] => "no policy".to_owned(),
        some => some.join(", "),
    };
    let text = format!("{verdict} by {names}");
    match decision.errors.as_slice() {
        [] => text,
        errors => format!("{text}; {}", errors.join("; ")),
    }
}
