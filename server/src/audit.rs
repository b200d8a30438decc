//! The audit log as it lies in the store: reading it, following it, checking it.
//!
//! | to find | look in |
//! |---|---|
//! | one record, and a page of them | [`record`] |
//! | the log as it grows | [`follow`] |
//! | whether the log is whole | [`check`] |
//! | signed checkpoints, and what one that comes back tells | [`checkpoint`] |
//!
//! Only the journal appends; what a record means is in `claviger_core::audit`.

pub mod check;
pub mod checkpoint;
pub mod follow;
pub mod record;

pub use checkpoint::{Checkpoints, SignedCheckpoint, Verdict};
pub use follow::Follow;
pub use record::{AuditRecord, read};

#[cfg(test)]
mod tests;
