//! What is known at one moment.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use claviger_core::entry::Entry;
use claviger_core::id::TrustDomain;
use claviger_core::selector::{Selector, Selectors};
use claviger_core::time::UnixTime;
use tokio::time::Instant;

use super::{LeftOut, Offer, ServedBundle, WorkloadSvid, WorkloadWit};

/// Every identity that can be given out, and the bundles to verify peers with.
#[derive(Debug)]
pub(crate) struct Snapshot {
    own: Arc<ServedBundle>,
    federated: BTreeMap<TrustDomain, Arc<ServedBundle>>,
    /// Oldest entry first.
    identities: Vec<Identity>,
    left_out: Arc<[LeftOut]>,
    /// Where the identities are that ask for a selector, each under one of those it asks for.
    by_selector: HashMap<Selector, Vec<usize>>,
}

/// One identity, and its SVID if there is a valid one.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// Whom it is for.
    pub(crate) entry: Arc<Entry>,
    /// What proves it in TLS.
    pub(crate) x509: Offer<WorkloadSvid>,
    /// What proves it in HTTP.
    pub(crate) wit: Offer<WorkloadWit>,
    /// What the server said when it last refused to prove it, if it has not done so since.
    pub(crate) refusal: Option<Arc<str>>,
    /// When it was last said to be risked, or no longer: whoever has it must be looked at anew.
    pub(crate) doubted: Option<Instant>,
}

impl Identity {
    /// The identity of `entry`, with nothing to prove it.
    #[cfg(test)]
    pub(crate) fn without_svids(entry: Entry) -> Self {
        let (x509, wit) = (Offer::default(), Offer::default());
        Self { entry: Arc::new(entry), x509, wit, refusal: None, doubted: None }
    }
}

impl Snapshot {
    /// The snapshot of these identities.
    pub(crate) fn new(
        own: Arc<ServedBundle>,
        federated: BTreeMap<TrustDomain, Arc<ServedBundle>>,
        mut identities: Vec<Identity>,
        left_out: Arc<[LeftOut]>,
    ) -> Self {
        // The default identity is the first, so the order must not depend on chance.
        identities.sort_by(|a, b| {
            let key = |identity: &Identity| (identity.entry.created_at, identity.entry.id.clone());
            key(a).cmp(&key(b))
        });
        let mut by_selector: HashMap<Selector, Vec<usize>> = HashMap::new();
        for (at, identity) in identities.iter().enumerate() {
            if let Some(selector) = most_telling(&identity.entry.selectors) {
                by_selector.entry(selector.clone()).or_default().push(at);
            }
        }
        Self { own, federated, identities, left_out, by_selector }
    }

    /// The same without anybody in it.
    pub(super) fn emptied(&self) -> Self {
        let (own, federated) = (Arc::clone(&self.own), self.federated.clone());
        Self {
            own,
            federated,
            identities: Vec::new(),
            left_out: Arc::default(),
            by_selector: HashMap::new(),
        }
    }

    /// The trust domain.
    pub(crate) fn trust_domain(&self) -> &TrustDomain {
        &self.own.bundle.trust_domain
    }

    /// Its bundle.
    pub(crate) fn bundle(&self) -> &ServedBundle {
        &self.own
    }

    /// The bundles of the other trust domains that one of `identities` federates with, by name, each
    /// once; those that are not known are left out.
    pub(crate) fn federated_with<'a>(
        &'a self,
        identities: &[&Identity],
    ) -> BTreeMap<&'a TrustDomain, &'a Arc<ServedBundle>> {
        let wanted = identities.iter().flat_map(|identity| &identity.entry.federates_with);
        wanted.filter_map(|domain| self.federated.get_key_value(domain)).collect()
    }

    /// Every bundle that is known, the own trust domain's first.
    pub(crate) fn bundles(&self) -> impl Iterator<Item = &ServedBundle> {
        std::iter::once(&*self.own).chain(self.federated.values().map(|served| &**served))
    }

    /// Every identity, whoever is entitled to it.
    pub(crate) fn identities(&self) -> &[Identity] {
        &self.identities
    }

    /// Entries that nobody is served by.
    pub(crate) fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// The identities of a process with these facts, oldest entry first.
    pub(crate) fn admitted(&self, facts: &Selectors, now: UnixTime) -> Vec<&Identity> {
        let mut at: Vec<usize> =
            facts.iter().filter_map(|fact| self.by_selector.get(fact)).flatten().copied().collect();
        at.sort_unstable();
        at.into_iter()
            .filter_map(|at| self.identities.get(at))
            .filter(|identity| identity.entry.admits(facts, now))
            .collect()
    }
}

