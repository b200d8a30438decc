//! The audit log: what happened, in an order that nobody can change afterwards.
//!
//! The records are the leaves of a Merkle tree (RFC 6962 §2.1, SHA-256), so that the root vouches for
//! all of them and for their order; that a record is in the log, or that one log continues another,
//! takes a few dozen hashes to show. What a server signs of it are checkpoints in the forms of the
//! [C2SP](https://c2sp.org), which tools and witnesses of others understand.
//!
//! | to find | look in |
//! |---|---|
//! | what a record says | [`event`] |
//! | hashes, the head, a tree that grows | [`tree`] |
//! | tiles: how hashes are stored and served (tlog-tiles) | [`tile`] |
//! | that a record is in the log, that a log continues another | [`proof`] |
//! | signatures on text (signed-note, tlog-cosignature) | [`note`] |
//! | how far the log goes, signed (tlog-checkpoint) | [`checkpoint`] |
//! | checking a whole log | [`verifier`] |
//! | a record with its proof, in one file (tlog-proof) | [`receipt`] |

pub mod checkpoint;
pub mod event;
pub mod note;
pub mod proof;
pub mod receipt;
pub mod tile;
pub mod tree;
pub mod verifier;

pub use checkpoint::{Checkpoint, SignedCheckpoint};
pub use event::{Body, Event};
pub use tree::{Edge, Head, Sequence, TreeHash};
pub use verifier::{BrokenLog, Verifier};
