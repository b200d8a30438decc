//! What a TPM 2.0 says of the machine that it is in: the measurements of its boot, signed.
//!
//! The node shows the certificate of its TPM's endorsement key (EK), and an attestation key (AK) that
//! it has just made there. The server sends a secret that only the TPM with that EK can read, and only
//! if that AK is loaded in it and is as restricted as it says (credential activation). The AK then
//! signs the PCRs that the server asks for (a quote), and with them the digest that binds the evidence
//! to the key of the node's certificate. So the AK certifies that key, which lies in the agent and not
//! in the TPM.
//!
//! The node with the EK whose SubjectPublicKeyInfo has the SHA-256 `E` becomes
//! `spiffe://trust-domain/spire/agent/tpm/E`.
//!
//! | to find | look in |
//! |---|---|
//! | what an operator sets on the server | `config` |
//! | the messages | `wire` |
//! | structures of the TPM's, as bytes | `structure` |
//! | the certificate of an EK, and who is trusted to issue it | `certificate`, `chain` |
//! | the secret that only one TPM can read | `credential` |
//! | the rules | `rules` |
//! | the counters of a TPM that was seen before | `counters` |
//! | the server's side | `verifier` |
//! | a quote in a file, for people | `inspect` |
//! | the node's side | `collector` |
//!
//! Section numbers are those of the TPM 2.0 Library Specification, revision 1.59, by its parts.

mod certificate;
mod chain;
mod collector;
mod config;
mod counters;
mod credential;
mod inspect;
mod rules;
mod structure;
mod verifier;
mod wire;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use chain::RootsError;
pub use collector::{Collector, CollectorConfig, OpenCollectorError};
pub use config::Config;
pub use inspect::inspect;
pub use structure::Hash;
pub use verifier::{OpenError, REGISTERS, REGISTERS_SHA384, Verifier};
pub use wire::{Answer, Challenge, Hello};

/// The name of this kind of evidence on the wire.
pub const KIND: &str = "tpm";
