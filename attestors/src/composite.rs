//! Several kinds of evidence at once: all of them hold, for one key, or none does.
//!
//! Evidence of kind `composite` is JSON; what is binary is in it as base64 (RFC 4648 §4):
//!
//! ```json
//! {"evidence": [{"kind": "k8s_psat", "payload": "eyJj…"}, {"kind": "x509pop", "payload": "eyJj…"}]}
//! ```
//!
//! The parts stand in the order of their kinds, each kind once. A challenge for one of them comes as
//! `{"index": 1, "challenge": "…"}`, where the first part has index 0, and is answered with
//! `{"answer": "…"}`. What the parts are bound to is the [`Binding`] of the whole, whose kind is
//! `composite`: a part can't be taken out and used alone.
//!
//! | to find | look in |
//! |---|---|
//! | judging it | `verifier` |
//! | gathering it | `collector` |
//!
//! [`Binding`]: claviger_core::evidence::Binding

mod collector;
mod verifier;

pub use collector::Collector;
pub use verifier::{Config, Verifier};

use serde::{Deserialize, Serialize};

/// The name of this kind of evidence on the wire.
pub const KIND: &str = "composite";

/// The most parts.
pub const MAX_PARTS: usize = 8;

/// The evidence on the wire.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wire {
    pub(crate) evidence: Vec<WirePart>,
}

/// One part of it.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WirePart {
    pub(crate) kind: String,
    /// Base64. May be a secret.
    pub(crate) payload: String,
}

impl std::fmt::Debug for WirePart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WirePart({}, {} characters)", self.kind, self.payload.len())
    }
}

/// A challenge for one part.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireChallenge {
    pub(crate) index: usize,
    /// Base64.
    pub(crate) challenge: String,
}

/// The answer to it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireAnswer {
    /// Base64.
    pub(crate) answer: String,
}
