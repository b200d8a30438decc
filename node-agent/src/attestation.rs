//! Who calls, and what the kernel says of them.

use std::sync::Arc;

use claviger_attestors::unix::{AttestError, Attestor, Caller};
use claviger_core::selector::Selectors;
use claviger_runtime::telemetry::Chain;
use claviger_runtime::unix::Peer;
use tokio::time::Instant;
use tonic::{Request, Status};
use tracing::{debug, warn};

use crate::metrics;

/// Finds out about callers.
#[derive(Clone, Debug)]
pub(crate) struct Attestation(Arc<Attestor>);

impl Attestation {
    pub(crate) fn new(attestor: Attestor) -> Self {
        Self(Arc::new(attestor))
    }

    /// The facts about `peer`, found out now.
    pub(crate) async fn facts(&self, peer: &Peer) -> Result<Selectors, AttestError> {
        let start = Instant::now();
        let caller = Caller { pid: peer.pid(), uid: peer.uid(), gid: peer.gid() };
        let facts = self.0.attest(caller, || peer.has_exited()).await;
        let outcome = if facts.is_ok() { "ok" } else { "failed" };
        metrics::attested(outcome, start.elapsed());
        match &facts {
            Ok(facts) => {
                debug!(pid = caller.pid, uid = caller.uid, count = facts.len(), "attested");
            }
            Err(error) => {
                let (pid, uid) = (caller.pid, caller.uid);
                warn!(pid, uid, error = %Chain(error), "caller not attested");
            }
        }
        facts
    }
}

/// The process behind `request`, as the kernel named it when it connected.
pub(crate) fn peer<T>(request: &Request<T>) -> Result<Peer, Status> {
    let peer = request.extensions().get::<Peer>().cloned();
    peer.ok_or_else(|| Status::internal("the connection does not say who is at its other end"))
}

/// What a caller learns when nothing is found out about it.
pub(crate) fn not_attested(error: &AttestError) -> Status {
    match error {
        AttestError::Exited | AttestError::OtherUser => Status::permission_denied(NO_IDENTITY),
        AttestError::OtherProgram
        | AttestError::ProgramWritten
        | AttestError::Strange(_)
        | AttestError::TimedOut
        | AttestError::Stopping
        | AttestError::Io { .. } => Status::unavailable("the caller cannot be attested now"),
    }
}

/// What a process without an identity is told, in the words that clients look for.
pub(crate) const NO_IDENTITY: &str = "no identity issued";
