//! The examples of policies keep what they promise, and notice when they do not any more.

#![expect(clippy::unwrap_used, reason = "an example that cannot be read fails the test")]

use std::path::{Path, PathBuf};

use claviger_policy::reach::Reach;
use claviger_policy::{PolicySet, Source, graph, invariants, table};

fn examples() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/policies");
    let mut dirs: Vec<_> = std::fs::read_dir(dir).unwrap().map(|it| it.unwrap().path()).collect();
    dirs.retain(|path| path.is_dir());
    dirs.sort();
    dirs
}

/// What `claviger policy check` and `test` object to.
fn objections(source: Source) -> Vec<String> {
    let set = match PolicySet::compile(source) {
        Ok(set) => set,
        Err(error) => return vec![error.to_string()],
    };
    let reach = Reach::of(&set, &[]).unwrap();
    let read = invariants::read(&set).unwrap();
    let mut objections = match invariants::check(&set, &read, &reach) {
        Ok(broken) => broken.into_iter().map(|broken| broken.what).collect(),
        Err(error) => vec![error.to_string()],
    };
    assert!(!read.is_empty(), "an example has invariants");
    let outcomes = table::run(&set).unwrap();
    assert!(!outcomes.is_empty(), "an example has cases");
    let failed = outcomes.into_iter().filter(|outcome| !outcome.passed());
    objections.extend(failed.map(|it| format!("{}: {:?}", it.name, it.decision)));
    objections
}

#[test]
fn every_example_is_as_it_should_be() {
    let examples = examples();
    assert_eq!(examples.len(), 4, "{examples:?}");
    for dir in examples {
        assert_eq!(objections(Source::read(&dir).unwrap()), [""; 0], "{}", dir.display());
    }
}

/// The same files, with the text of `name` changed.
fn changed(source: &Source, name: &str, change: impl Fn(&str) -> String) -> Source {
    let file = |(known, text): &(String, String)| {
        (known.clone(), if known == name { change(text) } else { text.clone() })
    };
    Source::new(source.files().iter().map(file).collect())
}

/// No policy can be left out unnoticed, and none that permits everything slips in.
#[test]
fn whoever_breaks_an_example_is_told() {
    for dir in examples() {
        let source = Source::read(&dir).unwrap();
        for (name, text) in source.files().iter().filter(|(name, _)| name.ends_with(".cedar")) {
            for what in [
                "permit (principal, action in Action::\"reach\", resource);",
                "permit (principal, action in Action::\"call\", resource);",
            ] {
                let broken = changed(&source, name, |text| format!("{text}\n{what}"));
                // Without tools, nothing can be called.
                if source.file("tools.toml").is_some() || !what.contains("call") {
                    assert!(!objections(broken).is_empty(), "{}: {what}", dir.display());
                }
            }
            let policies: Vec<_> = text.split("@id(").skip(1).collect();
            assert!(3 <= policies.len());
            for policy in policies {
                let broken =
                    changed(&source, name, |text| text.replace(&format!("@id({policy}"), ""));
                assert!(!objections(broken).is_empty(), "{} without @id({policy}", dir.display());
            }
        }
    }
}

#[test]
fn the_retrieval_pipeline_has_four_stages_and_three_edges_between_them() {
    let dir = examples().into_iter().find(|path| path.ends_with("rag-pipeline")).unwrap();
    let set = PolicySet::compile(Source::read(&dir).unwrap()).unwrap();
    let graph = graph::Graph::of(&Reach::of(&set, &[]).unwrap(), &[]);
    let stages = ["ingest", "chunk", "rank", "synthesize"];
    let is_stage = |id: &str| stages.iter().any(|stage| id.ends_with(&format!("/rag/{stage}")));
    assert_eq!(graph.nodes.iter().filter(|node| is_stage(&node.id)).count(), 4);
    let edges = graph.edges.iter().filter(|edge| is_stage(&edge.from) || is_stage(&edge.to));
    let edges: Vec<_> = edges
        .map(|edge| (edge.from.rsplit('/').next().unwrap(), edge.to.rsplit('/').next().unwrap()))
        .collect();
    assert_eq!(edges, [("chunk", "rank"), ("ingest", "chunk"), ("rank", "synthesize")]);
}
