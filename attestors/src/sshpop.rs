//! Proof of possession of a host key that an SSH certificate names: for nodes whose `sshd` has a
//! certificate anyway.
//!
//! The format is SPIRE's. The node sends its host certificate (OpenSSH's `PROTOCOL.certkeys`), is sent
//! a nonce, and signs the hash of that nonce and one of its own. By default the node whose certificate
//! has the SHA-256 `F`, in unpadded URL-safe base64, becomes
//! `spiffe://trust-domain/spire/agent/sshpop/F`.
//!
//! | to find | look in |
//! |---|---|
//! | what an operator sets on the server | `config` |
//! | the messages | `wire` |
//! | SSH's own encoding | `encoding` |
//! | public keys, and what they signed | `key` |
//! | what a certificate says, and when it holds | `certificate` |
//! | the agent's name | `path` |
//! | the server's side | `verifier` |
//! | the node's side | `collector` |
//! | private keys | `signer` |

mod certificate;
mod collector;
mod config;
mod encoding;
mod key;
mod path;
mod signer;
mod verifier;
mod wire;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use certificate::HostCertificate;
pub use collector::{Collector, CollectorConfig, OpenCollectorError};
pub use config::{Config, ParseAuthorityError};
pub use signer::SignerError;
pub use verifier::{OpenError, Verifier};
pub use wire::{Challenge, Response};

/// The name of this kind of evidence on the wire.
pub const KIND: &str = "sshpop";
