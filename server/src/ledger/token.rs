//! Join tokens: made by the operator, spent by one node.
//!
//! The ledger knows a token by its SHA-256 only.

use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use claviger_attestors::join_token::{JoinToken, SpendError, SpendToken};
use claviger_core::audit::Event;
use claviger_core::evidence::KeyDigest;
use claviger_core::grant::Requester;
use claviger_core::id::SpiffeId;
use claviger_core::once::{Answer, Claim, State};
use claviger_core::time::UnixTime;
use metrics::counter;
use serde::{Deserialize, Serialize};

use super::{Ledger, LedgerError};
use crate::journal::{Change, CommitError, Require};
use crate::store::{Space, StoreError, Write, json, parse};

/// The longest life of a join token.
pub const MAX_TOKEN_TTL: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A join token to be made.
#[derive(Debug)]
pub struct NewToken<'a> {
    /// The token.
    pub token: &'a JoinToken,
    /// How long it can be spent, at most [`MAX_TOKEN_TTL`].
    pub ttl: Duration,
    /// The identity given to the agent beyond its own.
    pub agent_id: Option<SpiffeId>,
    /// Who asked.
    pub requester: Requester,
}

/// What the ledger keeps about a token.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct TokenRecord {
    pub(super) expires_at: UnixTime,
    /// The epoch in which it was made; it is void in any other.
    pub(super) epoch: u64,
    agent_id: Option<SpiffeId>,
    state: State,
}

impl Ledger {
    /// Makes a join token, and with it whatever `extra` says, or nothing. Gives the last second at
    /// which it can be spent.
    ///
    /// # Errors
    ///
    /// [`LedgerError`]; a `Commit` with a `Conflict` counts the requirements of `extra` only.
    pub async fn create_token(
        &self,
        new: NewToken<'_>,
        extra: Change,
    ) -> Result<UnixTime, LedgerError> {
        let expires_at = self.now().after(new.ttl);
        self.check_lifetime(expires_at, MAX_TOKEN_TTL.as_secs())?;

        let epoch = self.0.epochs.current();
        let key = key(new.token);
        let record = TokenRecord {
            expires_at,
            epoch: epoch.number,
            agent_id: new.agent_id.clone(),
            state: State::Unused,
        };
        let created = Event::JoinTokenCreated {
            token: hex::encode(key),
            agent_id: new.agent_id,
            expires_at,
            requester: new.requester,
        };
        let mut change = Change {
            require: vec![epoch.in_force(), Require::absent(Space::Tokens, key)],
            writes: vec![Write::put(Space::Tokens, key, json(&record))],
            events: vec![created],
        };
        change.require.extend(extra.require);
        change.writes.extend(extra.writes);
        change.events.extend(extra.events);
        let journal = self.0.journal.clone();
        let commit = async move { journal.commit(change).await };
        let committed = self.make((|ledger| &ledger.tokens, 1), commit).await?;
        committed.map_err(|error| match error {
            CommitError::Conflict { unmet: 0 } => LedgerError::Fenced,
            CommitError::Conflict { unmet: 1 } => LedgerError::Exists,
            CommitError::Conflict { unmet } => {
                LedgerError::Commit(CommitError::Conflict { unmet: unmet.saturating_sub(2) })
            }
            error @ (CommitError::Overloaded | CommitError::Stopped | CommitError::Store(_)) => {
                LedgerError::Commit(error)
            }
        })?;
        Ok(expires_at)
    }

    async fn spend_token(&self, key: [u8; 32], holder: &KeyDigest) -> Result<(), SpendError> {
        let claim = Claim::new("claviger join token v1", &[holder.as_bytes()]);
        // Each round either ends or finds a record that has moved on, which it does twice at most.
        loop {
            let epoch = self.0.epochs.current();
            let stored = self.0.journal.store().get(Space::Tokens, &key).await.map_err(failed)?;
            let stored = stored.ok_or(SpendError::Unknown)?;
            let record: TokenRecord = parse(&stored).map_err(failed)?;
            if record.expires_at < self.now() || record.epoch != epoch.number {
                return Err(SpendError::Unknown);
            }
            let (state, events, outcome) = match record.state.present(claim) {
                Answer::First(spent) => (spent, Vec::new(), Ok(())),
                Answer::Repeat => return Ok(()),
                Answer::Replay(None) => return Err(SpendError::Replayed),
                Answer::Replay(Some(alarmed)) => {
                    let token = hex::encode(key);
                    let alarm = Event::JoinTokenReplayed { token, key: *holder };
                    (alarmed, vec![alarm], Err(SpendError::Replayed))
                }
            };
            let record = TokenRecord { state, ..record };
            let change = Change {
                require: vec![epoch.in_force(), Require::value(Space::Tokens, key, stored)],
                writes: vec![Write::put(Space::Tokens, key, json(&record))],
                events,
            };
            match self.0.journal.commit(change).await {
                Ok(_head) => return outcome,
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(SpendError::Unavailable(Box::new(error))),
            }
        }
    }
}

#[async_trait]
impl SpendToken for Ledger {
    async fn spend(&self, token: &JoinToken, key: &KeyDigest) -> Result<(), SpendError> {
        let spent = self.spend_token(self::key(token), key).await;
        if matches!(spent, Err(SpendError::Replayed)) {
            counter!("claviger_join_token_replayed_total").increment(1);
        }
        spent
    }
}

/// The key of a token: one can't tell the token from it.
fn key(token: &JoinToken) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, token.expose().as_bytes()).as_ref());
    key
}

fn failed(error: StoreError) -> SpendError {
    SpendError::Unavailable(Box::new(error))
}
