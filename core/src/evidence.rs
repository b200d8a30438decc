//! What evidence is bound to, and what a verifier vouches for (RATS, RFC 9334: evidence and
//! attestation result).

mod appraisal;
pub mod ear;

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, SHA384, digest};
use serde::{Deserialize, Serialize};

use crate::bytes::Parts;
use crate::id::{SpiffeId, TrustDomain};
use crate::psk::Run;
use crate::selector::Selectors;
pub use appraisal::{Appraisal, Aspect, Tier, TrustClaim, TrustVector};

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

/// What evidence has to be bound to, so that nobody else can present it: the key that it is to earn
/// a certificate for, where, and by which kind of evidence.
///
/// ```text
/// B = SHA-384(LP("claviger/att/v1") LP(nonce) LP(trust domain) LP(server's SPIFFE ID) LP(kind)
///             SHA-384(SubjectPublicKeyInfo) LP(requested SPIFFE ID, or nothing))
/// ```
///
/// `LP` puts the length in two big-endian bytes before a part.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Binding {
    trust_domain: TrustDomain,
    kind: String,
    key: [u8; 48],
    requested: Option<SpiffeId>,
}

impl Binding {
    /// The binding of evidence of `kind` to the key whose DER SubjectPublicKeyInfo is `spki`, for a
    /// server of `trust_domain`.
    #[must_use]
    pub fn new(kind: &str, spki: &[u8], trust_domain: &TrustDomain) -> Self {
        let mut key = [0; 48];
        key.copy_from_slice(digest(&SHA384, spki).as_ref());
        let (trust_domain, kind) = (trust_domain.clone(), kind.to_owned());
        Self { trust_domain, kind, key, requested: None }
    }

    /// The same, for the identity `id` and no other.
    #[must_use]
    pub fn requesting(mut self, id: Option<SpiffeId>) -> Self {
        self.requested = id;
        self
    }

    /// The bytes that evidence with this binding carries. `nonce` is the verifier's; it is empty
    /// where there is one message only, whose freshness the evidence has to show otherwise.
    #[must_use]
    pub fn digest(&self, nonce: &[u8]) -> BindingDigest {
        let server = format!("{}/spire/server", self.trust_domain.id());
        let requested = self.requested.as_ref().map(ToString::to_string).unwrap_or_default();
        let bytes = Parts::new("claviger/att/v1")
            .part(nonce)
            .part(self.trust_domain.as_str().as_bytes())
            .part(server.as_bytes())
            .part(self.kind.as_bytes())
            .fixed(&self.key)
            .part(requested.as_bytes())
            .finish();
        let mut binding = [0; 48];
        binding.copy_from_slice(digest(&SHA384, &bytes).as_ref());
        BindingDigest(binding)
    }
}

/// The digest of a [`Binding`] and a nonce, called `B`.
#[derive(Clone, Copy)]
pub struct BindingDigest([u8; 48]);

impl BindingDigest {
    /// All 48 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 48] {
        &self.0
    }

    /// The SHA-256 of them, for evidence that has room for 32 bytes.
    #[must_use]
    pub fn short(&self) -> [u8; 32] {
        let mut short = [0; 32];
        short.copy_from_slice(digest(&SHA256, &self.0).as_ref());
        short
    }

    /// Whether evidence that carries `bytes`, all of `B` or the [`short`](Self::short) form of it,
    /// is bound.
    #[must_use]
    pub fn is(&self, bytes: &[u8]) -> bool {
        verify_slices_are_equal(&self.0, bytes).is_ok()
            || verify_slices_are_equal(&self.short(), bytes).is_ok()
    }
}

impl fmt::Debug for BindingDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BindingDigest({})", hex::encode(self.0))
    }
}

/// What keeps evidence from being presented by somebody else.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bond {
    /// It names the key that it earns a certificate for: see [`Binding`].
    Key,
    /// Nothing: whoever has it can present it, from anywhere and with a key of their own.
    Bearer,
}

