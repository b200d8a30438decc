//! What a verifier vouches for (RATS, RFC 9334: the attestation result).

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::id::SpiffeId;
use crate::selector::Selectors;

/// The SHA-256 of a public key in SubjectPublicKeyInfo form: names a key without carrying it.
#[derive(Clone, Copy, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct KeyDigest(#[serde(with = "hex::serde")] [u8; 32]);

impl KeyDigest {
    /// The digest of the DER-encoded `spki`.
    #[must_use]
    pub fn of_spki(spki: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, spki).as_ref());
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyDigest({self})")
    }
}

/// A node whose evidence was verified. Only verifiers make one.
#[derive(Clone, Debug)]
#[must_use]
pub struct AttestedNode {
    /// The kind of evidence, such as `join_token`.
    kind: &'static str,
    /// The identity the node has earned.
    id: SpiffeId,
    /// The facts that were verified.
    selectors: Selectors,
    /// Whether the node can show its evidence again later.
    reattestable: bool,
}

impl AttestedNode {
    /// Asserts that evidence of `kind` proved `selectors` and earned `id`. Called by verifiers in
    /// the attestors crate only; the `tidy` test checks it.
    pub const fn assertion(
        kind: &'static str,
        id: SpiffeId,
        selectors: Selectors,
        reattestable: bool,
    ) -> Self {
        Self { kind, id, selectors, reattestable }
    }

    /// The kind of evidence.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        self.kind
    }

    /// The identity the node has earned.
    #[must_use]
    pub const fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The facts that were verified.
    #[must_use]
    pub const fn selectors(&self) -> &Selectors {
        &self.selectors
    }

    /// Whether the node can show its evidence again later.
    #[must_use]
    pub const fn reattestable(&self) -> bool {
        self.reattestable
    }
}
