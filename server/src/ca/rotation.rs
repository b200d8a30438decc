//! Making, publishing and replacing authorities as time goes by.
//!
//! One task owns the slots. Whatever changes is first written, together with its audit record, and
//! then takes effect: a crash in between leaves a key file that nobody uses, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use claviger_core::audit::Event;
use claviger_core::bundle::{Bundle, X509Authority};
use claviger_core::evidence::KeyDigest;
use claviger_core::id::TrustDomain;
use claviger_core::svid::Validity;
use claviger_core::time::{Clock, UnixTime};
use metrics::gauge;
use rcgen::PublicKeyData;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::Authority;
use super::keys::{AuthorityKey, KeyFileError, KeyFolder};
use super::slots::{Slot, Slots, State, Step};
use super::x509::{Issuer, SignError, self_signed};
use crate::config::CaConfig;
use crate::journal::{Change, CommitError, Journal};
use crate::metrics as names;
use crate::store::{Space, StoreError, Write};

/// Where the slots are stored.
const KEY: &[u8] = b"slots";

/// The longest sleep: a clock that was set forward is noticed this late at most.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// How long SVIDs' holders may go without asking for the bundle (SPIFFE bundle §4.1.2). Our agents
/// are told of changes at once; this is for everyone else.
const REFRESH_HINT: Duration = Duration::from_secs(300);

/// Keeps the trust domain supplied with authorities.
#[derive(Debug)]
pub struct Rotation {
    workshop: Workshop,
    clock: Arc<dyn Clock>,
    journal: Journal,
    slots: Slots,
    issuer: Arc<ArcSwap<Issuer>>,
    bundle: watch::Sender<Arc<Bundle>>,
}

impl Rotation {
    /// Takes up the authorities that are stored, and makes what is missing, so that there is one
    /// that signs.
    ///
    /// # Errors
    ///
    /// [`RotationError`] if the store, a key file or the clock stands in the way.
    pub async fn open(
        trust_domain: TrustDomain,
        keys: KeyFolder,
        config: CaConfig,
        journal: Journal,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Authority), RotationError> {
        let mut slots = match journal.store().get(Space::Authorities, KEY).await? {
            Some(json) => serde_json::from_slice(&json).map_err(RotationError::Damaged)?,
            None => Slots::default(),
        };
        let workshop = Workshop { trust_domain, config, keys };
        let now = clock.now();
        while let Some(step) = slots.due(now) {
            slots = workshop.take(step, slots, now, &journal).await?;
        }
        let issuer = Arc::new(ArcSwap::from_pointee(workshop.issuer(&slots)?));
        let (bundle, receiver) = watch::channel(Arc::new(workshop.bundle(&slots)));
        let authority = Authority { issuer: Arc::clone(&issuer), bundle: receiver };
        let rotation = Self { workshop, clock, journal, slots, issuer, bundle };
        rotation.tidy()?;
        Ok((rotation, authority))
    }

    /// Does what is due, for as long as the server runs.
    ///
    /// # Errors
    ///
    /// None so far: what fails is tried again a minute later, and said in the log.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        loop {
            if let Err(error) = self.advance().await {
                let error = claviger_runtime::telemetry::Chain(&error);
                error!(%error, "cannot rotate the signing authority; trying again in a minute");
            }
            let sleep = self.slots.next_due().since(self.clock.now()).min(LONGEST_SLEEP);
            let sleep = tokio::time::sleep(sleep.max(Duration::from_secs(1)));
            if stop.run_until_cancelled(sleep).await.is_none() {
                return Ok(());
            }
        }
    }

    /// Does everything that is due now.
    async fn advance(&mut self) -> Result<(), RotationError> {
        let now = self.clock.now();
        while let Some(step) = self.slots.due(now) {
            let slots = self.slots.clone();
            self.slots = self.workshop.take(step, slots, now, &self.journal).await?;
            match step {
                Step::Prepare | Step::Prune => {
                    self.bundle.send_replace(Arc::new(self.workshop.bundle(&self.slots)));
                }
                Step::Activate => {
                    self.issuer.store(Arc::new(self.workshop.issuer(&self.slots)?));
                    self.tidy()?;
                }
            }
        }
        if let Some(active) = self.slots.active() {
            let left = active.validity.not_after.since(now);
            gauge!(names::AUTHORITY_EXPIRES_IN_SECONDS).set(left.as_secs_f64());
        }
        Ok(())
    }

    /// Removes the keys that sign nothing any more.
    fn tidy(&self) -> Result<(), RotationError> {
        let needed = self.slots.authorities().iter().filter(|slot| slot.state != State::Retired);
        Ok(self.workshop.keys.keep_only(&needed.map(Slot::id).collect::<Vec<_>>())?)
    }
}

