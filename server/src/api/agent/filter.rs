//! What a listing of agents selects, and what it shows.

use claviger_core::selector::Selector;
use claviger_proto::convert::{FieldError, Problem, times};
use claviger_proto::spire::server::agent::v1::{count_agents_request, list_agents_request};
use claviger_proto::spire::types;

use super::super::bundle::keep;
use super::facts;
use crate::registry::agents::Agent;
use crate::registry::filter::Match;

/// Conditions on an agent; every one that is set must hold.
#[derive(Debug, Default)]
pub(super) struct Filter {
    kind: Option<String>,
    selectors: Option<Match<Selector>>,
    banned: Option<bool>,
    reattestable: Option<bool>,
}

impl Filter {
    pub(super) fn holds(&self, agent: &Agent) -> bool {
        self.kind.as_ref().is_none_or(|kind| *kind == agent.kind)
            && self.selectors.as_ref().is_none_or(|wanted| wanted.holds(&agent.selectors))
            && self.banned.is_none_or(|banned| banned == agent.banned)
            && self.reattestable.is_none_or(|can| can == agent.reattestable)
    }
}

impl TryFrom<list_agents_request::Filter> for Filter {
    type Error = FieldError;

    fn try_from(wire: list_agents_request::Filter) -> Result<Self, FieldError> {
        if !wire.by_expires_before.is_empty() {
            return Err(FieldError::new("filter", Problem::Unsupported("by_expires_before")));
        }
        Ok(Self {
            kind: Some(wire.by_attestation_type).filter(|kind| !kind.is_empty()),
            selectors: wire
                .by_selector_match
                .map(|wanted| Match::selectors(wanted, "filter.by_selector_match"))
                .transpose()?,
            banned: wire.by_banned,
            reattestable: wire.by_can_reattest,
        })
    }
}

impl TryFrom<count_agents_request::Filter> for Filter {
    type Error = FieldError;

    fn try_from(wire: count_agents_request::Filter) -> Result<Self, FieldError> {
        list_agents_request::Filter {
            by_attestation_type: wire.by_attestation_type,
            by_selector_match: wire.by_selector_match,
            by_banned: wire.by_banned,
            by_can_reattest: wire.by_can_reattest,
            by_expires_before: wire.by_expires_before,
        }
        .try_into()
    }
}

/// Those fields of an agent that the mask selects; all of them without a mask.
pub(super) fn select(agent: &Agent, mask: Option<&types::AgentMask>) -> types::Agent {
    let all = types::AgentMask {
        attestation_type: true,
        x509svid_serial_number: true,
        x509svid_expires_at: true,
        selectors: true,
        banned: true,
        can_reattest: true,
    };
    let mask = mask.unwrap_or(&all);
    types::Agent {
        id: Some((&agent.id).into()),
        attestation_type: keep(mask.attestation_type, agent.kind.clone()),
        x509svid_serial_number: keep(mask.x509svid_serial_number, agent.svid.decimal_serial()),
        x509svid_expires_at: keep(mask.x509svid_expires_at, times::to_wire(agent.svid.not_after)),
        selectors: keep(mask.selectors, facts(&agent.selectors)),
        banned: keep(mask.banned, agent.banned),
        can_reattest: keep(mask.can_reattest, agent.reattestable),
    }
}
