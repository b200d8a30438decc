//! What enclaves of AWS Nitro and instances with a NitroTPM have in common: documents in CBOR that the
//! Nitro hypervisor signs (COSE_Sign1, RFC 9052 §4.2), and the certificates that lead to its root.
//!
//! The two kinds are told apart by the name of the registers in the document; neither is accepted for
//! the other.
//!
//! The conversation: the node sends `{}`, is sent a nonce of 32 bytes, and answers with a document that
//! has this nonce as `nonce` and the digest of its binding as `user_data`.
//!
//! | to find | look in |
//! |---|---|
//! | what differs between the kinds, and the rules | `flavour` |
//! | the signed envelope | `envelope` |
//! | what is in it | `document`, `cbor` |
//! | the certificates | `chain`, `roots` |
//! | judging a document by all rules | `judge` |
//! | what an accepted document earns | `verdict` |
//! | both ends of the conversation | `verifier`, `collector` |
//! | a document in a file, for people | `inspection` |

mod cbor;
mod chain;
mod collector;
mod document;
mod envelope;
mod flavour;
mod inspection;
mod judge;
mod roots;
mod verdict;
mod verifier;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

pub(crate) use collector::{Module, unavailable};
pub use collector::{Questions, SecurityModule};
pub(crate) use flavour::{Flavour, Rules, register, rules};
pub(crate) use inspection::inspect;
pub(crate) use judge::{Debugging, Parents};
pub use verifier::OpenError;
pub(crate) use verifier::Verifier;

/// The largest document, in bytes: the payload that AWS allows, and its envelope.
pub(crate) const MAX_DOCUMENT: usize = MAX_PAYLOAD + 256;

/// The largest payload, in bytes (`bstr .size (1..16384)` in AWS' description).
const MAX_PAYLOAD: usize = 16_384;

/// A register is as long as a SHA-384.
pub(crate) const REGISTER: usize = 48;
