//! The audit log as it lies in the store: reading it, following it, checking it.
//!
//! | to find | look in |
//! |---|---|
//! | one record, and a page of them | [`record`] |
//! | the Merkle tree above them, and proofs out of it | [`tiles`] |
//! | the log as it grows | [`follow`] |
//! | whether the log is whole | [`check`] |
//! | signed checkpoints, and what one that comes back tells | [`checkpoint`] |
//! | signatures of witnesses under them | `cosign` |
//! | what strangers may read, if they may | `served` |
//! | logs of the first versions | `migrate` |
//!
//! Only the journal appends; what a record means is in `claviger_core::audit`.

pub mod check;
pub mod checkpoint;
pub(crate) mod cosign;
pub mod follow;
pub(crate) mod migrate;
pub mod record;
pub(crate) mod served;
pub mod tiles;

pub use checkpoint::{Checkpoints, Verdict};
pub use follow::Follow;
pub use record::{AuditRecord, read};

#[cfg(test)]
mod tests;
