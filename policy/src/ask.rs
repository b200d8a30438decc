//! From a question to Cedar's principal, action, resource and context.
//!
//! | to find | look in |
//! |---|---|
//! | what of the context an action takes | `context` |
//! | what is known of entities before anyone asks | `known` |

mod context;
mod known;

use std::error::Error;

use cedar_policy::{
    Context as CedarContext, Entities, Entity, EntityUid, Request, RestrictedExpression, Schema,
};
use claviger_core::decision::{Question, Resource};

use crate::index::Lineage;
pub(crate) use known::Known;

/// A question does not fit the schema: something is missing that the action needs to know.
pub(crate) type MalformedQuestion = Box<dyn Error + Send + Sync>;

type Field = (String, RestrictedExpression);

/// A question in Cedar's terms.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) request: Request,
    /// The principal, the resource and the action.
    entities: Vec<Entity>,
    pub(crate) principal: Lineage,
    pub(crate) action: Lineage,
    pub(crate) resource: Lineage,
}

impl Asked {
    /// `question`, checked against `schema`.
    pub(crate) fn new(
        question: &Question,
        schema: &Schema,
        known: &Known,
    ) -> Result<Self, MalformedQuestion> {
        let (principal, client) = known.identity(&question.principal)?;
        let (action, its_groups) = known.action(&question.action)?;
        let mut entities = vec![client, its_groups];
        let resource = match &question.resource {
            Resource::TrustDomain(name) => {
                Lineage { uid: known.domain(name.as_str()), above: Vec::new() }
            }
            Resource::Identity(party) => {
                let (lineage, server) = known.identity(party)?;
                if party.id != question.principal.id {
                    entities.push(server);
                }
                lineage
            }
            Resource::Tool(name) => {
                let (lineage, tool) = known.tool(name)?;
                entities.push(tool);
                lineage
            }
        };
        let request = Request::new(
            principal.uid.clone(),
            action.uid.clone(),
            resource.uid.clone(),
            CedarContext::from_pairs(context::context(question)?)?,
            Some(schema),
        )?;
        Ok(Self { request, entities, principal, action, resource })
    }

    /// Its entities, and these, too, unless they are already there. It has none from then on.
    ///
    /// Checking them against the schema would take longer than all the rest; the tests do it.
    pub(crate) fn take_entities_and(
        &mut self,
        others: Vec<&Entity>,
    ) -> Result<Entities, MalformedQuestion> {
        let mut there: Vec<EntityUid> = self.entities.iter().map(Entity::uid).collect();
        let mut entities = std::mem::take(&mut self.entities);
        for other in others {
            let uid = other.uid();
            if !there.contains(&uid) {
                there.push(uid);
                entities.push(other.clone());
            }
        }
        Ok(Entities::from_entities(entities, None)?)
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

#[cfg(test)]
mod tests;
