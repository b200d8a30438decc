//! One policy, ready to be evaluated by itself.

use std::collections::BTreeSet;

use cedar_policy::{
    Authorizer, Decision, Entities, EntityUid, Policy as CedarPolicy, PolicySet as CedarPolicies,
    Request,
};
use cedar_policy_core::ast::Entity;
use serde_json::Value;

use crate::ask::Known;
use crate::guard::{self, Facts, Guard};
use crate::load::LoadError;
use crate::rule::{Does, Rule};

/// One policy.
#[derive(Debug)]
pub(crate) struct Policy {
    rule: Rule,
    /// Itself, alone.
    cedar: CedarPolicies,
    looks_at: Vec<Entity>,
    guards: Vec<Guard>,
}

impl Policy {
    pub(crate) fn new(policy: CedarPolicy, rule: Rule, known: &Known) -> Result<Self, LoadError> {
        let wrong = |error: &dyn std::error::Error| {
            let file = rule.name.split('#').next().unwrap_or_default();
            LoadError::new(file, rule.line, error.to_string())
        };
        let mut looks_at = Vec::new();
        for uid in looked_at(&policy).map_err(|error| wrong(&error))? {
            looks_at.extend(known.named(&uid).map_err(|error| wrong(&*error))?);
        }
        let guards = guard::of(&policy);
        let cedar = CedarPolicies::from_policies([policy]).map_err(|error| wrong(&error))?;
        Ok(Self { rule, cedar, looks_at, guards })
    }

    /// What it says of itself.
    pub(crate) const fn rule(&self) -> &Rule {
        &self.rule
    }

    /// What is known of the entities that it names to look at what they are or what they are in.
    pub(crate) fn looks_at(&self) -> impl Iterator<Item = &Entity> {
        self.looks_at.iter()
    }

    /// Whether its conditions begin with something that is false.
    pub(crate) fn is_out(&self, facts: &Facts<'_>) -> bool {
        self.guards.iter().any(|guard| guard.is_false(facts))
    }

    /// Whether it matches; an error if it cannot be evaluated.
    pub(crate) fn matches(&self, request: &Request, entities: &Entities) -> Result<bool, String> {
        let response = Authorizer::new().is_authorized(request, &self.cedar, entities);
        if let Some(error) = response.diagnostics().errors().next() {
            return Err(error.to_string());
        }
        Ok(match self.rule.does {
            Does::Permit => response.decision() == Decision::Allow,
            Does::Forbid => response.diagnostics().reason().next().is_some(),
        })
    }
}

/// The entities that the conditions of `policy` name other than to compare something with them, or to
/// ask whether something is in them: for that, no more has to be known of them.
fn looked_at(policy: &CedarPolicy) -> Result<BTreeSet<EntityUid>, serde_json::Error> {
    let json = policy.to_json().map_err(serde::ser::Error::custom)?;
    let mut found = BTreeSet::new();
    find(json.get("conditions").unwrap_or(&Value::Null), &mut found)?;
    Ok(found)
}

fn find(json: &Value, found: &mut BTreeSet<EntityUid>) -> Result<(), serde_json::Error> {
    match json {
        Value::Array(items) => items.iter().try_for_each(|item| find(item, found)),
        Value::Object(members) => members.iter().try_for_each(|(name, value)| {
            let both = matches!(name.as_str(), "==" | "!=" | "contains");
            match (name.as_str(), value) {
                ("Value", Value::Object(literal)) if literal.contains_key("__entity") => {
                    let uid = EntityUid::from_json(value.clone());
                    found.insert(uid.map_err(serde::de::Error::custom)?);
                    Ok(())
                }
                ("==" | "!=" | "contains" | "in", Value::Object(operands)) => {
                    operands.iter().try_for_each(|(side, operand)| {
                        let compared = both || side == "right";
                        if compared && is_literal(operand) { Ok(()) } else { find(operand, found) }
                    })
                }
                _ => find(value, found),
            }
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

/// Whether `json` is a literal, or a set of such.
fn is_literal(json: &Value) -> bool {
    let Value::Object(members) = json else { return false };
    members.iter().all(|(name, value)| match (name.as_str(), value) {
        ("Value", _) => true,
        ("Set", Value::Array(items)) => items.iter().all(is_literal),
        _ => false,
    })
}