/// The selector that the fewest processes are likely to have: hashes and paths are longer than
/// numbers and names.
fn most_telling(selectors: &Selectors) -> Option<&Selector> {
    selectors.iter().max_by_key(|selector| selector.value().len())
}

#[cfg(test)]
mod tests {
    use claviger_core::bundle::Bundle;
    use claviger_core::id::SpiffeId;

    use super::*;
    use crate::world::{NOW, entry};

    fn served(trust_domain: &str) -> Arc<ServedBundle> {
        Arc::new(Bundle::empty(trust_domain.parse().unwrap()).into())
    }

    fn snapshot(entries: Vec<Entry>) -> Snapshot {
        let federated = ["a.org", "b.org"].map(|name| (name.parse().unwrap(), served(name)));
        let identities = entries.into_iter().map(Identity::without_svids).collect();
        Snapshot::new(served("example.org"), federated.into(), identities, Arc::default())
    }

    fn admitted(snapshot: &Snapshot, facts: &[&str]) -> Vec<String> {
        let facts = facts.iter().map(|fact| fact.parse().unwrap()).collect();
        let identities = snapshot.admitted(&facts, NOW);
        identities.into_iter().map(|identity| identity.entry.id.to_string()).collect()
    }

    #[test]
    fn all_selectors_must_be_facts() {
        let snapshot = snapshot(vec![
            entry("both", &["unix:uid:1", "unix:path:/bin/a"]),
            entry("user", &["unix:uid:1"]),
            entry("other", &["unix:uid:2"]),
        ]);
        assert_eq!(admitted(&snapshot, &["unix:uid:1"]), ["user"]);
        assert_eq!(admitted(&snapshot, &["unix:uid:1", "unix:path:/bin/a"]), ["both", "user"]);
        assert_eq!(admitted(&snapshot, &["unix:path:/bin/a"]), [""; 0]);
        assert_eq!(admitted(&snapshot, &[]), [""; 0]);
    }

    #[test]
    fn the_oldest_entry_comes_first_and_then_the_name_decides() {
        let aged = |id, age: u64| {
            let created_at = NOW.before(std::time::Duration::from_secs(age));
            Entry { created_at, ..entry(id, &["unix:uid:1"]) }
        };
        let snapshot = snapshot(vec![aged("c", 1), aged("b", 1), aged("a", 0), aged("d", 9)]);
        assert_eq!(admitted(&snapshot, &["unix:uid:1"]), ["d", "b", "c", "a"]);
    }

    #[test]
    fn an_expired_entry_admits_nobody() {
        let ends = |id, end| Entry { expires_at: Some(end), ..entry(id, &["unix:uid:1"]) };
        let later = NOW.after(std::time::Duration::from_secs(1));
        let snapshot = snapshot(vec![ends("over", NOW), ends("soon", later)]);
        assert_eq!(admitted(&snapshot, &["unix:uid:1"]), ["soon"]);
    }

    #[test]
    fn the_bundle_is_the_trust_domains() {
        let snapshot = snapshot(Vec::new());
        assert_eq!(
            snapshot.trust_domain().id(),
            "spiffe://example.org".parse::<SpiffeId>().unwrap()
        );
        assert!(snapshot.bundle().x509.is_empty());
    }

    #[test]
    fn only_the_bundles_of_those_it_federates_with_are_given() {
        let with = |id, names: &[&str]| Entry {
            federates_with: names.iter().map(|name| name.parse().unwrap()).collect(),
            ..entry(id, &["unix:uid:1"])
        };
        let snapshot = snapshot(vec![with("a", &["b.org", "unknown.org"]), with("b", &["b.org"])]);
        let facts = ["unix:uid:1".parse().unwrap()].into();
        let identities = snapshot.admitted(&facts, NOW);
        let federated = snapshot.federated_with(&identities);
        assert_eq!(federated.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["b.org"]);
    }
}
