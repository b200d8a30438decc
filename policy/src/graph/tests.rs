use super::*;
use crate::set::PolicySet;
use crate::source::Source;

fn set(policies: &str) -> PolicySet {
    let source = Source::new(vec![("a.cedar".to_owned(), policies.to_owned())]);
    PolicySet::compile(source).unwrap()
}

const READS: &str = r#"
permit (principal == Identity::"spiffe://example.org/web", action == Action::"connect",
        resource == Identity::"spiffe://example.org/db")
when { context.purpose == "read" };
"#;

#[test]
fn an_edge_says_what_for_and_how_and_whether_it_is_new() {
    let old = set(READS);
    let new = set(&READS.replace("== \"read\"", "== \"write\""));
    let reach = Reach::of(&new, &[]).unwrap();
    let differences = crate::diff::diff(&old, &new, &[]).unwrap();
    let graph = Graph::of(&reach, &differences);
    let [edge] = graph.edges.as_slice() else { panic!("{graph:?}") };
    assert_eq!(
        (edge.from.as_str(), edge.to.as_str()),
        ("spiffe://example.org/web", "spiffe://example.org/db")
    );
    assert!(edge.new && edge.shown && edge.purposes.contains("write"));
    assert!(!Graph::of(&reach, &[]).edges[0].new);
    let services: Vec<_> = graph.nodes.iter().map(|node| node.services).collect();
    assert_eq!(services, [0, 1], "the database, and who reaches it");
    let dot = graph.dot();
    let wanted = "\"spiffe://example.org/web\" -> \"spiffe://example.org/db\" [label=\"write (connect)\", color=\"green\"];";
    assert!(dot.contains(wanted), "{dot}");
}
