//! Google Compute Engine: the identity token of a virtual machine.
//!
//! | to find | look in |
//! |---|---|
//! | judging a token | [`verifier`] |
//! | getting one from the metadata server | [`collector`] |
//!
//! The format is SPIRE's: the evidence is the token in its compact form, for the audience
//! `spire-gcp-node-attestor`, and the machine `I` of the project `P` becomes
//! `spiffe://trust-domain/spire/agent/gcp_iit/P/I`. Every process on the machine can get such a token,
//! so the first key that comes with one is believed and no other. Our collector binds it to the key
//! (see [`audience`](crate::jwks::audience)).

pub mod collector;
pub mod verifier;

pub use collector::{Collector, CollectorConfig};
pub use verifier::{Config, OpenError, Verifier};

/// The name of this kind of evidence on the wire, and of its selectors.
pub const KIND: &str = "gcp_iit";

/// For whom the tokens are, as with SPIRE.
pub const AUDIENCE: &str = "spire-gcp-node-attestor";
