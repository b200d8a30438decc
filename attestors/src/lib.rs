//! How a node or a process proves what it is.
//!
//! One folder per kind of evidence, with both ends of it: the collector, which gathers the evidence
//! on the node, and the verifier, which judges it in the server.
//!
//! | kind | proves | look in |
//! |---|---|---|
//! | `join_token` | a node was handed a token that works once | [`join_token`] |
//! | `unix` | the user, groups and program of a local process | [`mod@unix`] |
//!
//! Attestors report facts, never decisions: what a fact entitles to is for entries and policies to
//! say. To add a kind: write its folder, and its page in `docs/attestors/`.

pub mod join_token;
pub mod unix;

use std::error::Error;
use std::fmt;

use async_trait::async_trait;
use claviger_core::evidence::{AttestedNode, KeyDigest};
use claviger_core::id::TrustDomain;
use claviger_core::time::UnixTime;

/// What a node presents to be admitted.
#[derive(Clone, Copy)]
pub struct NodeClaim<'a> {
    /// The evidence, in the format of its kind. May be a secret.
    pub evidence: &'a [u8],
    /// The key that the evidence is to earn a certificate for; its possession was proved.
    pub key: &'a KeyDigest,
    /// The trust domain that the node wants to join.
    pub trust_domain: &'a TrustDomain,
    /// The time at which the evidence is judged.
    pub now: UnixTime,
}

impl fmt::Debug for NodeClaim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeClaim")
            .field("evidence", &format_args!("({} bytes)", self.evidence.len()))
            .field("key", self.key)
            .field("trust_domain", self.trust_domain)
            .field("now", &self.now)
            .finish()
    }
}

/// Judges one kind of evidence.
///
/// An implementation treats the evidence as hostile: it bounds every length and never panics. It
/// reads time from [`NodeClaim::now`] only, and vouches for what it verified itself and for nothing
/// that it was merely told.
#[async_trait]
pub trait NodeVerifier: fmt::Debug + Send + Sync + 'static {
    /// The name that selects this verifier on the wire, such as `join_token`.
    fn kind(&self) -> &'static str;

    /// Judges the evidence of `claim`.
    ///
    /// # Errors
    ///
    /// [`VerifyError`] if it proves nothing, or if that can't be told right now.
    async fn verify(&self, claim: NodeClaim<'_>) -> Result<AttestedNode, VerifyError>;
}

/// Why evidence proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The bytes are not evidence of this kind.
    #[error("the evidence is malformed")]
    Malformed,
    /// The evidence is well formed and wrong: the node is not what it says.
    #[error("the evidence is not genuine: {0}")]
    NotGenuine(&'static str),
    /// Something that the verifier depends on did not answer. The node may try again.
    #[error("the evidence cannot be judged now")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
}
