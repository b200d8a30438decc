//! Which entries an agent may serve, and which agents an entry concerns: the same relation, read
//! downwards and upwards.
//!
//! An agent may serve the entries under its own identity, those under the node aliases that its
//! selectors match (entries whose parent is the server itself), and, from there on, those under
//! every identity reached. Entries that have ended lead nowhere.

use std::collections::HashSet;

use claviger_core::selector::Selectors;
use claviger_core::time::UnixTime;

use super::entries::{Entries, Handle, Key};

/// The entries that an agent with this key and these selectors may serve at `now`; `server` is the
/// parent of node aliases.
pub(super) fn below(
    entries: &Entries,
    agent: Key,
    selectors: &Selectors,
    server: Key,
    now: UnixTime,
) -> Vec<Handle> {
    let aliases = earned(entries, selectors, server, now);
    let aliases = aliases.filter_map(|alias| entries.identity(alias));
    let mut parents: Vec<_> = std::iter::once(agent).chain(aliases).collect();
    let mut visited: HashSet<_> = parents.iter().copied().collect();
    let mut found = Vec::new();
    while let Some(parent) = parents.pop() {
        for entry in entries.under(parent).filter(|entry| entries.is_alive(*entry, now)) {
            found.push(entry);
            if let Some(identity) = entries.identity(entry)
                && visited.insert(identity)
            {
                parents.push(identity);
            }
        }
    }
    found
}

/// The entries under the server itself that ask for some of these selectors and nothing else: the
/// node aliases of an agent, and what a program without an agent may be given.
pub(super) fn earned(
    entries: &Entries,
    selectors: &Selectors,
    server: Key,
    now: UnixTime,
) -> impl Iterator<Item = Handle> {
    entries
        .under(server)
        .filter(move |alias| entries.is_alive(*alias, now))
        .filter(|alias| entries.selectors(*alias).is_subset(selectors))
}

/// Whoever has an entry, seen from the entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Above {
    /// The keys of every identity it hangs under, agents among them.
    identities: HashSet<Key>,
    /// The selectors of every node alias it hangs under.
    aliases: Vec<Selectors>,
}

impl Above {
    /// Who has the entries under `parent` at `now`.
    pub(super) fn parent(entries: &Entries, parent: Key, server: Key, now: UnixTime) -> Self {
        let mut above = Self::default();
        let mut rising = vec![parent];
        while let Some(identity) = rising.pop() {
            if !above.identities.insert(identity) {
                continue;
            }
            for giver in entries.giving(identity).filter(|giver| entries.is_alive(*giver, now)) {
                match entries.parent(giver) {
                    Some(parent) if parent == server => {
                        above.aliases.push(entries.selectors(giver));
                    }
                    Some(parent) => rising.push(parent),
                    None => {}
                }
            }
        }
        above
    }

    /// Whoever has these selectors: those to whom a node alias belongs.
    pub(super) fn alias(selectors: Selectors) -> Self {
        Self { identities: HashSet::new(), aliases: vec![selectors] }
    }

    /// The keys of those that are named, whoever they are.
    pub(super) fn identities(&self) -> impl Iterator<Item = Key> {
        self.identities.iter().copied()
    }

    /// The selectors of every node alias among them.
    pub(super) fn aliases(&self) -> &[Selectors] {
        &self.aliases
    }

    /// Whether an agent may be among them by its selectors.
    pub(super) const fn has_aliases(&self) -> bool {
        !self.aliases.is_empty()
    }

    /// Whether an agent is among them.
    pub(super) fn includes(&self, agent: Key, selectors: &Selectors) -> bool {
        self.identities.contains(&agent)
            || self.aliases.iter().any(|alias| alias.is_subset(selectors))
    }
}

#[cfg(test)]
mod tests {
    use claviger_core::entry::Entry;
    use claviger_core::id::SpiffeId;
    use proptest::prelude::*;

