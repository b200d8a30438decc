//! Hints are unique within a response (SPIFFE Workload API §8).

use std::collections::HashSet;

use claviger_core::entry::Entry;

/// The hints given out in one response. Of several identities with the same, the oldest keeps it;
/// the others stay, without.
#[derive(Debug, Default)]
pub(crate) struct Hints<'a>(HashSet<&'a str>);

impl<'a> Hints<'a> {
    /// The hint of the next identity.
    pub(crate) fn next(&mut self, entry: &'a Entry) -> String {
        if self.0.insert(&entry.hint) { entry.hint.clone() } else { String::new() }
    }
}
