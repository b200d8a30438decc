//! Intel SGX: an enclave shows what the processor measured of it.
//!
//! The node's enclave has a quote made that carries the verifier's nonce and the digest of the binding,
//! and becomes `spiffe://trust-domain/spire/agent/sgx/<platform>/<product>`.
//!
//! | to find | look in |
//! |---|---|
//! | what an operator sets on the server | `config` |
//! | what an enclave's report has to be | `rules` |
//! | the server's side | `verifier` |
//! | the node's side | `collector` |
//! | a quote in a file, for people | `inspection` |
//!
//! Whether a quote is genuine, and how good its platform is: [`dcap`](crate::dcap).

mod collector;
mod config;
mod inspection;
mod rules;
mod verifier;

#[cfg(test)]
mod tests;

pub use collector::{Collector, CollectorConfig, OpenCollectorError};
pub use config::{Config, Signed};
pub use inspection::inspect;
pub use rules::REGISTERS;
pub use verifier::Verifier;

/// The name of this kind of evidence on the wire.
pub const KIND: &str = "sgx";