    use super::super::fixture::{entry, id};
    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_000);

    fn key(path: &str) -> Key {
        Key::of_id(&id(path))
    }

    fn facts(texts: &[&str]) -> Selectors {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn served(entries: &Entries, agent: &str, selectors: &Selectors) -> Vec<String> {
        let found = below(entries, key(agent), selectors, key("/spire/server"), NOW);
        let id = |handle: &Handle| entries.packed(*handle).unwrap().to_entry().id.to_string();
        let mut ids: Vec<_> = found.iter().map(id).collect();
        ids.sort();
        ids
    }

    fn concerned(entries: &Entries, parent: &SpiffeId, agent: &str, selectors: &Selectors) -> bool {
        Above::parent(entries, Key::of_id(parent), key("/spire/server"), NOW)
            .includes(key(agent), selectors)
    }

    #[test]
    fn own_entries_aliases_and_what_hangs_below() {
        let mut entries = Entries::default();
        let all = [
            entry("own", "/spire/agent/a", "/web", "unix:uid:1"),
            entry("other", "/spire/agent/b", "/web", "unix:uid:1"),
            entry("alias", "/spire/server", "/pool", "tpm:pool:x"),
            entry("in-pool", "/pool", "/db", "unix:uid:2"),
            entry("below-db", "/db", "/db-helper", "unix:uid:3"),
            // As a token for a named agent makes it.
            entry(
                "named",
                "/spire/agent/a",
                "/node",
                "spiffe_id:spiffe://example.org/spire/agent/a",
            ),
            entry("under-named", "/node", "/cron", "unix:uid:4"),
        ];
        for entry in &all {
            entries.put(entry);
        }
        assert_eq!(
            served(&entries, "/spire/agent/a", &facts(&["tpm:pool:x", "tpm:rack:1"])),
            ["below-db", "in-pool", "named", "own", "under-named"]
        );
        assert_eq!(
            served(&entries, "/spire/agent/a", &facts(&[])),
            ["named", "own", "under-named"]
        );
        assert_eq!(served(&entries, "/spire/agent/b", &facts(&["tpm:pool:y"])), ["other"]);
        assert!(concerned(&entries, &id("/db"), "/spire/agent/b", &facts(&["tpm:pool:x"])));
        assert!(!concerned(&entries, &id("/db"), "/spire/agent/b", &facts(&[])));
        assert!(concerned(&entries, &id("/node"), "/spire/agent/a", &facts(&[])));
    }

    #[test]
    fn what_has_ended_leads_nowhere() {
        let mut entries = Entries::default();
        let ended = Some(NOW);
        entries.put(&Entry {
            expires_at: ended,
            ..entry("alias", "/spire/server", "/pool", "tpm:pool:x")
        });
        entries.put(&entry("in-pool", "/pool", "/db", "unix:uid:2"));
        entries.put(&Entry {
            expires_at: ended,
            ..entry("own", "/spire/agent/a", "/web", "unix:uid:1")
        });
        let selectors = facts(&["tpm:pool:x"]);
        assert_eq!(served(&entries, "/spire/agent/a", &selectors), [""; 0]);
        assert!(!concerned(&entries, &id("/pool"), "/spire/agent/a", &selectors));
    }

    #[test]
    fn circles_end() {
        let mut entries = Entries::default();
        entries.put(&entry("1", "/a", "/b", "unix:uid:1"));
        entries.put(&entry("2", "/b", "/a", "unix:uid:1"));
        entries.put(&entry("3", "/spire/agent/x", "/a", "unix:uid:1"));
        assert_eq!(served(&entries, "/spire/agent/x", &facts(&[])), ["1", "2", "3"]);
        assert!(concerned(&entries, &id("/b"), "/spire/agent/x", &facts(&[])));
    }

    proptest! {
        /// Both directions say the same about every entry and agent.
        #[test]
        fn up_and_down_agree(
            edges in prop::collection::vec((0..6_usize, 2..6_usize, 0..3_u8), 0..12),
            pool in 0..3_u8,
        ) {
            const NODES: [&str; 6] = ["/spire/server", "/spire/agent/x", "/a", "/b", "/c", "/d"];
            let mut entries = Entries::default();
            for (at, (parent, child, pool)) in edges.iter().enumerate() {
                if parent != child {
                    let fact = format!("tpm:pool:{pool}");
                    entries.put(&entry(&at.to_string(), NODES[*parent], NODES[*child], &fact));
                }
            }
            let selectors = facts(&[&format!("tpm:pool:{pool}")]);
            let served = served(&entries, "/spire/agent/x", &selectors);
            for packed in entries.following(None) {
                let entry = packed.to_entry();
                if entry.parent_id != id("/spire/server") {
                    let above = concerned(&entries, &entry.parent_id, "/spire/agent/x", &selectors);
                    prop_assert_eq!(above, served.contains(&entry.id.to_string()), "{}", entry.id);
                }
            }
        }
    }
}
