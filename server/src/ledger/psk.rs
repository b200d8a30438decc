//! One-time PSKs: mint, find, redeem.

use std::sync::Arc;

use claviger_core::audit::Event;
use claviger_core::grant::{Grant, IssuePsk, PskProof, RedeemPsk};
use claviger_core::once::{Answer, Claim, State};
use claviger_core::psk::derive::{Psk, PskBase};
use claviger_core::psk::identity::{Serial, WireIdentity};
use claviger_core::psk::{PskBinding, PskRecord, PskTtl, binder};
use claviger_core::time::UnixTime;
use metrics::counter;

use super::{Ledger, LedgerError, random};
use crate::epoch::Epoch;
use crate::journal::{Change, CommitError, Require};
use crate::policy::Met;
use crate::standings::Standings;
use crate::store::{Space, StoreError, Write, json, parse};

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
        let binding = grant.act().binding.clone();
        let not_after = binding.not_after;
        self.check_lifetime(not_after, (*PskTtl::SECS.end()).into())?;

        let epoch = self.0.epochs.current();
        let serial = Serial::new(not_after, random()?);
        let identity = epoch.keys.seal(serial);
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
        let mut change = Change {
            require: vec![epoch.in_force(), Require::absent(Space::Psks, serial.to_key())],
            writes: vec![Write::put(Space::Psks, serial.to_key(), json(&record))],
            events: vec![issued],
        };
        change.join(met.change());
        let journal = self.0.journal.clone();
        let record = async move { journal.record(grant, change).await };
        let recorded = self.make(|ledger| &ledger.psks, record).await?;
        let recorded = recorded.inspect_err(|error| met.heed(error));
        let recorded = recorded.map_err(|error| match error {
            // 96 random bits do not collide: it is the epoch, or what the conditions require.
            CommitError::Conflict { unmet: 0 | 1 } => LedgerError::Fenced,
            CommitError::Conflict { .. } => LedgerError::Unmet,
            error @ (CommitError::Overloaded | CommitError::Stopped | CommitError::Store(_)) => {
                LedgerError::Commit(error)
            }
        })?;

        met.keep();
        counter!("claviger_psk_issued_total").increment(1);
        let IssuePsk { binding, requester: _ } = recorded.into_inner().into_act();
        Ok(Minted { identity, base: epoch.keys.base(identity), not_after: binding.not_after })
    }

    /// Looks up the PSK that a ClientHello names. Garbage is turned away without a look-up.
    ///
    /// # Errors
    ///
    /// [`Refused`] if there is no such PSK; call [`Self::refuse_dummy`] before answering.
    pub async fn find(&self, identity: WireIdentity) -> Result<Found, Refused> {
        let epoch = self.0.epochs.current();
        self.look_up(identity, epoch).await.inspect_err(count_refusal)
    }

    async fn look_up(&self, identity: WireIdentity, epoch: Arc<Epoch>) -> Result<Found, Refused> {
        let serial = epoch.keys.open(identity);
        if !serial.plausible(self.now()) {
            return Err(Refused::Unknown);
        }
        let key = serial.to_key();
        let stored = self.0.journal.store().get(Space::Psks, &key).await?;
        let stored = stored.ok_or(Refused::Unknown)?;
        let record = parse(&stored)?;
        Ok(Found { identity, key, epoch, stored, record })
    }

    /// Does the work of verifying a binder for a PSK that does not exist, so that refusing it takes
    /// as long as refusing one that does.
    pub fn refuse_dummy(&self, identity: WireIdentity, proof: &PskProof) {
        let base = self.0.epochs.current().keys.base(identity);
        let verified = proves(proof, &base.psk(&self.0.nobody));
        std::hint::black_box(verified);
    }

    /// Spends the PSK for `attempt`, durably, and then gives what the acceptor derives it from.
    ///
    /// A wrong binder spends nothing. The same attempt may be repeated and gets the same answer;
    /// any other is a replay. If one of its ends was put in quarantine since it was issued, it is void,
    /// even if the quarantine is over.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub async fn redeem(
        &self,
        found: Found,
        grant: Grant<RedeemPsk>,
        attempt: AttemptId,
    ) -> Result<Redeemed, Refused> {
        let redeemed = self.spend_psk(found, grant, attempt).await;
        redeemed.inspect_err(count_refusal)
    }

    async fn spend_psk(
        &self,
        mut found: Found,
        grant: Grant<RedeemPsk>,
        attempt: AttemptId,
    ) -> Result<Redeemed, Refused> {
        let act = grant.act();
        let base = found.epoch.keys.base(found.identity);
        let proved = proves(&act.proof, &base.psk(found.binding()));
        if act.binding != *found.binding() {
            return Err(Refused::OtherBinding);
        }
        if !proved {
            return Err(Refused::WrongBinder);
        }
        let claim = claim(&found, &act.proof, attempt);
        // Each round either ends, or finds a record that has moved on, which it does three times at most,
        // or an identity that stands otherwise.
        loop {
            if found.binding().not_after < self.now() {
                return Err(Refused::Expired);
            }
            match self.present(&found, &grant, claim).await {
                Ok(()) => break,
                Err(Overtaken::Change) => {
                    found = self.look_up(found.identity, found.epoch).await?;
                }
                Err(Overtaken::Standing { seen }) => self.0.standings.newer_than(seen).await,
                Err(Overtaken::Replay) => return Err(Refused::Replayed),
                Err(Overtaken::Void) => return Err(Refused::Voided),
                Err(Overtaken::Epoch) => return Err(Refused::EpochOver),
                Err(Overtaken::Failure(error)) => return Err(Refused::Commit(error)),
            }
        }
        counter!("claviger_psk_redeemed_total").increment(1);
        Ok(Redeemed { base, binding: found.record.binding })
    }

    /// Decides about `claim`, and writes down what follows.
    async fn present(
        &self,
        found: &Found,
        grant: &Grant<RedeemPsk>,
        claim: Claim,
    ) -> Result<(), Overtaken> {
        // Looked at before the ends are, and still the newest when the key is spent.
        let seen = self.0.standings.number();
        let record = &found.record;
        match record.state.present(claim) {
            Answer::First(_) | Answer::Repeat if self.is_void(record) => {
                if !record.void_reported {
                    let reported = PskRecord { void_reported: true, ..record.clone() };
                    self.advance(found, &reported, seen, voided(found, grant)).await?;
                }
                Err(Overtaken::Void)
            }
            Answer::First(state) => {
                let spent = PskRecord { state, ..record.clone() };
                self.advance(found, &spent, seen, redeemed(found, grant)).await
            }
            Answer::Repeat => self.still_in_force(found),
            Answer::Replay(Some(state)) => {
                let alarmed = PskRecord { state, ..record.clone() };
                let alarm = replayed(found, grant);
                self.advance(found, &alarmed, seen, alarm).await.and(Err(Overtaken::Replay))
            }
            Answer::Replay(None) => Err(Overtaken::Replay),
        }
    }

    /// Whether a quarantine of one of its ends began or ended since it was minted.
    fn is_void(&self, record: &PskRecord) -> bool {
        let PskBinding { client, server, .. } = &record.binding;
        [client, server].iter().any(|end| self.0.standings.is_void(end, record.seen))
    }

    /// Moves on to `record`, unless something happened to it, to its epoch, or to how identities stand
    /// after change number `seen`.
    async fn advance(
        &self,
        found: &Found,
        record: &PskRecord,
        seen: u64,
        event: Event,
    ) -> Result<(), Overtaken> {
        let change = Change {
            require: vec![
                found.epoch.in_force(),
                Standings::require(seen),
                Require::value(Space::Psks, found.key, found.stored.as_slice()),
            ],
            writes: vec![Write::put(Space::Psks, found.key, json(record))],
            events: vec![event],
        };
        match self.0.journal.commit(change).await {
            Ok(_head) => Ok(()),
            Err(CommitError::Conflict { unmet: 0 }) => Err(Overtaken::Epoch),
            Err(CommitError::Conflict { unmet: 1 }) => Err(Overtaken::Standing { seen }),
            Err(CommitError::Conflict { .. }) => Err(Overtaken::Change),
            Err(error) => Err(Overtaken::Failure(error)),
        }
    }

    fn still_in_force(&self, found: &Found) -> Result<(), Overtaken> {
        let current = self.0.epochs.current().number;
        if current == found.epoch.number { Ok(()) } else { Err(Overtaken::Epoch) }
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

/// Why a record did not move on.
#[derive(Debug)]
enum Overtaken {
    /// It has moved on by itself: look again.
    Change,
    /// Some identity stands otherwise than after change number `seen`: look again.
    Standing { seen: u64 },
    /// A quarantine has voided it.
    Void,
    /// It is spent, by somebody else.
    Replay,
    /// Its epoch is over.
    Epoch,
    /// The journal failed.
    Failure(CommitError),
}

fn proves(proof: &PskProof, psk: &Psk) -> bool {
    match proof {
        PskProof::Binder { transcript, binder } => binder::verify(psk, transcript, binder),
        PskProof::IdentityOnly => true,
    }
}

/// What has to be the same for a repetition to be one.
fn claim(found: &Found, proof: &PskProof, attempt: AttemptId) -> Claim {
    let server = found.binding().server.to_string();
    let identity = found.identity;
    let mut parts = vec![&attempt.0[..], server.as_bytes(), identity.as_bytes()];
    if let PskProof::Binder { transcript, binder } = proof {
        parts.extend([&transcript[..], &binder[..]]);
    }
    Claim::new("claviger redeem v1", &parts)
}

fn redeemed(found: &Found, grant: &Grant<RedeemPsk>) -> Event {
    Event::PskRedeemed {
        identity: found.identity.to_string(),
        binding: found.binding().clone(),
        binder_verified: matches!(grant.act().proof, PskProof::Binder { .. }),
        requester: grant.act().requester.clone(),
        policy: grant.policy(),
        decided: Some(Box::new(grant.decided().clone())),
    }
}

fn replayed(found: &Found, grant: &Grant<RedeemPsk>) -> Event {
    Event::PskReplayed {
        identity: found.identity.to_string(),
        binding: found.binding().clone(),
        requester: grant.act().requester.clone(),
    }
}

fn voided(found: &Found, grant: &Grant<RedeemPsk>) -> Event {
    Event::PskVoided {
        identity: found.identity.to_string(),
        binding: found.binding().clone(),
        requester: grant.act().requester.clone(),
    }
}

fn count_refusal(refused: &Refused) {
    counter!("claviger_psk_refused_total", "reason" => refused.reason()).increment(1);
    if matches!(refused, Refused::Replayed) {
        counter!("claviger_psk_replayed_total").increment(1);
    }
}