impl Bond {
    /// Its name in policies and in the audit log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Bearer => "bearer",
        }
    }
}

/// A node whose evidence was verified. Only verifiers make one.
#[derive(Clone, Debug)]
#[must_use]
pub struct AttestedNode {
    /// The identity the node has earned.
    id: SpiffeId,
    /// The facts that were verified.
    selectors: Selectors,
    /// Whether the node can show its evidence again later.
    reattestable: bool,
    /// The run that the evidence was made for.
    run: Option<Run>,
    /// What goes on record.
    appraisal: Appraisal,
}

impl AttestedNode {
    /// Asserts that evidence of `kind` proved `selectors` and earned `id`, and what kept others from
    /// presenting it. Called by verifiers in the attestors crate only; the `tidy` test checks it.
    ///
    /// Evidence that a node can't show again (not `reattestable`) is believed once: another key with
    /// the same evidence is refused until the operator evicts the agent.
    pub fn assertion(
        kind: &str,
        id: SpiffeId,
        selectors: Selectors,
        reattestable: bool,
        bond: Bond,
    ) -> Self {
        let appraisal = Appraisal::new(kind, bond);
        Self { id, selectors, reattestable, run: None, appraisal }
    }

    /// Says by whose word the evidence was accepted.
    pub fn by(mut self, source: &str) -> Self {
        source.clone_into(&mut self.appraisal.source);
        self
    }

    /// Says how far the evidence makes the node to be trusted.
    pub const fn trusted(mut self, trust: TrustVector) -> Self {
        self.appraisal.trust = trust;
        self
    }

    /// Says what was measured, by name: see [`Appraisal::measured`].
    pub fn measured(mut self, measured: BTreeMap<String, String>) -> Self {
        self.appraisal.measured = measured;
        self
    }

    /// Says what the evidence consists of.
    pub fn of_parts(mut self, parts: Vec<Appraisal>) -> Self {
        self.appraisal.parts = parts;
        self
    }

    /// Says for which run of a program the evidence was made, if it says so.
    pub fn in_run(self, run: Option<Run>) -> Self {
        Self { run, ..self }
    }

    /// The kind of evidence.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.appraisal.kind
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

    /// The run that the evidence was made for, such as one attempt of a CI job. A one-time key that
    /// it earns works in that run only.
    #[must_use]
    pub const fn run(&self) -> Option<&Run> {
        self.run.as_ref()
    }

    /// What goes on record.
    #[must_use]
    pub const fn appraisal(&self) -> &Appraisal {
        &self.appraisal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding() -> Binding {
        Binding::new("x509pop", b"a key", &"example.org".parse().unwrap())
    }

    #[test]
    fn everything_in_a_binding_matters() {
        let id = "spiffe://example.org/web".parse().unwrap();
        let domain = "example.com".parse().unwrap();
        let digest = binding().digest(b"nonce");
        let others = [
            binding().digest(b"other"),
            binding().requesting(Some(id)).digest(b"nonce"),
            Binding::new("sshpop", b"a key", &"example.org".parse().unwrap()).digest(b"nonce"),
            Binding::new("x509pop", b"other", &"example.org".parse().unwrap()).digest(b"nonce"),
            Binding::new("x509pop", b"a key", &domain).digest(b"nonce"),
        ];
        assert!(digest.is(digest.as_bytes()) && digest.is(&digest.short()));
        for other in others {
            assert!(!digest.is(other.as_bytes()) && !digest.is(&other.short()), "{other:?}");
        }
        assert!(!digest.is(b"") && !digest.is(&digest.as_bytes()[..47]));
    }

    /// Computed with Python's `hashlib` from the layout in the documentation of [`Binding`].
    #[test]
    fn the_layout_of_a_binding_is_pinned() {
        assert_eq!(
            hex::encode(binding().digest(b"nonce").as_bytes()),
            "4ad0c5ccca7266d4bcee1c4fc69a44a44e25a790db4120be\
             dce19575f011a1a8a281e5ad87ab5ab8dbe39da8f03d8bfc"
        );
    }
}
