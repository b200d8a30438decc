//! One-time PSKs: mint, find, redeem.
//!
//! | to find | look in |
//! |---|---|
//! | minting, and what is known of a PSK | here |
//! | finding one, and spending it | `redeem` |

mod redeem;

use std::sync::Arc;

use claviger_core::audit::Event;
use claviger_core::grant::{Grant, IssuePsk};
use claviger_core::once::State;
use claviger_core::psk::derive::PskBase;
use claviger_core::psk::identity::{Serial, WireIdentity};
use claviger_core::psk::{PskBinding, PskRecord, PskTtl};
use claviger_core::time::UnixTime;
use metrics::counter;

use super::{Ledger, LedgerError, random};
use crate::epoch::Epoch;
use crate::journal::{Change, CommitError, Require};
use crate::policy::Met;
use crate::store::{Space, StoreError, Write, json};

/// The name of one attempt of an acceptor to redeem a PSK: whoever repeats it gets the same answer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct AttemptId([u8; 16]);

impl AttemptId {
    /// The name with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

/// A PSK that was just minted.
#[derive(Debug)]
pub struct Minted {
    /// Its name on the wire.
    pub identity: WireIdentity,
    /// What its ends derive it from.
    pub base: PskBase,
    /// The last second at which it can be redeemed.
    pub not_after: UnixTime,
}

/// A PSK that exists. Whether it can still be redeemed is another question.
#[derive(Debug)]
pub struct Found {
    identity: WireIdentity,
    key: [u8; 16],
    epoch: Arc<Epoch>,
    /// The record as it lies in the store.
    stored: Vec<u8>,
    record: PskRecord,
}

impl Found {
    /// What it is bound to.
    #[must_use]
    pub const fn binding(&self) -> &PskBinding {
        &self.record.binding
    }
}

/// A PSK that was just redeemed, or whose redemption was repeated.
#[derive(Debug)]
pub struct Redeemed {
    /// What the acceptor derives it from.
    pub base: PskBase,
    /// What it is bound to.
    pub binding: PskBinding,
}

/// A PSK can't be redeemed. Whoever asked from outside learns nothing but that.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// No PSK of this epoch has this name; or it had, and has expired long ago.
    #[error("no such PSK")]
    Unknown,
    /// It has expired.
    #[error("the PSK has expired")]
    Expired,
    /// The permission is for another PSK.
    #[error("the permission to redeem is for another PSK")]
    OtherBinding,
    /// The binder was not made with its key.
    #[error("the binder was not made with this PSK")]
    WrongBinder,
    /// One of its ends was put in quarantine since it was issued.
    #[error("a quarantine has voided the PSK")]
    Voided,
    /// A later epoch of its series has begun.
    #[error("a later epoch of its series has voided the PSK")]
    Superseded,
    /// It was redeemed before, in another attempt.
    #[error("the PSK was redeemed before")]
    Replayed,
    /// A new epoch began meanwhile.
    #[error("the epoch of the PSK is over")]
    EpochOver,
    /// The ledger can't be read.
    #[error("cannot read the ledger")]
    Store(#[from] StoreError),
    /// The redemption can't be recorded.
    #[error("cannot record the redemption")]
    Commit(#[source] CommitError),
}

impl Refused {
    /// The reason, as a metric's label.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::OtherBinding => "other_binding",
            Self::WrongBinder => "wrong_binder",
            Self::Voided => "voided",
            Self::Superseded => "superseded",
            Self::Replayed => "replayed",
            Self::EpochOver => "epoch_over",
            Self::Store(_) | Self::Commit(_) => "unavailable",
        }
    }

    /// Whether the ledger could not decide, so that it makes sense to ask again.
    #[must_use]
    pub const fn is_unavailable(&self) -> bool {
        matches!(self, Self::Store(_) | Self::Commit(_))
    }
}

impl Ledger {
    /// Mints the PSK that `grant` permits, on the conditions that are `met`. It is recorded before it
    /// is derived.
    ///
    /// # Errors
    ///
    /// [`LedgerError`]; then there is no such PSK.
    pub async fn mint(&self, grant: Grant<IssuePsk>, met: Met) -> Result<Minted, LedgerError> {
        let mut minted = self.mint_all(vec![(grant, met)]).await?;
        #[expect(clippy::expect_used, reason = "there is one for each grant")]
        Ok(minted.pop().expect("one"))
    }

