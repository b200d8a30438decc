//! What stands beside the policies, as far as the search for paths wants to know it.

use claviger_core::decision::{Question, ToolName};
use claviger_core::id::SpiffeId;

use crate::set::PolicySet;
use crate::vocabulary::Vocabulary;

/// The identities that are written out.
pub(crate) fn exact(_set: &PolicySet) -> Vec<SpiffeId> {
    Vec::new()
}

/// The prefixes of identities, each ending in a slash.
pub(crate) fn prefixes(_set: &PolicySet) -> Vec<String> {
    Vec::new()
}

/// The tools.
pub(crate) fn tools(_set: &PolicySet) -> Vec<ToolName> {
    Vec::new()
}

/// The same question, with parameters that fit the tool.
pub(crate) fn with_parameters(_set: &PolicySet, question: Question, _words: &Vocabulary) -> Question {
    question
}
