//! The binary as its users meet it: started, asked, stopped and killed from outside.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

mod ci;
mod conformance;
mod demo;
mod dev;
mod doors;
mod evidence;
mod exec;
mod federation;
mod files;
mod kill;
mod outage;
mod power;
mod quarantine;
mod revocation;
mod secrets;
mod several;
mod shim;
mod tokens;
mod tunnels;
mod why;

use claviger_tests::process::Claviger;

/// The binary that was built with these tests.
fn claviger() -> Claviger {
    Claviger::at(env!("CARGO_BIN_EXE_claviger"))
}
