mod admission;
mod corpus;
mod edges;
mod inspection;
mod refusals;

use tempfile::TempDir;

use super::fixture::{Authority, config, verifier};
use super::{Config, Verifier};

/// The image that software machines have booted: what is in PCR 4.
fn booted() -> String {
    format!(r#"{{"pcr4":"{}"}}"#, "04".repeat(32))
}

/// A verifier that trusts `authority`, with the settings that `edit` makes.
fn trusting(authority: &Authority, edit: impl FnOnce(&mut Config)) -> Verifier {
    let dir = TempDir::new().unwrap();
    let mut config = config(&dir, authority, &booted());
    edit(&mut config);
    verifier_of(&config, dir)
}

/// The reference values are read again whenever they are asked for, so their folder stays.
fn verifier_of(config: &Config, dir: TempDir) -> Verifier {
    let verifier = verifier(config);
    let _path = dir.keep();
    verifier
}
