//! What others have issued and may be used once: the `jti` of a token, an instance's document.
//!
//! There is no record of it until it is used. So what was issued before the epoch began is refused:
//! the ledger may have forgotten that it was used.

use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::digest::{Context, SHA256};
use claviger_attestors::{ConsumeError, ConsumeOnce, Once};
use claviger_core::audit::Event;
use claviger_core::once::{Answer, Claim, State};
use claviger_core::time::UnixTime;
use metrics::counter;

use super::{Ledger, LedgerError, random};
use crate::journal::{Change, CommitError, Require};
use crate::store::{Space, StoreError, Write, json, parse};

/// For how long the ledger remembers at most: what ends later can't be used at all.
pub const MAX_LIFE: Duration = Duration::from_secs(25 * 60 * 60);

impl Ledger {
    async fn use_up(&self, once: Once<'_>) -> Result<(), ConsumeError> {
        let now = self.now();
        if now.after(MAX_LIFE) < once.expires_at {
            return Err(ConsumeError::TooLong);
        }
        let digest = name(&once);
        let key = key(once.expires_at, &digest);
        let claim = claim(&once)?;
        // Each round either ends or finds a record that has moved on, which it does twice at most.
        loop {
            let epoch = self.0.epochs.current();
            if once.issued_at < epoch.since {
                return Err(ConsumeError::TooOld);
            }
            let stored = self.0.journal.store().get(Space::Once, &key).await.map_err(failed)?;
            let state = stored.as_deref().map_or(Ok(State::Unused), parse).map_err(failed)?;
            let (state, events, outcome) = match state.present(claim) {
                Answer::First(used) => (used, Vec::new(), Ok(())),
                Answer::Repeat => return Ok(()),
                Answer::Replay(None) => return Err(ConsumeError::Replayed),
                Answer::Replay(Some(alarmed)) => {
                    (alarmed, vec![alarm(&once, &digest)], Err(ConsumeError::Replayed))
                }
            };
            let is_new = stored.is_none();
            let change = Change {
                require: vec![
                    epoch.in_force(),
                    Require { space: Space::Once, key: key.to_vec(), value: stored },
                ],
                writes: vec![Write::put(Space::Once, key, json(&state))],
                events,
            };
            match self.remember(change, is_new).await? {
                Ok(()) => return outcome,
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(ConsumeError::Unavailable(Box::new(error))),
            }
        }
    }

    async fn remember(
        &self,
        change: Change,
        is_new: bool,
    ) -> Result<Result<(), CommitError>, ConsumeError> {
        let journal = self.0.journal.clone();
        let commit = async move { journal.commit(change).await.map(drop) };
        if !is_new {
            return Ok(commit.await);
        }
        let made = self.make((|ledger| &ledger.once, 1), commit).await;
        made.map_err(|full| ConsumeError::Unavailable(Box::new(full)))
    }
}

#[async_trait]
impl ConsumeOnce for Ledger {
    async fn consume(&self, once: Once<'_>) -> Result<(), ConsumeError> {
        let used = self.use_up(once).await;
        if matches!(used, Err(ConsumeError::Replayed)) {
            counter!("claviger_evidence_replayed_total", "kind" => once.kind).increment(1);
        }
        used
    }
}

/// The least key of what can still be used at `now`.
pub(super) fn first_alive(now: UnixTime) -> [u8; 8] {
    now.as_secs().to_be_bytes()
}

/// A digest of what is used, of which the record keeps nothing else.
fn name(once: &Once<'_>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in [once.kind, once.issuer, once.id] {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

fn key(expires_at: UnixTime, digest: &[u8; 32]) -> [u8; 40] {
    let mut key = [0; 40];
    let (ends, name) = key.split_at_mut(8);
    ends.copy_from_slice(&expires_at.as_secs().to_be_bytes());
    name.copy_from_slice(digest);
    key
}

/// Whoever shows the same key repeats a call; without a key, every call is another.
fn claim(once: &Once<'_>) -> Result<Claim, ConsumeError> {
    const LABEL: &str = "claviger once v1";
    if let Some(key) = once.key {
        return Ok(Claim::new(LABEL, &[b"key", key.as_bytes()]));
    }
    let random: [u8; 32] =
        random().map_err(|error: LedgerError| ConsumeError::Unavailable(Box::new(error)))?;
    Ok(Claim::new(LABEL, &[b"call", &random]))
}

fn alarm(once: &Once<'_>, digest: &[u8; 32]) -> Event {
    Event::EvidenceReplayed {
        kind: once.kind.to_owned(),
        issuer: once.issuer.to_owned(),
        digest: hex::encode(digest),
    }
}

fn failed(error: StoreError) -> ConsumeError {
    ConsumeError::Unavailable(Box::new(error))
}
