//! Structures of the TPM's, as bytes (Part 2).
//!
//! | to find | look in |
//! |---|---|
//! | reading and writing of numbers and buffers | `bytes` |
//! | hash algorithms | `hash` |
//! | selections of PCRs, and what is in them | `pcrs` |
//! | public areas of keys | `public` |
//! | what a TPM signs | `attest` |
//! | signatures | `signature` |

mod attest;
mod bytes;
mod hash;
mod pcrs;
mod public;
mod signature;

pub(super) use attest::{Attest, Clock, GENERATED, QUOTE};
pub(super) use bytes::{Malformed, Reader, Writer};
pub use hash::Hash;
pub(super) use pcrs::{COUNT, Pcrs, Selection};
pub(super) use public::{Key, NULL, Public, Symmetric, attribute};
pub(super) use signature::{ECDSA, Signature};
