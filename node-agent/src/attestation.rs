//! Who calls, and what the kernel says of them.

use std::sync::Arc;
use std::time::Duration;

use claviger_attestors::unix::{AttestError, Attestor, Caller};
use claviger_core::selector::Selectors;
use claviger_runtime::telemetry::Chain;
use claviger_runtime::unix::{NoProcess, Peer};
use tokio::time::Instant;
use tonic::{Request, Status};
use tracing::{debug, warn};

use crate::metrics;

/// For a caller to answer the first words of ours: HTTP/2's settings.
const PATIENCE: Duration = Duration::from_secs(5);

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
        let facts = self.attest(caller, peer).await;
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

    /// What a process is when it is looked at counts only if it is the same that connected, and if
    /// it has spoken since then.
    async fn attest(&self, caller: Caller, peer: &Peer) -> Result<Selectors, AttestError> {
        let spoken = tokio::time::timeout(PATIENCE, peer.spoken()).await;
        spoken.map_err(|_elapsed| AttestError::Silent)?;
        let facts = self.0.attest(caller, || peer.has_exited()).await?;
        if peer.has_changed() { Err(AttestError::NotWhoConnected) } else { Ok(facts) }
    }
}

/// The process behind `request`, as the kernel named it when it connected.
pub(crate) fn peer<T>(request: &Request<T>) -> Result<Peer, Status> {
    let peer = request.extensions().get::<Peer>().cloned();
    peer.ok_or_else(|| Status::internal("the connection does not say who is at its other end"))
}

/// The process that a request names by its number.
pub(crate) fn process(pid: i32) -> Result<Peer, Status> {
    let number = u32::try_from(pid).ok().filter(|pid| *pid != 0);
    let number = number.ok_or_else(|| Status::invalid_argument("pid: name a positive number"))?;
    Peer::by_number(number).map_err(|error| match error {
        NoProcess::Unknown(_) => Status::not_found(error.to_string()),
        NoProcess::Io(_) => Status::internal(Chain(&error).to_string()),
    })
}

/// What a caller learns when nothing is found out about it.
pub(crate) fn not_attested(error: &AttestError) -> Status {
    match error {
        AttestError::Exited | AttestError::OtherUser | AttestError::NotWhoConnected => {
            Status::permission_denied(NO_IDENTITY)
        }
        AttestError::OtherProgram
        | AttestError::Silent
        | AttestError::ProgramWritten
        | AttestError::Strange(_)
        | AttestError::TimedOut
        | AttestError::Stopping
        | AttestError::Io { .. } => Status::unavailable("the caller cannot be attested now"),
    }
}

/// Whether a user may see whatever the agent sees: root, and the agent's own.
pub(crate) fn is_operator(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

/// What a process without an identity is told, in the words that clients look for.
pub(crate) const NO_IDENTITY: &str = "no identity issued";
