//! From what is known beside to Cedar's context.

use cedar_policy::RestrictedExpression;
use claviger_core::decision::{Action, Context, EvidenceShown, Parameter, Question, Transport};

use super::MalformedQuestion;

/// A member of a record, and its value.
type Field = (String, RestrictedExpression);

/// What of the context the action takes. A field that it needs and that is not there fails the check
/// against the schema.
pub(super) fn context(question: &Question) -> Result<Vec<Field>, MalformedQuestion> {
    let Context {
        time,
        requester,
        evidence,
        dns_names,
        audience,
        ttl_seconds,
        purpose,
        run,
        transport,
        parameters,
    } = &question.context;
    let mut fields = vec![field("time", seconds(time.as_secs())), field("risk", risk(question))];
    let wants = |names: &[&str]| names.iter().any(|name| *name == question.action.kind());
    let issues = wants(&["issue_x509", "issue_jwt", "issue_wit", "issue_ear"]);
    let keys = wants(&["issue_psk", "redeem_psk", "redeem_psk_by_identity"]);
    let connects = question.action.has_purpose();
    if issues {
        fields.extend(requester.iter().map(|name| field("requester", text(name))));
    }
    if issues || keys || wants(&["issue_x509_ca"]) {
        fields.extend(ttl_seconds.iter().map(|ttl| field("ttl_seconds", seconds(*ttl))));
    }
    if (issues || connects)
        && let Some(shown) = evidence
    {
        fields.push(field("evidence", shown_to_cedar(shown)?));
    }
    if connects {
        fields.extend(purpose.iter().map(|purpose| field("purpose", text(purpose.as_str()))));
        if let Some(transport) = transport {
            fields.push(field("transport", transport_to_cedar(transport)?));
        }
    }
    if keys {
        fields.extend(run.iter().map(|run| field("run", text(run.as_str()))));
    }
    match &question.action {
        Action::IssueX509 => fields.push(field("dns_names", texts(dns_names))),
        Action::IssueJwt => fields.push(field("audience", texts(audience))),
        Action::Call(_) => {
            let given = parameters.iter().map(|(name, value)| (name.clone(), parameter(value)));
            fields.push(field("parameters", RestrictedExpression::new_record(given)?));
        }
        Action::Connect
        | Action::IssueX509Ca
        | Action::IssueWit
        | Action::IssueEar
        | Action::IssuePsk
        | Action::RedeemPsk
        | Action::RedeemPskByIdentity
        | Action::Ask
        | Action::Signal => {}
    }
    Ok(fields)
}

fn risk(question: &Question) -> RestrictedExpression {
    RestrictedExpression::new_long(question.risk().percent().into())
}

fn shown_to_cedar(shown: &EvidenceShown) -> Result<RestrictedExpression, MalformedQuestion> {
    let fields = [
        field("kind", text(&shown.kind)),
        field("bond", text(shown.bond.name())),
        field("tier", text(shown.tier.name())),
        field("age_seconds", seconds(shown.age_seconds)),
    ];
    Ok(RestrictedExpression::new_record(fields)?)
}

fn transport_to_cedar(transport: &Transport) -> Result<RestrictedExpression, MalformedQuestion> {
    let fields = [
        field("tls", text(&transport.tls)),
        field("group", text(&transport.group)),
        field("post_quantum", RestrictedExpression::new_bool(transport.post_quantum)),
    ];
    Ok(RestrictedExpression::new_record(fields)?)
}

fn parameter(value: &Parameter) -> RestrictedExpression {
    match value {
        Parameter::Flag(flag) => RestrictedExpression::new_bool(*flag),
        Parameter::Number(number) => RestrictedExpression::new_long(*number),
        Parameter::Text(value) => text(value),
        Parameter::Texts(values) => texts(values),
    }
}

fn field(name: &str, value: RestrictedExpression) -> Field {
    (name.to_owned(), value)
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn texts<T: AsRef<str>>(values: impl IntoIterator<Item = T>) -> RestrictedExpression {
    RestrictedExpression::new_set(values.into_iter().map(|value| text(value.as_ref())))
}

fn seconds(value: u64) -> RestrictedExpression {
    RestrictedExpression::new_long(i64::try_from(value).unwrap_or(i64::MAX))
}
