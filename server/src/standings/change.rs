//! Changing how an identity stands.

use std::sync::Arc;

use claviger_core::audit::Event;
use claviger_core::grant::Requester;
use claviger_core::id::SpiffeId;
use claviger_core::standing::{Reason, Risk, Standing};
use metrics::counter;
use tracing::warn;

use super::{MAX_STANDINGS, Record, Standings};
use crate::journal::{Change as Commit, CommitError};
use crate::metrics as names;
use crate::store::{Space, Write, json, meta};

/// How many records one change makes room for at most.
const FORGOTTEN: usize = 1_024;

/// How often a change is tried while other servers are faster.
const ROUNDS: usize = 16;

/// What is to be changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// It is in quarantine from now on: nothing is issued to it, and nothing that it has counts.
    Quarantine,
    /// Its quarantine is over. What it had before stays void.
    Lift,
    /// It is risked so much.
    Risk(Risk),
}

impl Change {
    /// As a metric's label.
    const fn name(self) -> &'static str {
        match self {
            Self::Quarantine => "quarantine",
            Self::Lift => "lift",
            Self::Risk(_) => "risk",
        }
    }
}

/// How an identity stands after a change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Changed {
    /// It stands otherwise than before.
    Now(Arc<Record>),
    /// It stood so already, and nothing was changed; without a record if nothing was ever said of it.
    Already(Option<Arc<Record>>),
}

impl Changed {
    /// The record.
    #[must_use]
    pub const fn record(&self) -> Option<&Arc<Record>> {
        match self {
            Self::Now(record) => Some(record),
            Self::Already(record) => record.as_ref(),
        }
    }
}

/// How an identity stands was not changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StandingError {
    /// The server would shut itself out.
    #[error("`{0}` is this server itself; stop it, or replace its authorities")]
    Oneself(SpiffeId),
    /// There is nothing to lift.
    #[error("`{0}` is not in quarantine, so there is none to lift")]
    NotQuarantined(SpiffeId),
    /// There are as many records as there may be.
    #[error(
        "{MAX_STANDINGS} identities are risked or in quarantine, as many as may be; lift some, or set \
         their risk to 0"
    )]
    Full,
    /// It could not be written down.
    #[error("cannot write down how it stands")]
    Commit(#[from] CommitError),
}

impl Standings {
    /// Changes how `id` stands, for `reason`, on the word of `requester`. It is durable when this
    /// returns, every decision from now on knows of it, and those who watch are told. It is seen through
    /// even if whoever asked has gone.
    ///
    /// X.509-SVIDs that an identity in quarantine still has are withdrawn by
    /// [`crate::ca::revocation::Revocations::follow`].
    ///
    /// # Errors
    ///
    /// [`StandingError`]; then nothing has changed.
    pub async fn change(
        &self,
        id: &SpiffeId,
        change: Change,
        reason: Reason,
        requester: Requester,
    ) -> Result<Changed, StandingError> {
        let (standings, id) = (self.clone(), id.clone());
        let doing = async move { standings.make(id, change, reason, requester).await };
        let done = self.0.tasks.see_through("standing", doing).await;
        done.unwrap_or(Err(StandingError::Commit(CommitError::Stopped)))
    }

    async fn make(
        &self,
        id: SpiffeId,
        change: Change,
        reason: Reason,
        requester: Requester,
    ) -> Result<Changed, StandingError> {
        if id == self.0.own {
            return Err(StandingError::Oneself(id));
        }
        for _round in 1..ROUNDS {
            let made = self.attempt(id.clone(), change, reason.clone(), requester.clone()).await;
            match made {
                // Another server was faster.
                Err(StandingError::Commit(CommitError::Conflict { .. })) => {
                    self.0.journal.catch_up().await;
                }
                Ok(_) | Err(_) => return made,
            }
        }
        self.attempt(id, change, reason, requester).await
    }

    async fn attempt(
        &self,
        id: SpiffeId,
        change: Change,
        reason: Reason,
        requester: Requester,
    ) -> Result<Changed, StandingError> {
        let _changing = self.0.changing.lock().await;
        let before = self.record(&id);
        let old = before.as_ref().map(|record| record.standing).unwrap_or_default();
        let Some(next) = next(old, change) else {
            return match change {
                Change::Lift => Err(StandingError::NotQuarantined(id)),
                Change::Quarantine | Change::Risk(_) => Ok(Changed::Already(before)),
            };
        };
        let (seen, forgotten) = self.make_room(before.is_none())?;
        let changed_at = self.0.time.now().max(self.known().changed_at());
        let version = seen.saturating_add(1);
        let voided = match change {
            Change::Quarantine | Change::Lift => version,
            Change::Risk(_) => before.map(|record| record.voided).unwrap_or_default(),
        };
        let standing = Standing { changed_at, version, ..next };
        let record = Record { id, standing, voided, reason, requester };

        let event = event(&record, change, old.risk);
        self.0.journal.commit(commit(&record, event, seen, &forgotten)).await?;
        let record = {
            let mut known = self.known_mut();
            forgotten.iter().for_each(|id| known.forget(id));
            let record = known.put(record);
            known.measure();
            record
        };
        self.0.version.send_replace(version);
        counter!(names::STANDINGS_CHANGED, "change" => change.name()).increment(1);
        let (id, reason) = (&record.id, &record.reason);
        warn!(%id, change = change.name(), risk = %standing.risk, %reason, version, "standing changed");
        Ok(Changed::Now(record))
    }

    /// The number of the newest change, and whom to forget for another record.
    fn make_room(&self, is_new: bool) -> Result<(u64, Vec<SpiffeId>), StandingError> {
        let known = self.known();
        if !is_new || known.len() < MAX_STANDINGS {
            return Ok((known.number(), Vec::new()));
        }
        let forgotten = known.forgettable(self.0.time.now(), FORGOTTEN);
        if forgotten.is_empty() {
            return Err(StandingError::Full);
        }
        Ok((known.number(), forgotten))
    }
}

/// How whoever stands as `before` says stands after `change`; `None` if that is no change.
fn next(before: Standing, change: Change) -> Option<Standing> {
    let after = match change {
        Change::Quarantine => Standing { quarantined: true, ..before },
        Change::Lift => Standing { quarantined: false, ..before },
        Change::Risk(risk) => Standing { risk, ..before },
    };
    (after != before).then_some(after)
}

fn event(record: &Record, change: Change, from: Risk) -> Event {
    let Record { id, standing, reason, requester, .. } = record.clone();
    let version = standing.version;
    match change {
        Change::Quarantine => Event::Quarantined { id, reason, requester, version },
        Change::Lift => Event::QuarantineLifted { id, reason, requester, version },
        Change::Risk(to) => Event::RiskChanged { id, from, to, reason, requester, version },
    }
}

fn commit(record: &Record, event: Event, seen: u64, forgotten: &[SpiffeId]) -> Commit {
    let key = |id: &SpiffeId| id.to_string().into_bytes();
    let mut writes = vec![
        Write::put(Space::Meta, meta::STANDINGS, json(&record.standing.version)),
        Write::put(Space::Standings, key(&record.id), json(record)),
    ];
    writes.extend(forgotten.iter().map(|id| Write::delete(Space::Standings, key(id))));
    Commit { require: vec![Standings::require(seen)], writes, events: vec![event] }
}
