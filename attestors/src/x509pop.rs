//! Proof of possession of a key that an X.509 certificate names: for nodes that have certificates of
//! somebody else's, or of ours.
//!
//! The format is SPIRE's. The node sends its certificate chain, is sent a nonce, and signs both the
//! nonce and one of its own. By default the node whose certificate has the SHA-1 fingerprint `F`
//! becomes `spiffe://trust-domain/spire/agent/x509pop/F`.
//!
//! | to find | look in |
//! |---|---|
//! | what an operator sets on the server | `config` |
//! | the messages | `wire` |
//! | what a certificate says | `certificate` |
//! | the key of a node's, and what it signed | `key` |
//! | who is trusted to issue certificates | `roots` |
//! | the agent's name | `path` |
//! | the server's side | `verifier` |
//! | the node's side | `collector` |

mod certificate;
mod collector;
mod config;
mod key;
mod path;
mod roots;
mod verifier;
mod wire;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use collector::{Collector, CollectorConfig, OpenCollectorError};
pub use config::{Config, Mode};
pub use roots::{OwnAuthorities, RootsError};
pub use verifier::{OpenError, Verifier};
pub use wire::{Challenge, Evidence, Response};

/// The name of this kind of evidence on the wire.
pub const KIND: &str = "x509pop";
