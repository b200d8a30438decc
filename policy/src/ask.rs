//! From a question to Cedar's principal, action, resource and context.
//!
//! | to find | look in |
//! |---|---|
//! | what of the context an action takes | `context` |
//! | what is known of entities before anyone asks | `known` |

mod context;
mod known;

use std::error::Error;

use cedar_policy::{Context as CedarContext, Entities, Request, Schema};
use cedar_policy_core::ast::Entity;
use cedar_policy_core::entities::{self, NoEntitiesSchema, TCComputation};
use cedar_policy_core::extensions::Extensions;
use claviger_core::decision::{Question, Resource};

use crate::index::Lineage;
pub(crate) use known::Known;

/// A question does not fit the schema: something is missing that the action needs to know.
pub(crate) type MalformedQuestion = Box<dyn Error + Send + Sync>;

/// A question in Cedar's terms.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) request: Request,
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
        let principal = known.lineage(&question.principal.id);
        let action = known.action(&question.action)?.0.clone();
        let resource = match &question.resource {
            Resource::TrustDomain(name) => {
                Lineage { uid: known.domain(name.as_str()), above: Vec::new() }
            }
            Resource::Identity(party) => known.lineage(&party.id),
            Resource::Tool(name) => known.tool(name)?.0.clone(),
        };
        let request = Request::new(
            principal.uid.clone(),
            action.uid.clone(),
            resource.uid.clone(),
            CedarContext::from_pairs(context::context(question)?)?,
            Some(schema),
        )?;
        Ok(Self { request, principal, action, resource })
    }

    /// The principal, the action and the resource with all that is known of them, and `others` unless
    /// they are among these.
    ///
    /// All that each is in is known already. Finding it out again, and checking entities against the
    /// schema, would take longer than all the rest; the tests do it.
    pub(crate) fn entities(
        &self,
        question: &Question,
        known: &Known,
        others: Vec<&Entity>,
    ) -> Result<Entities, MalformedQuestion> {
        let principal = known.identity(&question.principal, &self.principal);
        let mut entities = vec![principal, known.action(&question.action)?.1.clone()];
        match &question.resource {
            Resource::TrustDomain(_) => {}
            Resource::Identity(party) if party.id == question.principal.id => {}
            Resource::Identity(party) => entities.push(known.identity(party, &self.resource)),
            Resource::Tool(name) => entities.push(known.tool(name)?.1.clone()),
        }
        for other in others {
            if !entities.iter().any(|entity| entity.uid() == other.uid()) {
                entities.push(other.clone());
            }
        }
        let entities = entities::Entities::from_entities(
            entities,
            None::<&NoEntitiesSchema>,
            TCComputation::AssumeAlreadyComputed,
            Extensions::all_available(),
        )?;
        Ok(entities.into())
    }
}

#[cfg(test)]
mod tests;
