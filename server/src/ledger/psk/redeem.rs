//! Finding a PSK by its name, and spending it: once, and durably.
//!
//! Several that are presented together are spent together or not at all.

use std::num::NonZeroU64;
use std::sync::Arc;

use claviger_core::audit::Event;
use claviger_core::grant::{Grant, PskProof, RedeemPsk};
use claviger_core::once::{Answer, Claim};
use claviger_core::psk::derive::Psk;
use claviger_core::psk::identity::WireIdentity;
use claviger_core::psk::{PskBinding, PskRecord, binder};
use metrics::counter;

use super::super::Ledger;
use super::super::series::Newest;
use super::{AttemptId, Found, Redeemed, Refused};
use crate::epoch::{Epoch, LedgerTime};
use crate::journal::{Change, CommitError, Require};
use crate::standings::Standings;
use crate::store::{Space, StoreError, Write, json, meta, parse};

/// A PSK that is presented, by whom and how.
#[derive(Debug)]
struct Presented {
    found: Found,
    grant: Grant<RedeemPsk>,
    claim: Claim,
}

impl Ledger {
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
        let now = self.now();
        if !serial.plausible(now) {
            // As late as a clock that is corrected could bring it back.
            if serial.plausible(now.before(LedgerTime::TOLERANCE)) {
                self.remember_time().await?;
            }
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
    /// even if the quarantine is over; so it is if a later epoch of its series has begun before it was
    /// spent.
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
        let mut redeemed = self.redeem_all(vec![(found, grant)], attempt).await?;
        #[expect(clippy::expect_used, reason = "there is one for each that was found")]
        Ok(redeemed.pop().expect("one"))
    }

    /// The same of several: all are spent in one write, or none is.
    ///
    /// # Errors
    ///
    /// [`Refused`], for the first of them that is.
    pub async fn redeem_all(
        &self,
        found: Vec<(Found, Grant<RedeemPsk>)>,
        attempt: AttemptId,
    ) -> Result<Vec<Redeemed>, Refused> {
        let redeemed = self.spend_psks(found, attempt).await.inspect_err(count_refusal)?;
        let count = redeemed.len().try_into().unwrap_or(u64::MAX);
        counter!("claviger_psk_redeemed_total").increment(count);
        Ok(redeemed)
    }

    async fn spend_psks(
        &self,
        found: Vec<(Found, Grant<RedeemPsk>)>,
        attempt: AttemptId,
    ) -> Result<Vec<Redeemed>, Refused> {
        let mut presented = Vec::with_capacity(found.len());
        for (found, grant) in found {
            presented.push(prove(found, grant, attempt)?);
        }
        // Each round either ends, or finds a record that has moved on, which it does three times at most,
        // or a series or an identity that stands otherwise.
        loop {
            if presented.iter().any(|one| one.found.binding().not_after < self.now()) {
                self.remember_time().await?;
                return Err(Refused::Expired);
            }
            match self.present(&presented).await {
                Ok(()) => break,
                Err(Overtaken::Change) => {
                    for one in &mut presented {
                        let epoch = Arc::clone(&one.found.epoch);
                        one.found = self.look_up(one.found.identity, epoch).await?;
                    }
                }
                Err(Overtaken::Standing { seen }) => self.0.standings.newer_than(seen).await,
                Err(Overtaken::Refused(refused)) => return Err(refused),
            }
        }
        let redeemed = presented.into_iter().map(|Presented { found, .. }| Redeemed {
            base: found.epoch.keys.base(found.identity),
            binding: found.record.binding,
        });
        Ok(redeemed.collect())
    }

    /// Whoever is told that a key has expired finds it so for ever: the store remembers how late it is,
    /// should the server crash and the clock be set back. That is a write per second at most, whoever asks
    /// and however often.
    async fn remember_time(&self) -> Result<(), Refused> {
        let Some(now) = self.0.epochs.time().uncommitted(self.now()) else { return Ok(()) };
        // A new epoch may begin at an earlier time.
        let change = Change {
            require: vec![self.0.epochs.current().in_force()],
            writes: vec![Write::put(Space::Meta, meta::TIME, json(&now))],
            ..Change::default()
        };
        match self.0.journal.commit(change).await {
            Ok(_head) => Ok(()),
            Err(CommitError::Conflict { .. }) => Err(Refused::EpochOver),
            Err(error) => Err(Refused::Commit(error)),
        }
    }

    /// Decides about all of `presented`, and writes down what follows.
    async fn present(&self, presented: &[Presented]) -> Result<(), Overtaken> {
        // Looked at before the ends are, and still the newest when the keys are spent.
        let seen = self.0.standings.number();
        let mut steps = Vec::with_capacity(presented.len());
        for one in presented {
            steps.push(self.decide(one).await?);
        }
        let is_refused = steps.iter().any(|step| matches!(step, Step::Refuse(..)));

        let mut change = Change::default();
        let mut refused = None;
        for (one, step) in presented.iter().zip(steps) {
            match step {
                Step::Spend(entry, newest) if !is_refused => {
                    change.join(one.found.moved(&entry));
                    change.require.extend(newest);
                }
                Step::Spend(..) | Step::Repeat => {}
                Step::Refuse(why, entry) => {
                    change.join(entry.map(|entry| one.found.moved(&entry)).unwrap_or_default());
                    refused.get_or_insert(why);
                }
            }
        }
        if change.writes.is_empty() {
            self.still_in_force(presented)?;
        } else {
            self.advance(presented, change, seen).await?;
        }
        refused.map_or(Ok(()), |why| Err(Overtaken::Refused(why)))
    }

