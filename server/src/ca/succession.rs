//! The authorities of one profile, following each other.
//!
//! Whatever changes is first written, together with its audit record, and then takes effect: a
//! crash in between leaves a key file that nobody uses, and nothing else.

use std::fmt::Debug;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use claviger_core::audit::Event;
use claviger_core::bundle::Bundle;
use claviger_core::svid::{Profile, Validity};
use claviger_core::time::UnixTime;
use metrics::gauge;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tracing::info;

use super::keys::{AuthorityKey, KeyFolder};
use super::rotation::RotationError;
use super::slots::{Slot, Slots, State, Step};
use super::x509::SignError;
use crate::journal::{Change, Journal};
use crate::metrics as names;
use crate::store::{Order, Space, Write};

/// What sets the authorities of one profile apart from another's.
pub(super) trait Craft: Debug + Send + Sync + 'static {
    /// What an authority shows of itself.
    type Public: Clone + Debug + DeserializeOwned + Send + Serialize + Sync;
    /// An authority at work.
    type Signer: Debug + Send + Sync;

    /// What they sign.
    fn profile(&self) -> Profile;

    /// What the authority that has `key` shows of itself.
    fn public(&self, key: &AuthorityKey, validity: Validity) -> Result<Self::Public, SignError>;

    /// The authority in `slot` at work.
    fn signer(
        &self,
        key: AuthorityKey,
        slot: &Slot<Self::Public>,
    ) -> Result<Self::Signer, SignError>;

    /// Puts the authorities into their place in the bundle.
    fn publish(&self, slots: &[Slot<Self::Public>], bundle: &mut Bundle);

    /// Whether an authority that does not sign SVIDs any more is still needed, to revoke some.
    fn revokes(&self) -> bool {
        false
    }
}

/// The authorities of one profile.
#[derive(Debug)]
pub(super) struct Succession<C: Craft> {
    workshop: Workshop<C>,
    slots: Slots<C::Public>,
    /// Those of other servers of the trust domain.
    others: Vec<Slots<C::Public>>,
    signer: Arc<ArcSwap<C::Signer>>,
}

impl<C: Craft> Succession<C> {
    /// Takes up the authorities that are stored, and makes what is missing at `now`, so that there
    /// is one that signs.
    pub(super) async fn open(workshop: Workshop<C>, now: UnixTime) -> Result<Self, RotationError> {
        let mut slots = workshop.stored().await?;
        while let Some(step) = slots.due(now) {
            slots = workshop.take(step, slots, now).await?;
        }
        let signer = Arc::new(ArcSwap::from_pointee(workshop.signer(&slots)?));
        let others = workshop.others().await?;
        let succession = Self { workshop, slots, others, signer };
        succession.tidy()?;
        Ok(succession)
    }

    /// Whoever signs, now and later.
    pub(super) fn signer(&self) -> Arc<ArcSwap<C::Signer>> {
        Arc::clone(&self.signer)
    }

    /// Puts the authorities into their place in the bundle, with those of other servers.
    pub(super) fn publish(&self, bundle: &mut Bundle) {
        let all = std::iter::once(&self.slots).chain(&self.others);
        let mut all: Vec<_> = all.flat_map(Slots::authorities).cloned().collect();
        if !self.others.is_empty() {
            // In the same order on every server.
            all.sort_by_key(|slot| (slot.validity.not_before, slot.id()));
        }
        self.workshop.craft.publish(&all, bundle);
    }

    /// Takes in what other servers have changed by `now`.
    pub(super) async fn look_around(&mut self, now: UnixTime) -> Result<(), RotationError> {
        let others = self.workshop.others().await?;
        // Nobody prunes what a server has left behind that is gone for good.
        self.others = others.into_iter().map(|slots| slots.without_expired(now)).collect();
        Ok(())
    }

    /// The number of this set of authorities; rises by one with every change to it.
    pub(super) fn sequence(&self) -> u64 {
        std::iter::once(&self.slots).chain(&self.others).map(Slots::sequence).sum()
    }

    /// When something is due again, at the latest.
    pub(super) fn next_due(&self) -> UnixTime {
        self.slots.next_due()
    }

    /// Does everything that is due at `now`, and publishes in `bundle` what changes: a new
    /// authority before it signs.
    pub(super) async fn advance(
        &mut self,
        now: UnixTime,
        bundle: &watch::Sender<Arc<Bundle>>,
    ) -> Result<(), RotationError> {
        while let Some(step) = self.slots.due(now) {
            let slots = self.workshop.take(step, self.slots.clone(), now).await?;
            self.slots = slots;
            match step {
                Step::Prepare | Step::Prune => {
                    bundle.send_modify(|bundle| {
                        let bundle = Arc::make_mut(bundle);
                        self.publish(bundle);
                        bundle.sequence = bundle.sequence.saturating_add(1);
                    });
                    self.tidy()?;
                }
                Step::Activate => {
                    self.signer.store(Arc::new(self.workshop.signer(&self.slots)?));
                    self.tidy()?;
                }
            }
        }
        if let Some(active) = self.slots.active() {
            let left = active.validity.not_after.since(now).as_secs_f64();
            let profile = self.workshop.craft.profile().name();
            gauge!(names::AUTHORITY_EXPIRES_IN_SECONDS, "profile" => profile).set(left);
        }
        Ok(())
    }

