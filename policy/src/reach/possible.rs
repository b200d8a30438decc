//! Whether something is possible at all: Cedar's partial evaluation, with everything unknown that
//! changes from one question to the next.
//!
//! What is said to be impossible is impossible. What is said to be possible may still depend on
//! things that cannot come together.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error;

use cedar_policy::{
    Authorizer, Context, Decision, Effect, Entities, Entity, EntityUid, EvalResult,
    PartialResponse, PolicySet as CedarPolicies, Request, RestrictedExpression, Schema,
};
use claviger_core::decision::Question;
use claviger_core::psk::Purpose;
use serde_json::Value;

use crate::set::PolicySet;

/// What of an identity is attested or said of it at the moment, and so not known beforehand.
const UNKNOWN_ATTRIBUTES: [&str; 4] = ["selectors", "models", "tier", "risk"];

/// What of the context may be missing.
const OPTIONAL: [&str; 4] = ["evidence", "transport", "run", "purpose"];

/// Something went wrong with Cedar that never should.
pub(crate) type Broken = Box<dyn Error + Send + Sync>;

/// An entity of which the policies know what stands beside them, and nothing else.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) uid: EntityUid,
    pub(crate) ancestors: BTreeSet<EntityUid>,
    entity: Entity,
}

impl Known {
    /// The texts of these attributes, apart from those that every identity has.
    pub(crate) fn registered(&self, attributes: &BTreeSet<String>) -> BTreeSet<String> {
        const REGISTERED: [&str; 6] =
            ["purposes", "owner", "tenant", "stage", "ring", "data_scopes"];
        let wanted = REGISTERED.iter().filter(|name| attributes.contains(**name));
        let values = wanted.filter_map(|name| self.entity.attr(name)?.ok());
        values
            .flat_map(|value| match value {
                EvalResult::String(text) => vec![text],
                EvalResult::Set(texts) => texts
                    .iter()
                    .filter_map(|text| match text {
                        EvalResult::String(text) => Some(text.clone()),
                        EvalResult::Bool(_)
                        | EvalResult::Long(_)
                        | EvalResult::Set(_)
                        | EvalResult::Record(_)
                        | EvalResult::EntityUid(_)
                        | EvalResult::ExtensionValue(_) => None,
                    })
                    .collect(),
                EvalResult::Bool(_)
                | EvalResult::Long(_)
                | EvalResult::Record(_)
                | EvalResult::EntityUid(_)
                | EvalResult::ExtensionValue(_) => Vec::new(),
            })
            .collect()
    }

    /// What stands beside the policies of it: names and values in their order.
    pub(crate) fn attributes(&self) -> BTreeMap<String, String> {
        let known = self.entity.attrs().filter_map(|(name, value)| Some((name, value.ok()?)));
        known.map(|(name, value)| (name.to_owned(), value.to_string())).collect()
    }
}

/// Entities that policies look at by name.
pub(crate) type Named = HashMap<EntityUid, Entity>;

/// The same, of which is unknown what changes from one question to the next.
fn blurred(entity: &Entity) -> Result<Entity, Broken> {
    let (uid, mut attributes, ancestors) = entity.clone().into_inner();
    for name in UNKNOWN_ATTRIBUTES {
        if let Some(value) = attributes.get_mut(name) {
            *value = RestrictedExpression::new_unknown(format!("{uid}.{name}"));
        }
    }
    Ok(Entity::new(uid, attributes, ancestors)?)
}

/// A question in Cedar's terms, before anything is unknown.
pub(crate) struct Asked {
    request: Request,
    entities: Entities,
}

impl Asked {
    pub(crate) fn new(set: &PolicySet, question: &Question) -> Result<Self, Broken> {
        let (request, entities) = set.asked(question)?;
        Ok(Self { request, entities })
    }

    pub(crate) fn principal(&self) -> Result<Known, Broken> {
        self.known(self.request.principal())
    }

    pub(crate) fn resource(&self) -> Result<Known, Broken> {
        self.known(self.request.resource())
    }

    fn known(&self, uid: Option<&EntityUid>) -> Result<Known, Broken> {
        let uid = uid.ok_or("the question leaves open who")?.clone();
        let ancestors = self.entities.ancestors(&uid).into_iter().flatten().cloned().collect();
        let entity = self.entities.get(&uid).ok_or("the entity is missing")?;
        Ok(Known { uid, ancestors, entity: blurred(entity)? })
    }

    /// Whatever else policies look at, whoever asks.
    pub(crate) fn named(&self) -> Result<Named, Broken> {
        let entities = self.entities.iter();
        entities.map(|entity| Ok((entity.uid(), blurred(entity)?))).collect()
    }

    /// Every context that the question can have, apart from its purpose.
    pub(crate) fn contexts(self, mentions: impl Fn(&str) -> bool) -> Result<Contexts, Broken> {
        let context = self.request.context().ok_or("the question has no context")?.clone();
        let fields: BTreeMap<_, _> = context.into_iter().collect();
        let optional = OPTIONAL.iter().filter(|name| fields.contains_key(**name) && mentions(name));
        let mut shapes = vec![fields.keys().cloned().collect::<BTreeSet<String>>()];
        for name in optional {
            let without: Vec<_> = shapes.iter().map(|shape| without(shape, name)).collect();
            shapes.extend(without);
        }
        Ok(Contexts { shapes })
    }
}

