//! One open stream.

use std::future::pending;
use std::time::Duration;

use claviger_runtime::slots::Slot;
use tokio::time::{Instant, sleep_until};
use tonic::Status;

use super::{Answer, Compose, Desk, Subject, stopping, unheard};
use crate::attestation::not_attested;
use crate::credentials::Snapshot;
use crate::metrics;

/// How long a caller whose SVID is on its way is kept waiting for its first message.
const SOON: Duration = Duration::from_secs(5);

/// Tells one caller what changes for its subject.
pub(crate) struct Watcher<S: Subject, M, C> {
    desk: Desk,
    subject: S,
    compose: C,
    /// What was found out when the last message was made.
    facts: Option<S::Facts>,
    last: Option<M>,
    /// When the first message began to be waited for.
    asked: Instant,
    _slot: Slot<u32>,
    _counted: Counted,
}

impl<S: Subject, M: Clone + PartialEq, C: Compose<S::Facts, M>> Watcher<S, M, C> {
    pub(crate) fn new(desk: &Desk, slot: Slot<u32>, subject: S, compose: C) -> Self {
        Self {
            desk: desk.clone(),
            subject,
            compose,
            facts: None,
            last: None,
            asked: Instant::now(),
            _slot: slot,
            _counted: Counted::new(),
        }
    }

    /// Asks for something else from now on; the next message comes at once.
    pub(crate) fn ask(&mut self, compose: C) {
        self.compose = compose;
        self.last = None;
        self.asked = Instant::now();
    }

    /// The next message: at once if there was none, otherwise as soon as it says something new.
    /// An error ends the stream.
    pub(crate) async fn next(&mut self) -> Result<M, Status> {
        loop {
            if let Some(message) = self.look().await? {
                return Ok(message);
            }
            self.change().await?;
        }
    }

    /// The message that is due now, if it says something new.
    pub(crate) async fn look(&mut self) -> Result<Option<M>, Status> {
        let snapshot = self.desk.snapshots.borrow_and_update().clone().ok_or_else(unheard)?;
        if self.says_nothing_new(&snapshot) {
            return Ok(None);
        }
        // Between two messages, the process may have become another program.
        let facts = self.subject.facts(&self.desk.attestation).await;
        let facts = facts.map_err(|error| not_attested(&error))?;
        let answer = (self.compose)(&snapshot, &facts, self.desk.clock.now());
        let facts = self.facts.insert(facts);
        match answer {
            Answer::Message(message) if self.last.as_ref() != Some(&message) => {
                self.last = Some(message.clone());
                Ok(Some(message))
            }
            Answer::Message(_) | Answer::Soon => Ok(None),
            Answer::Nobody => Err(self.subject.nobody(&self.desk, &snapshot, facts)),
            Answer::Refused(status) => Err(status),
        }
    }

    /// Whether the subject, as it was when the last message was made, would get the same one again.
    /// Most changes concern others, and then nobody is attested.
    fn says_nothing_new(&self, snapshot: &Snapshot) -> bool {
        let (Some(facts), Some(last)) = (&self.facts, &self.last) else { return false };
        let answer = (self.compose)(snapshot, facts, self.desk.clock.now());
        matches!(answer, Answer::Message(message) if message == *last)
    }

    /// Waits until it is worth another look. Who stops waiting may wait again: nothing is lost.
    pub(crate) async fn change(&mut self) -> Result<(), Status> {
        let patience = self.asked + SOON;
        let Desk { attestation, snapshots, stop, .. } = &mut self.desk;
        let (subject, facts) = (&self.subject, &self.facts);
        let changed = async {
            match facts {
                Some(facts) => subject.changed(attestation, facts).await,
                None => pending().await,
            }
        };
        tokio::select! {
            changed = snapshots.changed() => return changed.map_err(|_stopping| stopping()),
            () = changed => {}
            () = subject.ended() => return Err(subject.gone()),
            () = stop.cancelled() => return Err(stopping()),
            () = sleep_until(patience), if self.last.is_none() => {
                return Err(Status::unavailable("the SVID has not come from the server yet"));
            }
        }
        // What is said next is said of what the subject is by then.
        self.facts = None;
        Ok(())
    }
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