    /// Removes the keys that sign nothing any more.
    fn tidy(&self) -> Result<(), RotationError> {
        let revokes = self.workshop.craft.revokes();
        let needed = self.slots.authorities().iter();
        let needed = needed.filter(|slot| revokes || slot.state != State::Retired);
        Ok(self.workshop.keys.keep_only(&needed.map(Slot::id).collect::<Vec<_>>())?)
    }
}

/// What it takes to make authorities.
#[derive(Debug)]
pub(super) struct Workshop<C> {
    pub(super) craft: C,
    pub(super) keys: KeyFolder,
    /// How long each lasts.
    pub(super) ttl: Duration,
    pub(super) journal: Journal,
    /// What sets this server's apart from those of others, if there can be others.
    pub(super) name: Option<String>,
}

impl<C: Craft> Workshop<C> {
    async fn stored(&self) -> Result<Slots<C::Public>, RotationError> {
        match self.journal.store().get(Space::Authorities, &self.place()).await? {
            Some(json) => serde_json::from_slice(&json).map_err(RotationError::Damaged),
            None => Ok(Slots::default()),
        }
    }

    /// Where this server's slots are stored.
    fn place(&self) -> Vec<u8> {
        let place = place(self.craft.profile());
        match &self.name {
            Some(name) => [place, b"@", name.as_bytes()].concat(),
            None => place.to_vec(),
        }
    }

    /// The slots of other servers: those with a name, and those without from before there were several.
    async fn others(&self) -> Result<Vec<Slots<C::Public>>, RotationError> {
        if self.name.is_none() {
            return Ok(Vec::new());
        }
        let (own, place) = (self.place(), place(self.craft.profile()));
        let named = [place, b"@"].concat();
        let (from, to) = (Bound::Included(place.to_vec()), Bound::Excluded([place, b"A"].concat()));
        let store = self.journal.store();
        let found = store.scan(Space::Authorities, from, to, Order::Ascending, MAX_SERVERS).await?;
        let others = found
            .into_iter()
            .filter(|(key, _)| *key != own && (key.as_slice() == place || key.starts_with(&named)));
        let parse = |json: Vec<u8>| serde_json::from_slice(&json).map_err(RotationError::Damaged);
        others.map(|(_, json)| parse(json)).collect()
    }

    /// Does one step and writes it down.
    async fn take(
        &self,
        step: Step,
        slots: Slots<C::Public>,
        now: UnixTime,
    ) -> Result<Slots<C::Public>, RotationError> {
        let profile = self.craft.profile();
        let (slots, events) = match step {
            Step::Prune => (slots.without_expired(now), Vec::new()),
            Step::Prepare => {
                let slot = self.make(now)?;
                let (key, validity) = (slot.key, slot.validity);
                info!(%profile, %key, not_after = %validity.not_after, "authority prepared");
                let prepared = Event::AuthorityPrepared { profile, key, validity };
                (slots.with_prepared(slot), vec![prepared])
            }
            Step::Activate => {
                let slots = slots.with_activated();
                // Whose key is lost must not be written down as the one that signs.
                self.signer(&slots)?;
                let key = slots.active().ok_or(RotationError::NoAuthority)?.key;
                info!(%profile, %key, "authority activated");
                (slots, vec![Event::AuthorityActivated { profile, key }])
            }
        };
        let value = serde_json::to_vec(&slots).map_err(RotationError::Damaged)?;
        let write = Write::put(Space::Authorities, self.place(), value);
        self.journal.commit(Change { writes: vec![write], events, ..Change::default() }).await?;
        Ok(slots)
    }

    /// A new authority whose key is safe on disk.
    fn make(&self, now: UnixTime) -> Result<Slot<C::Public>, RotationError> {
        let (key, pkcs8) = AuthorityKey::generate(self.craft.profile())?;
        let validity = Validity::of_authority(now, self.ttl);
        let public = self.craft.public(&key, validity)?;
        let slot = Slot { key: key.digest(), public, validity, state: State::Prepared };
        self.keys.write(&slot.id(), &pkcs8)?;
        Ok(slot)
    }

    /// Who signs.
    fn signer(&self, slots: &Slots<C::Public>) -> Result<C::Signer, RotationError> {
        let active = slots.active().ok_or(RotationError::NoAuthority)?;
        let key = self.keys.read(&active.id())?;
        if key.digest() != active.key {
            return Err(RotationError::OtherKey(self.keys.path(&active.id())));
        }
        Ok(self.craft.signer(key, active)?)
    }
}

/// The most servers of a trust domain whose authorities are looked at, several times over.
const MAX_SERVERS: usize = 1_000;

/// Where the slots are stored. Those of certificates were the first.
const fn place(profile: Profile) -> &'static [u8] {
    match profile {
        Profile::X509 => b"slots",
        Profile::Jwt => b"slots/jwt",
        Profile::Wit => b"slots/wit",
    }
}
