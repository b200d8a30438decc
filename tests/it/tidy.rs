//! Rules about the source tree that no lint knows.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Who may depend on whom (`docs/architecture.md`). A crate that is missing here fails the test, so
/// adding an edge is a decision that a reviewer sees.
const ALLOWED: [(&str, &[&str]); 11] = [
    ("core", &[]),
    ("proto", &["core"]),
    ("runtime", &["core"]),
    ("attestors", &["core"]),
    ("policy", &["core"]),
    ("server", &["core", "policy", "proto", "runtime", "attestors"]),
    ("node-agent", &["core", "policy", "proto", "runtime", "attestors"]),
    ("shim", &["core", "policy", "proto", "runtime"]),
    (
        "cli",
        &[
            "core",
            "policy",
            "proto",
            "runtime",
            "attestors",
            "server",
            "node-agent",
            "shim",
            "tests",
        ],
    ),
    ("tests", &["core", "policy", "proto", "runtime", "attestors", "server", "shim"]),
    ("examples", &["core", "policy", "proto", "runtime", "attestors", "shim"]),
];

#[test]
fn dependencies_point_inwards() {
    for (name, may_use) in ALLOWED {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        for line in manifest.lines().filter_map(|line| line.strip_prefix("claviger-")) {
            let used = line.split(['.', ' ', '=']).next().unwrap();
            assert!(may_use.contains(&used), "{name} must not depend on {used}");
        }
    }
}

#[test]
fn every_crate_has_its_rules() {
    let allowed = BTreeMap::from(ALLOWED);
    for entry in fs::read_dir(root()).unwrap() {
        let dir = entry.unwrap().path();
        let name = dir.file_name().unwrap().to_str().unwrap();
        let is_crate = dir.join("Cargo.toml").exists();
        assert!(!is_crate || allowed.contains_key(name), "{name} is not in ALLOWED");
    }
}

/// A proof type may be made only where what it proves was done. Files of tests, which no build ships,
/// may stand for whoever did it.
#[test]
fn assertions_are_made_where_they_are_true() {
    const PROOFS: [(&str, &[&str]); 4] = [
        ("Grant::assertion(", &["server/src/policy"]),
        ("Met::nothing(", &["server/src/ledger/model", "server/src/storage/several"]),
        ("Recorded::assertion(", &["server/src/journal"]),
        ("AttestedNode::assertion(", &["attestors/src/"]),
    ];
    let root = root();
    for file in rust_files(&root) {
        let path = file.strip_prefix(&root).unwrap().to_str().unwrap();
        let source = fs::read_to_string(&file).unwrap();
        for (proof, places) in PROOFS {
            let may = is_test(path) || places.iter().any(|at| path.starts_with(at));
            assert!(may || !source.contains(proof), "{path} must not say `{proof}`");
        }
    }
}

/// Signing keys are used in one folder (invariant 3 of `docs/architecture.md`).
#[test]
fn only_the_authority_signs() {
    const SIGNS: [&str; 7] = [
        ".signed_by(",
        ".self_signed(",
        "jwt::encode(",
        "wit::encode(",
        "ear::encode(",
        "policies::encode(",
        "compact::build(",
    ];
    let root = root();
    for file in rust_files(&root.join("server/src")) {
        let path = file.strip_prefix(&root).unwrap().to_str().unwrap();
        let production = production(&file);
        let signs = SIGNS.iter().any(|call| production.contains(call));
        let may = is_test(path) || path.starts_with("server/src/ca");
        assert!(may || !signs, "{path} must not sign");
    }
}

/// `core` takes time and randomness as arguments and waits for nothing.
#[test]
fn core_does_no_io() {
    const BANNED: [&str; 6] =
        ["async fn", "std::fs", "std::net", "tokio::", "SystemRandom", "std::env"];
    let root = root();
    for file in rust_files(&root.join("core/src")) {
        let path = file.strip_prefix(&root).unwrap().to_str().unwrap();
        let production = production(&file);
        for banned in BANNED {
            assert!(is_test(path) || !production.contains(banned), "{path} must not use {banned}");
        }
    }
}

/// `docs/reliability.md` promises nothing that no test keeps.
#[test]
fn what_is_promised_is_tested() {
    let root = root();
    let promises = fs::read_to_string(root.join("docs/reliability.md")).unwrap();
    let rows = promises.lines().filter(|line| line.starts_with("| "));
    let named = rows.filter_map(|row| row.trim_end_matches('|').rsplit_once('|'));
    let named: Vec<_> = named.flat_map(|(_, tests)| tests.split('`').skip(1).step_by(2)).collect();
    let sources: Vec<_> =
        rust_files(&root).iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    assert!(!named.is_empty());
    for name in named {
        let test = format!("fn {name}(");
        assert!(sources.iter().any(|source| source.contains(&test)), "there is no test `{name}`");
    }
}

/// Whether no build ships the file at `path`.
fn is_test(path: &str) -> bool {
    path.starts_with("tests/")
        || path.contains("/tests/")
        || path.ends_with("/tests.rs")
        || path.ends_with("/fixture.rs")
}

/// What of a file a build ships.
fn production(file: &Path) -> String {
    let source = fs::read_to_string(file).unwrap();
    // Modules of tests stand at the end; a declaration of one in a file of its own may stand anywhere.
    let tests = source.find("#[cfg(test)]\nmod tests {").unwrap_or(source.len());
    source.split_at(tests).0.to_owned()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            files.push(path);
        }
    }
    files
}
