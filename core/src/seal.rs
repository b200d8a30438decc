//! What ties a sealed secret to whom it is for and to the evidence that earned it.
//!
//! A secret for an enclave that does not end TLS itself passes through the hands of its parent. It
//! is sealed by HPKE in base mode (RFC 9180) to the key that the evidence is bound to, with
//!
//! ```text
//! info = LP("claviger/seal/v1") LP(SPIFFE ID) B
//! aad  = SHA-384(evidence) LP(grant id)
//! ```
//!
//! `LP` puts the length in two big-endian bytes before a part; `B` is that of
//! [`Binding`](crate::evidence::Binding), 48 bytes. Both ends compute these from their own view, so
//! that any disagreement about the identity, the nonce, the key, the evidence or the answer does not
//! open.

use aws_lc_rs::digest::{SHA384, digest};

use crate::bytes::Parts;
use crate::evidence::BindingDigest;
use crate::id::SpiffeId;

/// For whom a secret is sealed, and for what.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The identity that was earned.
    pub id: &'a SpiffeId,
    /// What the evidence is bound to.
    pub binding: &'a BindingDigest,
    /// The evidence, as it was sent.
    pub evidence: &'a [u8],
    /// Names the answer.
    pub grant: &'a str,
}

impl Context<'_> {
    /// HPKE's `info`.
    #[must_use]
    pub fn info(&self) -> Vec<u8> {
        Parts::new("claviger/seal/v1")
            .part(self.id.to_string().as_bytes())
            .fixed(self.binding.as_bytes())
            .finish()
    }

    /// HPKE's `aad`.
    #[must_use]
    pub fn aad(&self) -> Vec<u8> {
        let mut evidence = [0; 48];
        evidence.copy_from_slice(digest(&SHA384, self.evidence).as_ref());
        Parts::default().fixed(&evidence).part(self.grant.as_bytes()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Binding;

    /// Computed with Python's `hashlib` by `tests/vectors/seal.py`.
    #[test]
    fn the_layout_is_pinned() {
        let vectors = include_str!("../../tests/vectors/seal.json");
        let vectors: serde_json::Value = serde_json::from_str(vectors).unwrap();
        let binding = Binding::new("aws_nitro", b"a key", &"example.org".parse().unwrap());
        let (id, binding) =
            ("spiffe://example.org/enclave".parse().unwrap(), binding.digest(&[7; 32]));
        let context = Context { id: &id, binding: &binding, evidence: b"evidence", grant: "g1" };
        assert_eq!(hex::encode(context.info()), vectors["info"]);
        assert_eq!(hex::encode(context.aad()), vectors["aad"]);
    }
}
