//! A key's two deliveries, over the ledger: to whoever draws it, and once to the other end.

use aws_lc_rs::rand;
use claviger_core::grant::{PskProof, RedeemPsk, Requester};
use claviger_core::id::SpiffeId;
use claviger_core::psk::derive::PskBase;
use claviger_core::psk::identity::WireIdentity;
use claviger_core::psk::{KeyBits, PskBinding, PskTtl, Purpose};
use zeroize::Zeroizing;

use super::Inner;
use super::id::KeyId;
use super::refusal::Refusal;
use crate::api::psk::{Asked, Issued};
use crate::ledger::psk::{AttemptId, Found, Redeemed};

/// How long a key waits for the other end, and at most.
pub(super) const TTL_SECS: u32 = *PskTtl::SECS.end();

/// What is to be drawn.
#[derive(Debug)]
pub(super) struct Wish {
    /// With whom.
    pub(super) responder: SpiffeId,
    pub(super) purpose: Purpose,
    pub(super) ttl: Option<PskTtl>,
    pub(super) bits: KeyBits,
    pub(super) number: usize,
}

/// A key on its way to one of its ends.
pub(super) struct Key {
    pub(super) id: KeyId,
    pub(super) bytes: Zeroizing<Vec<u8>>,
}

impl Key {
    fn new(identity: WireIdentity, base: &PskBase, binding: &PskBinding) -> Option<Self> {
        let bytes = base.machine_key(binding, binding.bits?);
        Some(Self { id: identity.into(), bytes })
    }
}

impl Inner {
    /// Mints what `initiator` wishes for, all of it or nothing, and claims it for it.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; then there is no such key.
    pub(super) async fn draw(&self, initiator: &SpiffeId, wish: Wish) -> Result<Vec<Key>, Refusal> {
        self.check_registered(initiator)?;
        let longest = PskTtl::try_from(TTL_SECS).unwrap_or_default();
        let asked = Asked {
            client: initiator.clone(),
            server: wish.responder,
            purpose: wish.purpose,
            ttl: wish.ttl.unwrap_or(longest),
            run: None,
            series: None,
            bits: Some(wish.bits),
        };
        let requester = Requester::Peer(initiator.clone());
        let issued = self.issuer.issue_all(asked, wish.number, requester).await?;
        let keys = issued
            .iter()
            .map(|Issued { identity, base, binding }| Key::new(*identity, base, binding));
        keys.collect::<Option<_>>().ok_or(Refusal::NotFound)
    }

    /// Claims the keys called `ids`, which `initiator` has drawn with it, for `responder`: all of them or
    /// none.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; then none is spent.
    pub(super) async fn collect(
        &self,
        responder: &SpiffeId,
        initiator: &SpiffeId,
        ids: &[KeyId],
    ) -> Result<Vec<Key>, Refusal> {
        let shared = &self.issuer.shared;
        // An agent that is connected has shown how much of the log it remembers. Before that, this server
        // may be a restored disk that has forgotten to whom it gave a key.
        if shared.registry.awaits_witnesses() {
            return Err(Refusal::NoWitness);
        }
        self.check_registered(responder)?;
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            let one = shared.storage.ledger.find((*id).into()).await?;
            let act = self.redemption(&one, responder, initiator)?;
            let grant = shared.policy.redeem_psk(act)?;
            found.push((one, grant));
        }
        let mut attempt = [0; 16];
        // No attempt is repeated: who asks again was answered, and the answer was lost with the key.
        rand::fill(&mut attempt).map_err(|_unspecified| Refusal::NoRandom)?;
        let attempt = AttemptId::from_bytes(attempt);
        let redeemed = shared.storage.ledger.redeem_all(found, attempt).await?;
        let keys = ids
            .iter()
            .zip(&redeemed)
            .map(|(id, Redeemed { base, binding })| Key::new((*id).into(), base, binding));
        keys.collect::<Option<_>>().ok_or(Refusal::NotFound)
    }

    /// The act of collecting `found`, if it is one of these two.
    fn redemption(
        &self,
        found: &Found,
        responder: &SpiffeId,
        initiator: &SpiffeId,
    ) -> Result<RedeemPsk, Refusal> {
        let binding = found.binding().clone();
        if binding.bits.is_none() {
            return Err(Refusal::NotFound);
        }
        if binding.server != *responder {
            return Err(Refusal::OtherEnd);
        }
        if binding.client != *initiator {
            return Err(Refusal::NotFound);
        }
        self.check_registered(initiator)?;
        let requester = Requester::Peer(responder.clone());
        Ok(RedeemPsk { binding, requester, proof: PskProof::IdentityOnly })
    }

    pub(super) fn check_registered(&self, id: &SpiffeId) -> Result<(), Refusal> {
        if self.issuer.shared.registry.is_registered(id) {
            Ok(())
        } else {
            Err(Refusal::Unregistered(id.clone()))
        }
    }
}
