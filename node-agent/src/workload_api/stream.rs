//! One open stream.

use std::time::Duration;

use claviger_core::selector::Selectors;
use claviger_runtime::slots::Slot;
use claviger_runtime::unix::Peer;
use tokio::time::{Instant, sleep_until};
use tonic::Status;

use super::WorkloadApi;
use super::answer::{Answer, Compose};
use crate::attestation::{NO_IDENTITY, not_attested};
use crate::credentials::Snapshot;
use crate::metrics;

/// How long a caller whose SVID is on its way is kept waiting for its first message.
const SOON: Duration = Duration::from_secs(5);

/// Tells one caller what changes for it.
pub(super) struct Watcher<M> {
    api: WorkloadApi,
    peer: Peer,
    compose: Compose<M>,
    /// What was found out when the last message was made.
    facts: Option<Selectors>,
    last: Option<M>,
    opened: Instant,
    _slot: Slot<u32>,
    _counted: Counted,
}

impl<M: Clone + PartialEq> Watcher<M> {
    pub(super) fn new(api: &WorkloadApi, peer: Peer, slot: Slot<u32>, compose: Compose<M>) -> Self {
        Self {
            api: api.clone(),
            peer,
            compose,
            facts: None,
            last: None,
            opened: Instant::now(),
            _slot: slot,
            _counted: Counted::new(),
        }
    }

    /// The next message: at once if there was none, otherwise as soon as it says something new.
    /// An error ends the stream.
    pub(super) async fn next(&mut self) -> Result<M, Status> {
        loop {
            let snapshot = self.api.snapshots.borrow_and_update().clone();
            let snapshot = snapshot.ok_or_else(|| {
                Status::unavailable("the agent has not heard from its server yet")
            })?;
            if !self.says_nothing_new(&snapshot) {
                // Between two messages, the process may have become another program.
                let facts = self.api.attestation.facts(&self.peer).await;
                let facts = facts.map_err(|error| not_attested(&error))?;
                let answer = (self.compose)(&snapshot, &facts, self.api.clock.now());
                self.facts = Some(facts);
                match answer {
                    Answer::Message(message) if self.last.as_ref() != Some(&message) => {
                        self.last = Some(message.clone());
                        return Ok(message);
                    }
                    Answer::Message(_) | Answer::Soon => {}
                    Answer::Nobody => return Err(Status::permission_denied(NO_IDENTITY)),
                }
            }
            self.wait_for_change().await?;
        }
    }

    /// Whether the caller, as it was when it last got a message, would get the same one again. Most
    /// changes concern others, and then nobody is attested.
    fn says_nothing_new(&self, snapshot: &Snapshot) -> bool {
        let (Some(facts), Some(last)) = (&self.facts, &self.last) else { return false };
        let answer = (self.compose)(snapshot, facts, self.api.clock.now());
        matches!(answer, Answer::Message(message) if message == *last)
    }

    async fn wait_for_change(&mut self) -> Result<(), Status> {
        let patience = self.opened + SOON;
        tokio::select! {
            changed = self.api.snapshots.changed() => changed.map_err(|_stopping| stopping()),
            () = self.peer.exited() => Err(Status::permission_denied(NO_IDENTITY)),
            () = self.api.stop.cancelled() => Err(stopping()),
            () = sleep_until(patience), if self.last.is_none() => {
                Err(Status::unavailable("the SVID has not come from the server yet"))
            }
        }
    }
}

fn stopping() -> Status {
    Status::unavailable("the agent is shutting down")
}

/// An open stream, in the metrics.
struct Counted(());

impl Counted {
    fn new() -> Self {
        metrics::streams(1.0);
        Self(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::streams(-1.0);
    }
}