/// What it takes to make authorities.
#[derive(Debug)]
struct Workshop {
    trust_domain: TrustDomain,
    config: CaConfig,
    keys: KeyFolder,
}

impl Workshop {
    /// Does one step and writes it down.
    async fn take(
        &self,
        step: Step,
        slots: Slots,
        now: UnixTime,
        journal: &Journal,
    ) -> Result<Slots, RotationError> {
        let (slots, events) = match step {
            Step::Prune => (slots.without_expired(now), Vec::new()),
            Step::Prepare => {
                let slot = self.make(now)?;
                let (key, validity) = (slot.key, slot.validity);
                info!(%key, not_after = %validity.not_after, "signing authority prepared");
                (slots.with_prepared(slot), vec![Event::AuthorityPrepared { key, validity }])
            }
            Step::Activate => {
                let slots = slots.with_activated();
                let key = slots.active().ok_or(RotationError::NoAuthority)?.key;
                info!(%key, "signing authority activated");
                (slots, vec![Event::AuthorityActivated { key }])
            }
        };
        let value = serde_json::to_vec(&slots).map_err(RotationError::Damaged)?;
        let write = Write::Put { space: Space::Authorities, key: KEY.to_vec(), value };
        journal.commit(Change { require: Vec::new(), writes: vec![write], events }).await?;
        Ok(slots)
    }

    /// A new authority whose key is safe on disk.
    fn make(&self, now: UnixTime) -> Result<Slot, RotationError> {
        let (key, pkcs8) = AuthorityKey::generate()?;
        let validity = Validity::of_authority(now, self.config.ttl);
        let certificate = self_signed(&key, &self.trust_domain, validity, &self.config)?;
        let digest = KeyDigest::of_spki(&key.subject_public_key_info());
        let slot = Slot { key: digest, certificate, validity, state: State::Prepared };
        self.keys.write(&slot.id(), &pkcs8)?;
        Ok(slot)
    }

    /// Who signs.
    fn issuer(&self, slots: &Slots) -> Result<Issuer, RotationError> {
        let active = slots.active().ok_or(RotationError::NoAuthority)?;
        let key = self.keys.read(&active.id())?;
        if KeyDigest::of_spki(&key.subject_public_key_info()) != active.key {
            return Err(RotationError::OtherKey { id: active.id() });
        }
        Ok(Issuer::new(key, &active.certificate, active.validity, self.config.clone())?)
    }

    fn bundle(&self, slots: &Slots) -> Bundle {
        let authority =
            |slot: &Slot| X509Authority { der: slot.certificate.to_vec().into(), tainted: false };
        Bundle {
            x509_authorities: slots.authorities().iter().map(authority).collect(),
            sequence: slots.sequence(),
            refresh_hint: Some(REFRESH_HINT),
            ..Bundle::empty(self.trust_domain.clone())
        }
    }
}

/// Why there is no authority to sign with.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// A key file is the matter.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// A key file holds another key than the store says.
    #[error("key file `x509-{id}.key` holds another authority's key; restore it from a backup")]
    OtherKey {
        /// Its name.
        id: String,
    },
    /// A certificate cannot be made.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// What is stored cannot be read.
    #[error("the stored signing authorities are damaged")]
    Damaged(#[source] serde_json::Error),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A step cannot be written down.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Nobody signs, which the schedule does not allow.
    #[error("there is no active signing authority")]
    NoAuthority,
}

#[cfg(test)]
mod tests;
