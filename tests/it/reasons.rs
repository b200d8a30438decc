//! What an operator reads of the reasons why somebody gets nothing.

use std::fs;
use std::path::Path;

use claviger_core::reason::Reason;

#[test]
fn every_reason_is_in_the_manual() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/agent-sockets.md");
    let manual = fs::read_to_string(path).unwrap();
    for reason in Reason::ALL {
        let row = format!("| `{reason}` |");
        assert!(manual.lines().any(|line| line.starts_with(&row)), "{reason} has no row");
    }
}
