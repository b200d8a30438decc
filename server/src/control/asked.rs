//! From what a gateway asks to a question to the policies.
//!
//! | AuthZEN | here |
//! |---|---|
//! | `subject` | `identity` and its SPIFFE ID |
//! | `action.name` | `connect`; `call`, or `call:` and the name of the tool |
//! | `action.properties` | what the tool is called with |
//! | `resource` | `identity` and its SPIFFE ID; `tool` and its name |
//! | `context` | `purpose`, `transport`, `approval`; and where the question comes from |
//!
//! What is known of an identity is for the server to say: `properties` of subject and resource are not
//! believed, and whoever sends them is denied, as with every field that is not understood.

use std::collections::BTreeMap;

use claviger_core::anomaly::Origin;
use claviger_core::approval::ApprovalId;
use claviger_core::decision::{Action, Context, Parameter, Party, Resource, ToolName};
use claviger_core::id::SpiffeId;
use serde::Deserialize as _;
use serde_json::Value;

use super::wire::{Entity, Evaluation, Members, Told, Verb};

/// What is asked.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) subject: SpiffeId,
    pub(super) action: Action,
    pub(super) resource: Resource,
    pub(super) context: Context,
    pub(super) origin: Origin,
    pub(super) approval: Option<ApprovalId>,
}

/// It cannot be asked, so it is denied. For the operator: a gateway is told nothing of it.
#[derive(Debug, thiserror::Error)]
#[error("{field}: {why}")]
pub(super) struct Unfit {
    field: &'static str,
    why: String,
}

impl Unfit {
    fn new(field: &'static str, why: &(impl ToString + ?Sized)) -> Self {
        Self { field, why: why.to_string() }
    }
}

/// Who is asked about: known before anything else is looked at.
pub(super) fn subject(evaluation: &Evaluation) -> Result<SpiffeId, Unfit> {
    let missing = || Unfit::new("subject", "is not there");
    identity(evaluation.subject.as_ref().ok_or_else(missing)?, "subject")
}

impl TryFrom<Evaluation> for Asked {
    type Error = Unfit;

    fn try_from(evaluation: Evaluation) -> Result<Self, Unfit> {
        nothing_else("evaluation", &evaluation.rest)?;
        let subject = subject(&evaluation)?;
        let Evaluation { action, resource, context, .. } = evaluation;
        let verb = action.ok_or_else(|| Unfit::new("action", "is not there"))?;
        let entity = resource.ok_or_else(|| Unfit::new("resource", "is not there"))?;
        nothing_else("action", &verb.rest)?;
        let (action, resource) = deed(&verb, &entity)?;
        let told = told(context.unwrap_or_default())?;
        let parameters = parameters(verb.properties.unwrap_or_default(), &action)?;
        let origin = Origin {
            prompt_id: told.prompt_id,
            subject_chain: told.subject_chain,
            dataset_scope: told.dataset_scope.into(),
            atlas_mapping: told.atlas_mapping.into(),
        };
        if !origin.is_within_bounds() {
            return Err(Unfit::new("context", "a text is too long, or there are too many"));
        }
        let context = Context {
            purpose: Some(told.purpose),
            transport: told.transport,
            parameters,
            ..Context::default()
        };
        Ok(Self { subject, action, resource, context, origin, approval: told.approval })
    }
}

/// What is to be done, and to what.
fn deed(verb: &Verb, entity: &Entity) -> Result<(Action, Resource), Unfit> {
    let unknown = || Unfit::new("action.name", "is none that is asked about here");
    if verb.name == "connect" {
        let peer = identity(entity, "resource")?;
        return Ok((Action::Connect, Resource::Identity(Party::new(peer))));
    }
    if entity.r#type != "tool" {
        return Err(Unfit::new("resource.type", "is not `tool`"));
    }
    bare(entity, "resource")?;
    let tool: ToolName = entity.id.parse().map_err(|e| Unfit::new("resource.id", &e))?;
    let named = match verb.name.strip_prefix(Action::CALL) {
        Some(name) => name,
        None if verb.name == "call" => tool.as_str(),
        None => return Err(unknown()),
    };
    if named != tool.as_str() {
        return Err(Unfit::new("resource.id", "is another tool than the action's"));
    }
    Ok((Action::Call(tool.clone()), Resource::Tool(tool)))
}

fn identity(entity: &Entity, field: &'static str) -> Result<SpiffeId, Unfit> {
    if entity.r#type != "identity" {
        return Err(Unfit::new(field, "its type is not `identity`"));
    }
    bare(entity, field)?;
    entity.id.parse().map_err(|error| Unfit::new(field, &error))
}

