//! From evidence to the entry that it earns.

use async_trait::async_trait;
use aws_lc_rs::rand;
use claviger_attestors::{Challenged, NoConversation, NodeClaim, Nonce, VerifyError, join_token};
use claviger_core::audit::Event;
use claviger_core::entry::Entry;
use claviger_core::evidence::{Appraisal, AttestedNode, Binding, BindingDigest, Bond, KeyDigest};
use claviger_core::grant::Requester;
use claviger_core::id::SpiffeId;
use tracing::debug;

use super::Inner;
use super::call::{Call, Evidence};
use super::challenge;
use super::refusal::Refusal;
use crate::journal::Change;

/// What evidence is presented for.
pub(super) struct Purpose<'a> {
    /// The key that a certificate is wanted for or a secret is to be sealed to, as DER
    /// SubjectPublicKeyInfo. Its possession was proved, or will be by opening the secret.
    pub(super) spki: Option<&'a [u8]>,
    /// Whether a secret is to be sealed to it.
    pub(super) sealed: bool,
    /// The identity that is wanted, if it was named.
    pub(super) requested: Option<&'a SpiffeId>,
}

/// Whoever calls, and what they are entitled to.
pub(super) struct Attested {
    node: AttestedNode,
    binding: BindingDigest,
    /// The entry that gives the identity.
    pub(super) entry: Entry,
}

impl Inner {
    /// Verifies `evidence`, and finds the entry that it earns.
    pub(super) async fn attest(
        &self,
        evidence: &Evidence,
        purpose: Purpose<'_>,
        call: &Call,
    ) -> Result<Attested, Refusal> {
        let (node, binding) = self.verify(evidence, &purpose, call).await?;
        if purpose.sealed && node.appraisal().bond != Bond::Key {
            return Err(Refusal::Unbound);
        }
        let entry = self.entry(&node, purpose.requested)?;
        Ok(Attested { node, binding, entry })
    }

    async fn verify(
        &self,
        evidence: &Evidence,
        purpose: &Purpose<'_>,
        call: &Call,
    ) -> Result<(AttestedNode, BindingDigest), Refusal> {
        let kind = evidence.kind.as_str();
        let verifier = self.verifiers.find(kind).filter(|_| kind != join_token::KIND);
        let verifier = verifier.ok_or(Refusal::UnsupportedKind)?;
        let trust_domain = self.shared.registry.trust_domain();
        let nobody = nobody()?;
        let key = purpose.spki.unwrap_or(&nobody);
        let mut handed = match &evidence.challenge {
            None => None,
            Some(text) => {
                let nonce = challenge::redeem(&self.shared.storage.ledger, text).await?;
                Some(Handed { nonce, answer: Some(&evidence.payload) })
            }
        };
        let binding = Binding::new(kind, key, trust_domain).requesting(purpose.requested.cloned());
        let digest = binding.digest(handed.as_ref().map_or(&[], |handed| &handed.nonce));
        let claim = NodeClaim {
            // What answers a challenge comes when the verifier asks.
            evidence: if handed.is_some() { b"{}" } else { &evidence.payload },
            key: &KeyDigest::of_spki(key),
            binding: &binding,
            trust_domain,
            caller: call.caller,
            now: self.shared.now(),
        };
        let node = match &mut handed {
            Some(handed) => verifier.verify(claim, handed).await?,
            None => verifier.verify(claim, &mut NoConversation).await?,
        };
        // What is believed once only is believed of an agent, which is remembered. Here nobody is.
        if !node.reattestable() || includes(node.appraisal(), join_token::KIND) {
            return Err(Refusal::OnceOnly);
        }
        Ok((node, digest))
    }

    /// The entry that gives the identity that is `requested`, or the only one. Of several for the
    /// same identity, it is the one that asks for most.
    fn entry(&self, node: &AttestedNode, requested: Option<&SpiffeId>) -> Result<Entry, Refusal> {
        let mut earned = self.shared.registry.earned(node.selectors());
        earned.retain(|entry| {
            requested.is_none_or(|id| entry.spiffe_id == *id)
                && !(entry.admin || entry.downstream || entry.spiffe_id.is_reserved())
        });
        earned.sort_by_key(|entry| entry.selectors.len());
        let Some(entry) = earned.pop() else {
            debug!(id = %node.id(), selectors = ?node.selectors(), "no entry for this evidence");
            return Err(Refusal::NotEntitled(node.id().clone()));
        };
        if earned.iter().any(|other| other.spiffe_id != entry.spiffe_id) {
            return Err(Refusal::Ambiguous);
        }
        Ok(entry)
    }

    /// Writes down what was verified. What it earns is recorded by itself, and no sooner.
    pub(super) async fn record(&self, attested: &Attested) -> Result<(), Refusal> {
        let node = &attested.node;
        let event = Event::DirectlyAttested {
            id: node.id().clone(),
            selectors: node.selectors().clone(),
            appraisal: node.appraisal().clone(),
        };
        let change = Change { events: vec![event], ..Change::default() };
        self.shared.storage.journal.commit(change).await.map_err(Refusal::Record)?;
        Ok(())
    }
}

impl Attested {
    /// On whose word something is issued.
    pub(super) fn requester(&self) -> Requester {
        let appraisal = self.node.appraisal();
        Requester::Evidence {
            id: self.node.id().clone(),
            kind: appraisal.kind.clone(),
            bond: appraisal.bond,
            tier: appraisal.tier(),
        }
    }

    /// What the evidence is bound to, if it is: with the nonce of the challenge, or with none.
    pub(super) const fn binding(&self) -> &BindingDigest {
        &self.binding
    }

    /// What was verified.
    pub(super) const fn node(&self) -> &AttestedNode {
        &self.node
    }
}

/// A program that was handed its nonce before, and sends the one answer to it with the request.
struct Handed<'a> {
    nonce: Nonce,
    answer: Option<&'a [u8]>,
}

#[async_trait]
impl Challenged for Handed<'_> {
    fn nonce(&mut self) -> Result<Nonce, VerifyError> {
        Ok(self.nonce)
    }

    async fn answer(&mut self, _challenge: Vec<u8>) -> Result<Vec<u8>, VerifyError> {
        self.answer.take().map(<[u8]>::to_vec).ok_or(VerifyError::Silent)
    }
}

/// In place of a key, where no certificate is wanted. Nobody can bind evidence to it, and nobody
/// presents evidence twice with the same.
fn nobody() -> Result<[u8; 32], Refusal> {
    let mut random = [0; 32];
    rand::fill(&mut random).map_err(|_unspecified| Refusal::Random)?;
    Ok(random)
}

fn includes(appraisal: &Appraisal, kind: &str) -> bool {
    appraisal.kind == kind || appraisal.parts.iter().any(|part| includes(part, kind))
}
