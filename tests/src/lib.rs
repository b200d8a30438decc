//! The harness that the suites share.
//!
//! | to find | look in |
//! |---|---|
//! | the binary, driven from outside: `dev`, and a server and an agent that can be killed | [`process`] |
//! | calls to an agent's socket, as a workload makes them | [`workload`] |
//! | a real SPIRE, to measure beside ours | [`spire`] |
//! | what benchmarks have in common | [`mod@bench`] |
//! | files of entries, for both | [`entries`] |
//! | evidence that real machines made | [`corpus`] |
//! | a CI system that gives its jobs tokens, and the examples' pipelines | [`ci`] |

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a harness that panics is a test that fails"
)]

pub mod bench;
pub mod ci;
pub mod corpus;
pub mod entries;
pub mod process;
pub mod spire;
pub mod workload;
