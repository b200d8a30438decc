//! Azure: a virtual machine shows a document that its metadata service signed for this occasion.
//!
//! The conversation is that of SPIRE's attestor of the same name. The node's first message says
//! nothing; the server sends a nonce; the node answers with the attested document that the metadata
//! service makes for that nonce:
//!
//! ```json
//! {"document": {"encoding": "pkcs7", "signature": "MIIM…"}, "metadata": {"agentDomain": "…"}}
//! ```
//!
//! The signer is a machine of Azure's, with a certificate as web servers have it: for a name such as
//! `eastus.metadata.azure.com`. The document says which subscription the machine belongs to, but not
//! which tenant; that is for the operator to say. Nothing is asked of Azure, and `metadata`, which
//! nobody has signed, is not looked at.
//!
//! | to find | look in |
//! |---|---|
//! | what an operator sets on the server | `config` |
//! | the messages | `wire` |
//! | whose signature counts | `signer`, `roots.pem` |
//! | what the document says | `attested` |
//! | judging | `verifier` |
//! | gathering | `collector` |

mod attested;
mod collector;
mod config;
mod signer;
mod verifier;
mod wire;

pub use attested::Attested;
pub use collector::{Collector, CollectorConfig, OpenCollectorError};
pub use config::Config;
pub use signer::OpenError;
pub use verifier::Verifier;
pub use wire::Answer;

/// The name of this kind of evidence on the wire.
pub const KIND: &str = "azure_imds";

#[cfg(test)]
mod tests;