/// Nothing is claimed of it.
fn bare(entity: &Entity, field: &'static str) -> Result<(), Unfit> {
    nothing_else(field, &entity.rest)?;
    match &entity.properties {
        Some(Members(claimed)) if !claimed.is_empty() => {
            Err(Unfit::new(field, "has properties, which nobody believes"))
        }
        Some(_) | None => Ok(()),
    }
}

fn nothing_else<T>(field: &'static str, rest: &BTreeMap<String, T>) -> Result<(), Unfit> {
    match rest.keys().next() {
        Some(name) => Err(Unfit::new(field, &format!("`{name}` is not understood"))),
        None => Ok(()),
    }
}

fn told(Members(context): Members) -> Result<Told, Unfit> {
    let context = Value::Object(context.into_iter().collect());
    Told::deserialize(context).map_err(|error| Unfit::new("context", &error))
}

fn parameters(
    Members(given): Members,
    action: &Action,
) -> Result<BTreeMap<String, Parameter>, Unfit> {
    if *action == Action::Connect && !given.is_empty() {
        return Err(Unfit::new("action.properties", "a connection has none"));
    }
    let parameter = |(name, value)| match Parameter::deserialize(value) {
        Ok(parameter) => Ok((name, parameter)),
        Err(_untagged) => {
            let why = format!("`{name}` is no flag, whole number, text or list of texts");
            Err(Unfit::new("action.properties", &why))
        }
    };
    given.into_iter().map(parameter).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(change: impl FnOnce(&mut Value)) -> Result<Asked, Unfit> {
        let mut evaluation = json!({
            "subject": { "type": "identity", "id": "spiffe://example.org/bot" },
            "action": { "name": "call", "properties": { "amount": 5, "tags": ["a", "b"] } },
            "resource": { "type": "tool", "id": "trade" },
            "context": { "purpose": "p", "prompt_id": "x", "dataset_scope": "eu" },
        });
        change(&mut evaluation);
        Asked::try_from(serde_json::from_value::<Evaluation>(evaluation).unwrap())
    }

    #[test]
    fn a_call_is_understood() {
        let call = asked(|_| {}).unwrap();
        assert_eq!(call.action.to_string(), "call:trade");
        assert_eq!(call.context.parameters["amount"], Parameter::Number(5));
        assert_eq!(call.origin.dataset_scope, ["eu"]);
        let named = asked(|e| e["action"]["name"] = "call:trade".into()).unwrap();
        assert_eq!(named.action, call.action);
        let connect = asked(|e| {
            e["action"] = json!({ "name": "connect" });
            e["resource"] = json!({ "type": "identity", "id": "spiffe://example.org/db" });
        });
        assert_eq!(connect.unwrap().action, Action::Connect);
    }

    #[test]
    fn what_is_not_understood_is_not_asked() {
        let refused = |why: &str, change: &dyn Fn(&mut Value)| {
            let error = asked(change).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        refused("missing field `purpose`", &|e| e["context"] = json!({}));
        refused("missing field `purpose`", &|e| e["context"] = Value::Null);
        refused("unknown field `purpos`", &|e| e["context"]["purpos"] = "p".into());
        refused("`more`", &|e| e["more"] = 1.into());
        refused("`more`", &|e| e["subject"]["more"] = 1.into());
        refused("`more`", &|e| e["action"]["more"] = 1.into());
        refused("properties", &|e| e["subject"]["properties"] = json!({ "tier": "affirming" }));
        refused("properties", &|e| e["resource"]["properties"] = json!({ "owner": "x" }));
        refused("not `identity`", &|e| e["subject"]["type"] = "user".into());
        refused("not `tool`", &|e| e["resource"]["type"] = "identity".into());
        refused("another tool", &|e| e["action"]["name"] = "call:other".into());
        refused("action.name", &|e| e["action"]["name"] = "issue_psk".into());
        refused("`amount`", &|e| e["action"]["properties"]["amount"] = 1.5.into());
        refused("`amount`", &|e| e["action"]["properties"]["amount"] = Value::Null);
        refused("too long", &|e| e["context"]["prompt_id"] = "x".repeat(257).into());
        refused("64 hexadecimal", &|e| e["context"]["approval"] = "1".into());
        refused("not there", &|e| drop(e.as_object_mut().unwrap().remove("action")));
    }

    #[test]
    fn no_member_is_there_twice() {
        let text = r#"{"name": "call", "properties": {"amount": 1, "amount": 1000000}}"#;
        let error = serde_json::from_str::<Verb>(text).unwrap_err().to_string();
        assert!(error.contains("twice"), "{error}");
    }
}
