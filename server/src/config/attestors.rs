//! `[attestors]`: which kinds of evidence admit a node, or a program that has no agent.

use claviger_attestors::{ConfigProblem, composite, join_token};
use claviger_runtime::settings::Section;
use serde::de::DeserializeOwned;

/// The kinds of evidence that are judged, beside join tokens. None by default.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AttestorsConfig {
    /// Several kinds at once.
    pub composite: Option<composite::Config>,
}

/// Reads the section.
pub(super) fn read(section: &mut Section<'_>) -> AttestorsConfig {
    let mut config = AttestorsConfig::default();
    let mut kinds = vec![join_token::KIND];
    config.composite = one(section, composite::KIND, |composite: &composite::Config| {
        composite.problems(&kinds)
    });
    kinds.clear();
    config
}

/// The settings of one kind, if it is configured; what is wrong with them is reported.
fn one<C: DeserializeOwned>(
    section: &mut Section<'_>,
    kind: &'static str,
    problems: impl FnOnce(&C) -> Vec<ConfigProblem>,
) -> Option<C> {
    let config = section.value(kind)?;
    for ConfigProblem { key, value, advice } in problems(&config) {
        section.report(&format!("{kind}.{key}"), value, advice);
    }
    Some(config)
}
