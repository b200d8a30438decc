//! Who calls, and what is found out about them: what the kernel says, and what the services of this
//! machine say of their container, pod or unit.

mod others;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use claviger_attestors::unix;
use claviger_attestors::workload::{AttestError, Caller};
use claviger_core::selector::Selectors;
use claviger_core::time::Clock;
use claviger_runtime::tasks::Tasks;
use claviger_runtime::telemetry::Chain;
use claviger_runtime::unix::{NoProcess, Peer};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Request, Status};
use tracing::{debug, warn};

use crate::config::Config;
use crate::credentials::Snapshot;
use crate::metrics;
use others::Others;

pub use others::OpenAttestorsError;

/// For a caller to answer the first words of ours: HTTP/2's settings.
const PATIENCE: Duration = Duration::from_secs(5);

/// Finds out about callers.
#[derive(Clone, Debug)]
pub(crate) struct Attestation(Arc<Attestors>);

#[derive(Debug)]
struct Attestors {
    unix: unix::Attestor,
    others: Others,
    /// Whose identities are in doubt, and since when.
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    clock: Arc<dyn Clock>,
}

impl Attestation {
    /// With the attestors that `config` names. What they have to run is run by `tasks`.
    pub(crate) async fn open(
        config: &Config,
        snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
        clock: &Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Result<Self, OpenAttestorsError> {
        let unix = unix::Attestor::new(config.unix, Arc::clone(clock));
        let others = Others::open(&config.workload, clock, tasks).await?;
        let clock = Arc::clone(clock);
        Ok(Self(Arc::new(Attestors { unix, others, snapshots, clock })))
    }

    /// The facts about `peer`, found out now. Where they earn an identity that was put in doubt, nothing
    /// that was remembered from before then is among them.
    pub(crate) async fn facts(&self, peer: &Peer) -> Result<Selectors, AttestError> {
        let start = Instant::now();
        let facts = self.0.look_closely(peer).await;
        let outcome = if facts.is_ok() { "ok" } else { "failed" };
        metrics::attested(outcome, start.elapsed());
        match &facts {
            Ok(facts) => {
                debug!(pid = peer.pid(), uid = peer.uid(), count = facts.len(), "attested");
            }
            Err(error) => {
                let (pid, uid) = (peer.pid(), peer.uid());
                warn!(pid, uid, error = %Chain(error), "caller not attested");
            }
        }
        facts
    }

    /// Waits until the `facts` about `peer` may have changed without anybody asking: then they are to
    /// be found out anew. Who stops waiting may wait again: nothing is lost.
    pub(crate) async fn changed(&self, peer: &Peer, facts: &Selectors) {
        let Attestors { others, .. } = &*self.0;
        if others.is_empty() {
            return pending().await;
        }
        // A process that can't be looked at has ended, or is no longer what it was.
        if let Ok(process) = others.open_process(caller(peer, None)) {
            others.changed(&process, facts).await;
        }
    }
}

/// Who `peer` is, to an attestor.
fn caller(peer: &Peer, since: Option<Instant>) -> Caller {
    Caller { pid: peer.pid(), uid: peer.uid(), gid: peer.gid(), since }
}

impl Attestors {
    /// Looks again, without relying on what is remembered, if an identity that the facts earn is in
    /// doubt since then. What comes into doubt meanwhile is looked at once more.
    async fn look_closely(&self, peer: &Peer) -> Result<Selectors, AttestError> {
        let mut since = None;
        loop {
            let facts = self.look_at(peer, since).await?;
            let doubted = self.doubted(&facts);
            if doubted <= since {
                return Ok(facts);
            }
            since = doubted;
        }
    }

    /// When the last of the identities that `facts` earn was put in doubt.
    fn doubted(&self, facts: &Selectors) -> Option<Instant> {
        let snapshot = self.snapshots.borrow().clone()?;
        let admitted = snapshot.admitted(facts, self.clock.now()).into_iter();
        admitted.filter_map(|identity| identity.doubted).max()
    }

    /// What a process is when it is looked at counts only if it is the same that connected, and if
    /// it has spoken since then.
    async fn look_at(&self, peer: &Peer, since: Option<Instant>) -> Result<Selectors, AttestError> {
        let spoken = tokio::time::timeout(PATIENCE, peer.spoken()).await;
        spoken.map_err(|_elapsed| AttestError::Silent)?;
        let facts = self.facts_of(peer, since).await?;
        if peer.has_changed() { Err(AttestError::NotWhoConnected) } else { Ok(facts) }
    }

    async fn facts_of(
        &self,
        peer: &Peer,
        since: Option<Instant>,
    ) -> Result<Selectors, AttestError> {
        let caller = caller(peer, since);
        let has_exited = || peer.has_exited();
        let own = self.unix.attest(caller, has_exited);
        if self.others.is_empty() {
            return own.await;
        }
        let process = self.others.open_process(caller)?;
        let (own, others) = tokio::join!(own, self.others.facts(&process));
        let mut facts = own?;
        facts.extend(others?);
        // Only now: everything above is about one program in one place.
        process.unchanged()?;
        if has_exited() { Err(AttestError::Exited) } else { Ok(facts) }
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
        | AttestError::Moved
        | AttestError::ProgramWritten
        | AttestError::Strange(_)
        | AttestError::TimedOut
        | AttestError::Stopping
        | AttestError::Required { .. }
        | AttestError::Io { .. } => Status::unavailable("the caller cannot be attested now"),
    }
}

/// Whether a user may see whatever the agent sees: root, and the agent's own.
pub(crate) fn is_operator(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

/// What a process without an identity is told, in the words that clients look for.
pub(crate) const NO_IDENTITY: &str = "no identity issued";
