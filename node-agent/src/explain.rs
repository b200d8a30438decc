//! Which identities somebody gets, and what others lack. No I/O.

use std::cmp::Reverse;

use claviger_core::entry::Entry;
use claviger_core::reason::{Missing, Reason};
use claviger_core::selector::Selectors;
use claviger_core::time::UnixTime;

use crate::credentials::{Identity, Snapshot};

/// What somebody with certain facts gets, and does not.
#[derive(Debug)]
pub(crate) struct Explanation<'a> {
    /// The default identity first.
    pub(crate) identities: Vec<&'a Identity>,
    /// The nearest first.
    pub(crate) near_misses: Vec<NearMiss<'a>>,
    /// How many entries are not mentioned.
    pub(crate) others: usize,
}

/// An entry that gives somebody no identity.
#[derive(Debug)]
pub(crate) struct NearMiss<'a> {
    pub(crate) entry: &'a Entry,
    pub(crate) reason: Reason,
    /// What it asks for and they do not have.
    pub(crate) missing: Vec<Missing>,
}

/// Explains what somebody with `facts` gets at `now`, with at most `most` near misses.
pub(crate) fn explain<'a>(
    snapshot: &'a Snapshot,
    facts: &Selectors,
    now: UnixTime,
    most: usize,
) -> Explanation<'a> {
    let identities = snapshot.admitted(facts, now);
    let mut misses: Vec<_> = misses(snapshot, facts, now).collect();
    // The fewest missing first; of those, the most at hand; then by name, so that it is stable.
    misses.sort_unstable_by_key(|(entry, _)| {
        let missing = entry.selectors.difference(facts).count();
        (missing, Reverse(entry.selectors.len().saturating_sub(missing)), &entry.id)
    });
    let others = misses.len().saturating_sub(most);
    misses.truncate(most);
    let near_misses = misses.into_iter().map(|(entry, reason)| {
        let missing = Missing::of(&entry.selectors, facts);
        NearMiss { entry, reason, missing }
    });
    Explanation { identities, near_misses: near_misses.collect(), others }
}

/// Why nothing is issued to somebody who gets nothing: the reason, and the entry that is nearest.
pub(crate) fn refusal<'a>(
    snapshot: &'a Snapshot,
    facts: &Selectors,
    now: UnixTime,
) -> (Reason, Option<NearMiss<'a>>) {
    let nearest = explain(snapshot, facts, now, 1).near_misses.pop();
    (nearest.as_ref().map_or(Reason::NoEntry, |nearest| nearest.reason), nearest)
}

fn misses<'a>(
    snapshot: &'a Snapshot,
    facts: &Selectors,
    now: UnixTime,
) -> impl Iterator<Item = (&'a Entry, Reason)> {
    let held = snapshot.identities().iter().map(|identity| &*identity.entry);
    let held = held.filter(move |entry| !entry.admits(facts, now)).map(move |entry| {
        let reason =
            if entry.expired(now) { Reason::EntryExpired } else { Reason::SelectorsMissing };
        (entry, reason)
    });
    let left_out = snapshot.left_out().iter().map(|left| (&*left.entry, left.reason));
    held.chain(left_out)
}

/// Why an identity has no SVID at `now`, if it has none.
pub(crate) fn without_svid(identity: &Identity, now: UnixTime) -> Option<Reason> {
    match (identity.x509.peek(now), &identity.refusal) {
        (Some(_), _) => None,
        (None, Some(_)) => Some(Reason::SvidRefused),
        (None, None) => Some(Reason::SvidPending),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::credentials::LeftOut;
    use crate::world::{NOW, entry, snapshot_of};

    #[test]
    fn the_entry_that_lacks_least_comes_first() {
        let ends = Entry { expires_at: Some(NOW), ..entry("ended", &["unix:uid:1"]) };
        let stored = LeftOut {
            entry: Arc::new(entry("stored", &["unix:uid:1", "unix:gid:1"])),
            reason: Reason::ForSecretStore,
        };
        let entries = vec![
            entry("ours", &["unix:uid:1"]),
            entry("far", &["k8s:ns:a", "k8s:sa:b"]),
            entry("near", &["unix:uid:1", "unix:path:/a"]),
            entry("nothing", &["unix:uid:2"]),
            ends,
        ];
        let snapshot = snapshot_of(entries, vec![stored]);
        let facts = ["unix:uid:1", "unix:gid:1", "unix:path:/b"];
        let facts: Selectors = facts.map(|fact| fact.parse().unwrap()).into();

        let explanation = explain(&snapshot, &facts, NOW, 4);
        let gets: Vec<_> = explanation.identities.iter().map(|i| i.entry.id.as_str()).collect();
        assert_eq!((gets, explanation.others), (vec!["ours"], 1));
        let misses: Vec<_> = explanation
            .near_misses
            .iter()
            .map(|miss| (miss.entry.id.as_str(), miss.reason, miss.missing.len()))
            .collect();
        assert_eq!(
            misses,
            [
                ("stored", Reason::ForSecretStore, 0),
                ("ended", Reason::EntryExpired, 0),
                ("near", Reason::SelectorsMissing, 1),
                ("nothing", Reason::SelectorsMissing, 1),
            ]
        );
        let missing = &explanation.near_misses[2].missing[0];
        assert_eq!(missing.selector.to_string(), "unix:path:/a");
        assert_eq!(missing.instead, ["unix:path:/b".parse().unwrap()]);
    }

    #[test]
    fn without_any_entry_there_is_a_reason_too() {
        let snapshot = snapshot_of(Vec::new(), Vec::new());
        let (reason, nearest) = refusal(&snapshot, &Selectors::new(), NOW);
        assert!(reason == Reason::NoEntry && nearest.is_none());
    }

    #[test]
    fn an_identity_without_svid_has_a_reason() {
        let mut identity = Identity::without_svids(entry("a", &["unix:uid:1"]));
        assert_eq!(without_svid(&identity, NOW), Some(Reason::SvidPending));
        identity.refusal = Some("no".into());
        assert_eq!(without_svid(&identity, NOW), Some(Reason::SvidRefused));
    }
}