    /// Decides about one.
    async fn decide(&self, one: &Presented) -> Result<Step, Overtaken> {
        let Presented { found, grant, claim } = one;
        let record = &found.record;
        let reported = |newest| {
            let event = voided(found, grant, newest);
            let record = PskRecord { void_reported: true, ..record.clone() };
            (!found.record.void_reported).then_some(Entry { record, event })
        };
        Ok(match record.state.present(*claim) {
            Answer::First(_) | Answer::Repeat if self.is_void(record) => {
                Step::Refuse(Refused::Voided, reported(None))
            }
            Answer::First(state) => match self.newest(found.binding()).await? {
                Newest::Own(newest) => {
                    let record = PskRecord { state, ..record.clone() };
                    Step::Spend(Entry { record, event: redeemed(found, grant) }, newest)
                }
                Newest::Later(newest) => Step::Refuse(Refused::Superseded, reported(newest)),
            },
            Answer::Repeat => Step::Repeat,
            Answer::Replay(alarmed) => {
                let entry = alarmed.map(|state| Entry {
                    record: PskRecord { state, ..record.clone() },
                    event: replayed(found, grant),
                });
                Step::Refuse(Refused::Replayed, entry)
            }
        })
    }

    /// Whether a quarantine of one of its ends began or ended since it was minted.
    fn is_void(&self, record: &PskRecord) -> bool {
        let PskBinding { client, server, .. } = &record.binding;
        [client, server].iter().any(|end| self.0.standings.is_void(end, record.seen))
    }

    /// Makes `change` happen, unless something happened to a key, to its epoch, or to how identities stand
    /// after change number `seen`.
    async fn advance(
        &self,
        presented: &[Presented],
        change: Change,
        seen: u64,
    ) -> Result<(), Overtaken> {
        let mut require: Vec<_> = presented.iter().map(|one| one.found.epoch.in_force()).collect();
        require.dedup();
        let epochs = require.len();
        require.push(Standings::require(seen));
        let mut whole = Change { require, ..Change::default() };
        whole.join(change);
        match self.0.journal.commit(whole).await {
            Ok(_head) => Ok(()),
            Err(CommitError::Conflict { unmet }) if unmet < epochs => {
                Err(Overtaken::Refused(Refused::EpochOver))
            }
            Err(CommitError::Conflict { unmet }) if unmet == epochs => {
                Err(Overtaken::Standing { seen })
            }
            Err(CommitError::Conflict { .. }) => Err(Overtaken::Change),
            Err(error) => Err(Overtaken::Refused(Refused::Commit(error))),
        }
    }

    fn still_in_force(&self, presented: &[Presented]) -> Result<(), Overtaken> {
        let current = self.0.epochs.current().number;
        let over = presented.iter().any(|one| one.found.epoch.number != current);
        if over { Err(Overtaken::Refused(Refused::EpochOver)) } else { Ok(()) }
    }
}

/// What becomes of one key.
#[derive(Debug)]
enum Step {
    /// It is spent, if this holds of its series.
    Spend(Entry, Option<Require>),
    /// It was spent by the same claim.
    Repeat,
    /// It is not spent, and perhaps that is written down.
    Refuse(Refused, Option<Entry>),
}

/// What is written of one key.
#[derive(Debug)]
struct Entry {
    record: PskRecord,
    event: Event,
}

/// Why nothing was spent.
#[derive(Debug)]
enum Overtaken {
    /// A record has moved on by itself: look again.
    Change,
    /// Some identity stands otherwise than after change number `seen`: look again.
    Standing { seen: u64 },
    /// It cannot be.
    Refused(Refused),
}

impl From<StoreError> for Overtaken {
    fn from(error: StoreError) -> Self {
        Self::Refused(Refused::Store(error))
    }
}

impl Found {
    /// Its record becomes that of `entry`, if it is still what it was.
    fn moved(&self, entry: &Entry) -> Change {
        Change {
            require: vec![Require::value(Space::Psks, self.key, self.stored.as_slice())],
            writes: vec![Write::put(Space::Psks, self.key, json(&entry.record))],
            events: vec![entry.event.clone()],
        }
    }
}

/// The key is presented with a proof that is good, for what the policies were asked about.
fn prove(found: Found, grant: Grant<RedeemPsk>, attempt: AttemptId) -> Result<Presented, Refused> {
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
    Ok(Presented { found, grant, claim })
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

fn voided(found: &Found, grant: &Grant<RedeemPsk>, newest: Option<NonZeroU64>) -> Event {
    Event::PskVoided {
        identity: found.identity.to_string(),
        binding: found.binding().clone(),
        newest,
        requester: grant.act().requester.clone(),
    }
}

fn count_refusal(refused: &Refused) {
    counter!("claviger_psk_refused_total", "reason" => refused.reason()).increment(1);
    if matches!(refused, Refused::Replayed) {
        counter!("claviger_psk_replayed_total").increment(1);
    }
}
