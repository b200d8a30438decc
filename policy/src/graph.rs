//! The graph of who reaches whom, and how much each could do harm to.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use claviger_core::psk::Purpose;
use serde::Serialize;

use crate::diff::Difference;
use crate::reach::{Class, Reach, Target, Way};

/// The graph of who reaches whom.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Graph {
    /// Those whom policies cannot tell apart are one node. Who stands for others is there only if a
    /// path begins or ends with it.
    pub nodes: Vec<Node>,
    /// One from each node to each other that it reaches.
    pub edges: Vec<Edge>,
}

/// A node.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Node {
    /// What edges name it by.
    pub id: String,
    /// Who it is.
    pub members: Vec<String>,
    /// How many services and tools each of them reaches: the blast radius.
    pub services: usize,
}

/// An edge.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Edge {
    /// From which node.
    pub from: String,
    /// To which node.
    pub to: String,
    /// What for; `*` stands for any purpose that nobody speaks of.
    pub purposes: BTreeSet<String>,
    /// How.
    pub ways: BTreeSet<Way>,
    /// Whether it was shown by a question that is permitted, and not only could not be ruled out.
    pub shown: bool,
    /// Whether any of it is new, compared with other policies.
    pub new: bool,
}

impl Graph {
    /// The graph of `reach`; what `differences` say is gained is new.
    #[must_use]
    pub fn of(reach: &Reach, differences: &[Difference]) -> Self {
        let mut edges: BTreeMap<(usize, &Target), Edge> = BTreeMap::new();
        for path in &reach.paths {
            let from = node(path.from, reach);
            let edge = edges.entry((path.from, &path.to)).or_insert_with(|| Edge {
                from,
                to: match &path.to {
                    Target::Class(number) => node(*number, reach),
                    Target::Tool(_) => reach.label(&path.to),
                },
                purposes: BTreeSet::new(),
                ways: BTreeSet::new(),
                shown: false,
                new: false,
            });
            edge.purposes.insert(path.purpose.as_ref().map_or("*", Purpose::as_str).to_owned());
            edge.ways.insert(path.way.clone());
            edge.shown |= path.is_shown();
            edge.new |= differences.iter().any(|difference| {
                difference.gained
                    && difference.way == path.way
                    && difference.purpose == path.purpose
                    && meets(reach, path.from, &path.to, difference)
            });
        }
        let edges: Vec<_> = edges.into_values().collect();
        Self { nodes: nodes(reach, &edges), edges }
    }

    /// The graph in the language of Graphviz. Dashed is what could not be ruled out and was not shown,
    /// green is what is new.
    #[must_use]
    pub fn dot(&self) -> String {
        let mut dot = String::from("digraph reach {\n  rankdir=LR;\n  node [shape=box];\n");
        let mut line = |text: String| {
            dot.push_str("  ");
            dot.push_str(&text);
            dot.push('\n');
        };
        for node in &self.nodes {
            let more = match node.members.len() {
                0 | 1 => String::new(),
                size => format!("\\n{size} identities"),
            };
            let id = quoted(&node.id);
            let name = short(&node.id);
            line(format!("{id} [label={}];", quoted(&format!("{name}{more}"))));
        }
        for edge in &self.edges {
            let purposes: Vec<_> = edge.purposes.iter().map(String::as_str).collect();
            let ways: Vec<_> = edge.ways.iter().map(Way::name).collect();
            let label = format!("{} ({})", purposes.join(", "), ways.join(", "));
            let color = if edge.new { ", color=\"green\"" } else { "" };
            let style = if edge.shown { "" } else { ", style=\"dashed\"" };
            let (from, to) = (quoted(&edge.from), quoted(&edge.to));
            line(format!("{from} -> {to} [label={}{color}{style}];", quoted(&label)));
        }
        dot.push_str("}\n");
        dot
    }
}

/// The class is named by its first member.
fn node(number: usize, reach: &Reach) -> String {
    let class = reach.classes.get(number);
    let first = class.and_then(|class| class.members.first());
    first.map(|subject| subject.name.clone()).unwrap_or_default()
}

fn nodes(reach: &Reach, edges: &[Edge]) -> Vec<Node> {
    let ends: BTreeSet<&str> =
        edges.iter().flat_map(|edge| [edge.from.as_str(), edge.to.as_str()]).collect();
    let mut nodes = Vec::new();
    for (number, class) in reach.classes.iter().enumerate() {
        let id = node(number, reach);
        if ends.contains(id.as_str()) || !class.members.iter().all(|subject| subject.stands_in()) {
            let members = class.members.iter().map(|subject| subject.name.clone()).collect();
            nodes.push(Node { id, members, services: reach.services(number) });
        }
    }
    let tools = reach.paths.iter().map(|path| &path.to);
    let tools = tools.filter(|target| matches!(target, Target::Tool(_)));
    let tools: BTreeSet<_> = tools.map(|target| reach.label(target)).collect();
    nodes.extend(tools.into_iter().map(|id| Node { members: vec![id.clone()], id, services: 0 }));
    nodes
}

/// Whether `difference` is about members of these.
fn meets(reach: &Reach, from: usize, to: &Target, difference: &Difference) -> bool {
    let among = |class: Option<&Class>, names: &[String]| {
        class.is_some_and(|class| class.members.iter().any(|known| names.contains(&known.name)))
    };
    among(reach.classes.get(from), &difference.from)
        && match to {
            Target::Class(number) => among(reach.classes.get(*number), &difference.to),
            Target::Tool(_) => difference.to.contains(&reach.label(to)),
        }
}

/// Without the scheme, which all have in common.
fn short(name: &str) -> &str {
    name.strip_prefix("spiffe://").unwrap_or(name)
}

/// As Graphviz quotes. Line breaks are written as such already.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "'"))
}