fn without(shape: &BTreeSet<String>, name: &str) -> BTreeSet<String> {
    shape.iter().filter(|field| field.as_str() != name).cloned().collect()
}

/// The fields that a question's context may have: with and without each that may be missing.
#[derive(Debug)]
pub(crate) struct Contexts {
    shapes: Vec<BTreeSet<String>>,
}

impl Contexts {
    fn of(&self, purpose: For<'_>) -> Result<Vec<Context>, Broken> {
        let fits = |shape: &&BTreeSet<String>| match purpose {
            For::Any | For::Nobodys(_) => true,
            For::Only(_) => shape.contains("purpose"),
        };
        let context = |shape: &BTreeSet<String>| {
            let field = |name: &String| {
                let known = match purpose {
                    For::Any => None,
                    For::Only(known) | For::Nobodys(known) => Some(known.as_str()),
                };
                let known = known.filter(|_| name == "purpose");
                let value = known.map_or_else(
                    || RestrictedExpression::new_unknown(format!("context.{name}")),
                    |purpose| RestrictedExpression::new_string(purpose.to_owned()),
                );
                (name.clone(), value)
            };
            Ok(Context::from_pairs(shape.iter().map(field))?)
        };
        self.shapes.iter().filter(fits).map(context).collect()
    }
}

/// An action, and the groups it is in.
#[derive(Clone, Debug)]
pub(crate) struct Act {
    pub(crate) uid: EntityUid,
    pub(crate) ancestors: BTreeSet<EntityUid>,
    entity: Entity,
}

impl Act {
    pub(crate) fn new(schema: &Schema, name: &str) -> Result<Self, Broken> {
        let uid: EntityUid =
            EntityUid::from_type_name_and_id("Action".parse()?, cedar_policy::EntityId::new(name));
        let actions = schema.action_entities()?;
        let ancestors: BTreeSet<_> =
            actions.ancestors(&uid).into_iter().flatten().cloned().collect();
        let parents = ancestors.iter().cloned().collect();
        let entity = Entity::new(uid.clone(), HashMap::new(), parents)?;
        Ok(Self { uid, ancestors, entity })
    }
}

/// For which purpose.
#[derive(Clone, Copy, Debug)]
pub(crate) enum For<'a> {
    /// For whichever, or without saying for which.
    Any,
    /// For this.
    Only(&'a Purpose),
    /// For this, which stands for all that nobody speaks of, or without saying for which.
    Nobodys(&'a Purpose),
}

/// One end of a question, or that it is open.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End<'a> {
    Known(&'a Known),
    Anyone,
}

/// An action, and everything that surrounds questions about it.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) act: Act,
    pub(crate) contexts: Contexts,
    pub(crate) named: Named,
}

/// Whether any context, and anything attested, makes `policies` permit it between these, for that
/// purpose.
pub(crate) fn may(
    policies: &CedarPolicies,
    around: &Surroundings,
    ends: (End<'_>, End<'_>),
    purpose: For<'_>,
) -> Result<bool, Broken> {
    let Surroundings { act, contexts, named } = around;
    let mut entities = named.clone();
    entities.insert(act.uid.clone(), act.entity.clone());
    for end in [ends.0, ends.1] {
        if let End::Known(known) = end {
            entities.insert(known.uid.clone(), known.entity.clone());
        }
    }
    let entities = Entities::from_entities(entities.into_values(), None)?;
    for context in contexts.of(purpose)? {
        let builder = Request::builder().action(act.uid.clone()).context(context);
        let builder = match ends.0 {
            End::Known(known) => builder.principal(known.uid.clone()),
            End::Anyone => builder.unknown_principal_with_type("Identity".parse()?),
        };
        let builder = match ends.1 {
            End::Known(known) => builder.resource(known.uid.clone()),
            End::Anyone => builder,
        };
        let response =
            Authorizer::new().is_authorized_partial(&builder.build(), policies, &entities);
        if response.decision() != Some(Decision::Deny) && has_permit(&response)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a policy permits it, or may. Cedar leaves `unknown && false` as it is, which is never true.
fn has_permit(response: &PartialResponse) -> Result<bool, Broken> {
    let mut satisfied = response.definitely_satisfied();
    if satisfied.any(|policy| policy.effect() == Effect::Permit) {
        return Ok(true);
    }
    for residual in response.nontrivial_residuals() {
        if residual.effect() == Effect::Permit && !is_impossible(&residual.to_json()?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether one of the conditions of `policy`, in Cedar's JSON, is never true.
fn is_impossible(policy: &Value) -> bool {
    let conditions = policy.get("conditions").and_then(Value::as_array);
    let is_when = |condition: &&Value| condition.get("kind").is_some_and(|kind| kind == "when");
    let mut bodies = conditions.into_iter().flatten().filter(is_when);
    bodies.any(|condition| condition.get("body").is_some_and(is_never_true))
}

fn is_never_true(expression: &Value) -> bool {
    let sides = |operator| {
        let both = expression.get(operator)?;
        Some((is_never_true(both.get("left")?), is_never_true(both.get("right")?)))
    };
    expression.get("Value") == Some(&Value::Bool(false))
        || sides("&&").is_some_and(|(left, right)| left || right)
        || sides("||").is_some_and(|(left, right)| left && right)
}
