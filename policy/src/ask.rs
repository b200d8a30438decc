//! From a question to Cedar's principal, action, resource and context.

use std::collections::{HashMap, HashSet};
use std::error::Error;

use cedar_policy::{
    Context as CedarContext, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request,
    RestrictedExpression, Schema,
};
use claviger_core::decision::{
    Action, Context, EvidenceShown, Parameter, Party, Question, Resource, Transport,
};
use claviger_core::id::TrustDomain;
use claviger_core::standing::Risk;

/// A question does not fit the schema: something is missing that the action needs to know.
pub(crate) type MalformedQuestion = Box<dyn Error + Send + Sync>;

type Field = (String, RestrictedExpression);

/// The question in Cedar's terms, checked against `schema`.
pub(crate) fn to_cedar(
    question: &Question,
    schema: &Schema,
) -> Result<(Request, Entities), MalformedQuestion> {
    let principal = &question.principal;
    let mut entities = vec![identity(principal)?, domain(principal.id.trust_domain())?];
    let resource = match &question.resource {
        Resource::TrustDomain(name) => {
            if name != principal.id.trust_domain() {
                entities.push(domain(name)?);
            }
            uid("TrustDomain", name.as_str())?
        }
        Resource::Identity(party) => {
            if party.id.trust_domain() != principal.id.trust_domain() {
                entities.push(domain(party.id.trust_domain())?);
            }
            if party.id != principal.id {
                entities.push(identity(party)?);
            }
            uid("Identity", &party.id.to_string())?
        }
        Resource::Tool(name) => {
            let uid = uid("Tool", name.as_str())?;
            entities.push(Entity::new_no_attrs(uid.clone(), HashSet::new()));
            uid
        }
    };
    let request = Request::new(
        uid("Identity", &principal.id.to_string())?,
        uid("Action", &question.action.to_string())?,
        resource,
        CedarContext::from_pairs(context(question)?)?,
        Some(schema),
    )?;
    // Checking the entities against the schema, too, would take longer than all the rest; the tests
    // do it.
    Ok((request, Entities::from_entities(entities, None)?))
}

/// What of the context the action takes. A field that it needs and that is not there fails the check
/// against the schema.
fn context(question: &Question) -> Result<Vec<Field>, MalformedQuestion> {
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
    let connects = keys || wants(&["connect", "call"]);
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

/// That of the principal or of the resource, whichever is greater.
fn risk(question: &Question) -> RestrictedExpression {
    let other = match &question.resource {
        Resource::Identity(party) => party.risk,
        Resource::TrustDomain(_) | Resource::Tool(_) => Risk::NONE,
    };
    RestrictedExpression::new_long(question.principal.risk.max(other).percent().into())
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

fn identity(party: &Party) -> Result<Entity, MalformedQuestion> {
    let id = &party.id;
    let selectors: Vec<_> = party.selectors.iter().map(ToString::to_string).collect();
    let none: [&str; 0] = [];
    let attributes = HashMap::from([
        field("path", text(id.path())),
        field("trust_domain", text(id.trust_domain().as_str())),
        field("reserved", RestrictedExpression::new_bool(id.is_reserved())),
        field("selectors", texts(&selectors)),
        field("models", texts(none)),
        field("tier", text(party.tier.name())),
        field("risk", RestrictedExpression::new_long(party.risk.percent().into())),
        field("registered", RestrictedExpression::new_bool(false)),
        field("purposes", texts(none)),
        field("data_scopes", texts(none)),
    ]);
    let parents = HashSet::from([uid("TrustDomain", id.trust_domain().as_str())?]);
    Ok(Entity::new(uid("Identity", &id.to_string())?, attributes, parents)?)
}

fn domain(name: &TrustDomain) -> Result<Entity, MalformedQuestion> {
    Ok(Entity::new_no_attrs(uid("TrustDomain", name.as_str())?, HashSet::new()))
}

fn uid(kind: &str, id: &str) -> Result<EntityUid, MalformedQuestion> {
    let kind: EntityTypeName = kind.parse()?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_fit_the_schema() {
        let schema = crate::load::schema().unwrap();
        let party = Party::new("spiffe://example.org/web".parse().unwrap());
        let entities = [identity(&party).unwrap(), domain(party.id.trust_domain()).unwrap()];
        Entities::from_entities(entities, Some(&schema)).unwrap();
    }
}
