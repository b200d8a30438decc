//! Nodes that were looked up lately. A node changes rarely, and its agent comes again and again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use claviger_core::time::UnixTime;
use quick_cache::sync::Cache;

use super::claims::Reference;
use super::names::Name;
use super::objects::LiveNode;

/// How long a node's labels may be out of date.
const LIFETIME: Duration = Duration::from_secs(60);

/// How many nodes are remembered; those of a large cluster. More are looked up more often.
const ROOM: usize = 4_096;

/// Nodes by their names.
pub(super) struct Nodes(Cache<Name, Known>);

#[derive(Clone)]
struct Known {
    node: Arc<LiveNode>,
    since: UnixTime,
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nodes({})", self.0.len())
    }
}

impl Nodes {
    pub(super) fn new() -> Self {
        Self(Cache::new(ROOM))
    }

    /// The node `name` as it was a moment ago, and `claimed` if a token says which that is.
    pub(super) fn find(
        &self,
        name: &Name,
        claimed: Option<&Reference>,
        now: UnixTime,
    ) -> Option<Arc<LiveNode>> {
        let known = self.0.get(name)?;
        // A clock that was set back makes nothing last.
        let is_fresh = known.since <= now && now.since(known.since) < LIFETIME;
        let is_it = claimed.is_none_or(|claimed| *claimed == known.node.reference);
        (is_fresh && is_it).then_some(known.node)
    }

    /// Remembers `node`.
    pub(super) fn put(&self, node: LiveNode, now: UnixTime) -> Arc<LiveNode> {
        let node = Arc::new(node);
        let known = Known { node: Arc::clone(&node), since: now };
        self.0.insert(node.reference.name.clone(), known);
        node
    }
}

#[cfg(test)]
mod tests {
    use super::super::objects::Labels;
    use super::*;

    fn node(uid: &str) -> LiveNode {
        let reference = Reference { name: "node-1".parse().unwrap(), uid: uid.parse().unwrap() };
        LiveNode { reference, labels: Labels::new() }
    }

    #[test]
    fn a_node_is_remembered_for_a_minute() {
        let nodes = Nodes::new();
        let (name, then) = ("node-1".parse().unwrap(), UnixTime::from_secs(1_000));
        assert_eq!(nodes.find(&name, None, then), None);
        nodes.put(node("a"), then);
        for (now, is_known) in [(1_000, true), (1_059, true), (1_060, false), (999, false)] {
            let found = nodes.find(&name, None, UnixTime::from_secs(now));
            assert_eq!(found.is_some(), is_known, "{now}");
        }
    }

    #[test]
    fn another_node_of_the_same_name_is_not_known() {
        let nodes = Nodes::new();
        let (name, now) = ("node-1".parse().unwrap(), UnixTime::from_secs(1_000));
        nodes.put(node("a"), now);
        assert!(nodes.find(&name, Some(&node("a").reference), now).is_some());
        assert_eq!(nodes.find(&name, Some(&node("b").reference), now), None);
        nodes.put(node("b"), now);
        assert!(nodes.find(&name, Some(&node("b").reference), now).is_some());
    }
}