    /// The same of several, which are recorded together or not at all. If they are of a series, it is the
    /// same epoch of the same.
    ///
    /// # Errors
    ///
    /// [`LedgerError`]; then there is none of them.
    pub async fn mint_all(
        &self,
        wanted: Vec<(Grant<IssuePsk>, Met)>,
    ) -> Result<Vec<Minted>, LedgerError> {
        let epoch = self.0.epochs.current();
        let (grants, met): (Vec<_>, Vec<_>) = wanted.into_iter().unzip();
        let mut change = Change { require: vec![epoch.in_force()], ..Change::default() };
        let mut identities = Vec::with_capacity(grants.len());
        for grant in &grants {
            let serial = self.serial(&grant.act().binding)?;
            let identity = epoch.keys.seal(serial);
            change.join(self.entry(serial, identity, grant));
            identities.push(identity);
        }
        let unique = change.require.len();
        let step = match grants.first() {
            Some(grant) => self.step(&grant.act().binding).await?,
            None => None,
        };
        if let Some(step) = &step {
            change.join(step.change.clone());
        }
        let in_order = change.require.len();
        met.iter().for_each(|met| change.join(met.change()));

        let (ledger, count) = (self.clone(), grants.len());
        let record = async move {
            let recorded = ledger.0.journal.record(grants, change).await?;
            if let Some(step) = step {
                ledger.0.series.keep(step);
            }
            Ok(recorded)
        };
        let recorded = self.make((|ledger| &ledger.psks, count), record).await?;
        let recorded = recorded.map_err(|error| {
            met.iter().for_each(|met| met.heed(&error));
            match error {
                // 96 random bits do not collide: it is the epoch, then the series, then what the
                // conditions require.
                CommitError::Conflict { unmet } if unmet < unique => LedgerError::Fenced,
                CommitError::Conflict { unmet } if unmet < in_order => LedgerError::Overtaken,
                CommitError::Conflict { .. } => LedgerError::Unmet,
                error
                @ (CommitError::Overloaded | CommitError::Stopped | CommitError::Store(_)) => {
                    LedgerError::Commit(error)
                }
            }
        })?;

        met.into_iter().for_each(Met::keep);
        counter!("claviger_psk_issued_total").increment(count.try_into().unwrap_or(u64::MAX));
        let minted = recorded.into_iter().zip(identities).map(|(recorded, identity)| {
            let IssuePsk { binding, requester: _ } = recorded.into_inner().into_act();
            Minted { identity, base: epoch.keys.base(identity), not_after: binding.not_after }
        });
        Ok(minted.collect())
    }

    /// A serial for a PSK that is bound to `binding`.
    fn serial(&self, binding: &PskBinding) -> Result<Serial, LedgerError> {
        self.check_lifetime(binding.not_after, (*PskTtl::SECS.end()).into())?;
        Ok(Serial::new(binding.not_after, random()?))
    }

    /// What is written of one PSK that is minted.
    fn entry(&self, serial: Serial, identity: WireIdentity, grant: &Grant<IssuePsk>) -> Change {
        let binding = grant.act().binding.clone();
        let record = PskRecord {
            binding: binding.clone(),
            state: State::Unused,
            // If one end is in quarantine by then, the change that ends it voids the key.
            seen: self.0.standings.number(),
            void_reported: false,
        };
        let issued = Event::PskIssued {
            identity: identity.to_string(),
            binding,
            requester: grant.act().requester.clone(),
            policy: grant.policy(),
            decided: Some(Box::new(grant.decided().clone())),
        };
        Change {
            require: vec![Require::absent(Space::Psks, serial.to_key())],
            writes: vec![Write::put(Space::Psks, serial.to_key(), json(&record))],
            events: vec![issued],
        }
    }

    pub(super) fn check_lifetime(&self, end: UnixTime, longest: u64) -> Result<(), LedgerError> {
        let now = self.now();
        let left = end.since(now).as_secs();
        if end < now || left > longest {
            return Err(LedgerError::Lifetime { end, now, longest });
        }
        Ok(())
    }
}
