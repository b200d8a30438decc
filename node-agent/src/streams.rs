//! What every service that answers from snapshots shares: whom an answer is about, and streams that
//! tell what is and then what changes.
//!
//! Nothing waits for the server here: every answer is made from the snapshot of the moment.

mod refusal;
mod watcher;

use std::pin::Pin;
use std::sync::Arc;

use claviger_attestors::workload::AttestError;
use claviger_core::entry::Entry;
use claviger_core::selector::Selectors;
use claviger_core::time::{Clock, UnixTime};
use claviger_runtime::slots::{Slot, Slots};
use claviger_runtime::tasks::Tasks;
use claviger_runtime::unix::Peer;
use futures_util::{Stream, StreamExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::debug;

use crate::attestation::{Attestation, NO_IDENTITY, not_attested};
use crate::config::Config;
use crate::credentials::Snapshot;

pub(crate) use refusal::Throttle;
pub(crate) use watcher::Watcher;

/// Where callers are served.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    /// Who finds out about callers.
    pub(crate) attestation: Attestation,
    /// What can be given out.
    pub(crate) snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    /// How many streams may be open, and of each user.
    pub(crate) slots: Slots<u32>,
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
    /// Fires when streams are to end.
    pub(crate) stop: CancellationToken,
    /// How often the log says why somebody gets nothing.
    pub(crate) refusals: Arc<Throttle>,
}

/// The messages of an open stream.
pub(crate) type Responses<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

/// What to tell a caller.
#[derive(Debug)]
pub(crate) enum Answer<M> {
    /// The complete state.
    Message(M),
    /// There is an identity, and the SVID is on its way.
    Soon,
    /// There is no identity.
    Nobody,
    /// Something else is in the way.
    Refused(Status),
}

/// What a snapshot means for somebody with certain facts.
pub(crate) trait Compose<F, M>: Fn(&Snapshot, &F, UnixTime) -> Answer<M> + Send {}

impl<F, M, C: Fn(&Snapshot, &F, UnixTime) -> Answer<M> + Send> Compose<F, M> for C {}

/// Whom a stream is about.
pub(crate) trait Subject: Send + Sync {
    /// What is found out.
    type Facts: Send + Sync;

    /// The facts, found out now.
    fn facts(
        &self,
        attestation: &Attestation,
    ) -> impl Future<Output = Result<Self::Facts, AttestError>> + Send;

    /// Waits until what was found out may no longer hold.
    fn changed(
        &self,
        attestation: &Attestation,
        facts: &Self::Facts,
    ) -> impl Future<Output = ()> + Send;

    /// Waits until there is nobody left to speak of.
    fn ended(&self) -> impl Future<Output = ()> + Send;

    /// What is said when there is nobody left.
    fn gone(&self) -> Status {
        Status::permission_denied(NO_IDENTITY)
    }

    /// What is said if they have no identity.
    fn nobody(&self, _desk: &Desk, _snapshot: &Snapshot, _facts: &Self::Facts) -> Status {
        Status::permission_denied(NO_IDENTITY)
    }
}

/// Whoever asks, about itself.
impl Subject for Peer {
    type Facts = Selectors;

    async fn facts(&self, attestation: &Attestation) -> Result<Selectors, AttestError> {
        attestation.facts(self).await
    }

    async fn changed(&self, attestation: &Attestation, facts: &Selectors) {
        attestation.changed(self, facts).await;
    }

    async fn ended(&self) {
        self.exited().await;
    }

    fn nobody(&self, desk: &Desk, snapshot: &Snapshot, facts: &Selectors) -> Status {
        refusal::nobody(desk, snapshot, self, facts)
    }
}

impl Desk {
    /// A desk that serves those whom `attestation` knows as `config` says, from the newest of
    /// `snapshots`.
    pub(crate) fn new(
        config: &Config,
        attestation: Attestation,
        snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
        clock: &Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Self {
        Self {
            attestation,
            snapshots,
            slots: Slots::new(config.limits.streams, config.limits.streams_per_uid),
            clock: Arc::clone(clock),
            stop: tasks.token(),
            refusals: Arc::default(),
        }
    }

    /// What is known at this moment.
    pub(crate) fn snapshot(&self) -> Result<Arc<Snapshot>, Status> {
        self.snapshots.borrow().clone().ok_or_else(unheard)
    }

    /// The identities of the calling process, oldest entry first; at least one.
    pub(crate) async fn identities(&self, peer: &Peer) -> Result<Vec<Arc<Entry>>, Status> {
        let snapshot = self.snapshot()?;
        let facts = self.attestation.facts(peer).await.map_err(|error| not_attested(&error))?;
        let admitted = snapshot.admitted(&facts, self.clock.now());
        if admitted.is_empty() {
            return Err(refusal::nobody(self, &snapshot, peer, &facts));
        }
        Ok(admitted.into_iter().map(|identity| Arc::clone(&identity.entry)).collect())
    }

    /// Room for a stream of the user `uid`.
    pub(crate) fn slot(&self, uid: u32) -> Result<Slot<u32>, Status> {
        self.slots.take(uid).map_err(|full| {
            debug!(uid, error = %full, "stream refused");
            Status::unavailable("too many open streams; close some, or try again later")
        })
    }

    /// Opens a stream, paid for by the user `uid`, of what `compose` makes of each snapshot. The
    /// first message is made here, so that a refusal is the answer to the call.
    pub(crate) async fn open<S, M, C>(
        &self,
        uid: u32,
        subject: S,
        compose: C,
    ) -> Result<Responses<M>, Status>
    where
        S: Subject + 'static,
        M: Clone + PartialEq + Send + 'static,
        C: Compose<S::Facts, M> + 'static,
    {
        let mut watcher = Watcher::new(self, self.slot(uid)?, subject, compose);
        let first = watcher.next().await?;
        let rest = futures_util::stream::try_unfold(watcher, |mut watcher| async move {
            Ok(Some((watcher.next().await?, watcher)))
        });
        Ok(Box::pin(futures_util::stream::once(async { Ok(first) }).chain(rest)))
    }
}

fn unheard() -> Status {
    Status::unavailable("the agent has not heard from its server yet")
}

pub(crate) fn stopping() -> Status {
    Status::unavailable("the agent is shutting down")
}
