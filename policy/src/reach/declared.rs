//! What stands beside the policies, as far as the search for paths wants to know it.

use std::collections::BTreeSet;

use claviger_core::decision::{Action, Parameter, Question, ToolName};
use claviger_core::id::SpiffeId;

use super::Subject;
use crate::identities::{Registered, Whom};
use crate::set::PolicySet;
use crate::tools::{Kind, Limits};

/// The identities that are written out.
pub(crate) fn exact(set: &PolicySet) -> impl Iterator<Item = SpiffeId> {
    set.identities().iter().filter_map(|record| match &record.whom {
        Whom::One(id) => Some(id.clone()),
        Whom::Below(_) => None,
    })
}

/// The prefixes of identities, each ending in a slash.
pub(crate) fn prefixes(set: &PolicySet) -> Vec<String> {
    let prefix = |record: &Registered| match &record.whom {
        Whom::One(_) => None,
        Whom::Below(above) => Some(format!("{above}/")),
    };
    set.identities().iter().filter_map(prefix).collect()
}

/// The tools.
pub(crate) fn tools(set: &PolicySet) -> Vec<ToolName> {
    set.tools().iter().map(|tool| tool.name.clone()).collect()
}

/// Whether `tool` is in `group`, directly or through others.
pub(crate) fn tool_is_in(set: &PolicySet, tool: &ToolName, group: &str) -> bool {
    let groups = set.tools().named(tool).map(|tool| &tool.groups);
    groups.is_some_and(|groups| set.groups().and_above(groups).contains(group))
}

impl Subject {
    /// Whether it is registered in `group`, directly or through others.
    pub(crate) fn is_in(&self, set: &PolicySet, group: &str) -> bool {
        let record = set.identities().of(&self.id);
        record.is_some_and(|record| set.groups().and_above(&record.groups).contains(group))
    }

    /// Whether it is registered with this value of `attribute`.
    pub(crate) fn has(&self, set: &PolicySet, attribute: &str, value: &str) -> bool {
        let Some(record) = set.identities().of(&self.id) else { return false };
        let one = |known: &Option<String>| known.as_deref() == Some(value);
        match attribute {
            "owner" => one(&record.owner),
            "tenant" => one(&record.tenant),
            "stage" => one(&record.stage),
            "ring" => one(&record.ring),
            "purposes" => record.purposes.contains(value),
            "data_scopes" => record.data_scopes.contains(value),
            _ => false,
        }
    }
}

/// The same question; of a call, with parameters that fit the tool.
pub(crate) fn with_parameters(set: &PolicySet, mut question: Question) -> Question {
    if let Action::Call(name) = &question.action
        && let Some(tool) = set.tools().named(name)
    {
        let fitting = |limits: &Limits| (!limits.optional).then(|| least(limits));
        let parameters = tool.parameters.iter();
        let parameters = parameters
            .filter_map(|(name, limits)| Some((name.as_str().to_owned(), fitting(limits)?)));
        question.context.parameters = parameters.collect();
    }
    question
}

/// A value within `limits`.
pub(crate) fn least(limits: &Limits) -> Parameter {
    let text = || limits.one_of.first().cloned().unwrap_or_else(|| "a".to_owned());
    match limits.kind {
        Kind::Text => Parameter::Text(text()),
        Kind::Number => Parameter::Number(0.clamp(limits.min, limits.max)),
        Kind::Flag => Parameter::Flag(false),
        Kind::Texts => Parameter::Texts(BTreeSet::new()),
    }
}
