//! How the agent stands with its server.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};

use claviger_core::id::SpiffeId;
use claviger_core::standing::{Risk, Standing as HowItStands};
use claviger_runtime::health::{Part, State};
use claviger_runtime::telemetry::Chain;
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::{error, warn};

use super::stored;
use crate::files::DataDir;
use crate::server::{Reason, Said, reason};
use crate::standings::Standings;

/// Says in health and log whether the server still knows this agent, and has it attest anew when
/// that helps.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    health: Part,
    dir: DataDir,
    banned: CancellationToken,
    /// What was last said about a refusal.
    last: Arc<Mutex<String>>,
    evidence: Arc<Evidence>,
    /// What the server holds against the agent, if only a human can help.
    doubt: Arc<StdMutex<Option<State>>>,
}

/// Whether the agent can show its evidence again, and whether it must now.
#[derive(Debug, Default)]
struct Evidence {
    again: AtomicBool,
    now: Notify,
}

impl Standing {
    pub(crate) fn new(health: Part, dir: DataDir) -> Self {
        let (banned, last, evidence) = (CancellationToken::new(), Arc::default(), Arc::default());
        Self { health, dir, banned, last, evidence, doubt: Arc::default() }
    }

    /// Whether the agent can show its evidence again, and the server wants that instead of renewals.
    pub(crate) fn is_reattestable(&self) -> bool {
        self.evidence.again.load(Ordering::Relaxed)
    }

    /// The server said so when it took the evidence.
    pub(crate) fn set_reattestable(&self, reattestable: bool) {
        self.evidence.again.store(reattestable, Ordering::Relaxed);
    }

    /// Waits until the server refuses an agent that can attest again.
    pub(crate) async fn must_attest(&self) {
        self.evidence.now.notified().await;
    }

    /// The server talks to us.
    pub(crate) async fn accepted(&self) {
        self.last.lock().await.clear();
        self.health.set(self.doubt().clone().unwrap_or(State::Ready));
    }

    /// The agent serves what it knows from before, and the server does not answer.
    pub(crate) fn unconfirmed(&self) {
        let why = "the server has not said since the start whether it still knows this agent";
        let doubt = self.doubt().clone();
        self.health.set(doubt.unwrap_or_else(|| State::Degraded(why.to_owned())));
    }

    /// The agent `id` itself stands otherwise than before. It shows its evidence again at once, if it
    /// can; otherwise its operator has to act.
    fn stands(&self, id: &SpiffeId, how: HowItStands) {
        let HowItStands { risk, quarantined, .. } = how;
        let doubt = if quarantined {
            let lift = format!("claviger quarantine lift {id}");
            Some(State::Failed(format!("this agent is in quarantine and serves nobody; `{lift}`")))
        } else if self.is_reattestable() {
            warn!(%risk, "how this agent stands has changed; it attests anew");
            self.evidence.now.notify_one();
            None
        } else if risk == Risk::NONE {
            None
        } else {
            Some(State::Degraded(format!(
                "the server sees a risk of {risk} % in this agent, whose evidence can be shown only \
                 once; evict it and attest it anew"
            )))
        };
        if let Some(state) = &doubt {
            error!("{state}");
        }
        *self.doubt() = doubt.clone();
        self.health.set(doubt.unwrap_or(State::Ready));
    }

    fn doubt(&self) -> MutexGuard<'_, Option<State>> {
        self.doubt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The SVID could not be renewed, for `why`; it still lasts `left` seconds.
    pub(crate) fn renewal_failed(&self, why: &str, left: u64) {
        self.health.set(State::Degraded(format!(
            "the agent's own SVID cannot be renewed and ends in {left} s: {why}"
        )));
    }

    /// The server has decided against this agent. If it can, it attests anew. Otherwise the identity
    /// on disk is forgotten, so that the next start does; what workloads have stays valid until it
    /// ends, unless the agent was banned.
    pub(crate) async fn refused(&self, status: &Status) {
        let reason = reason(status);
        if reason == Some(Reason::AgentMustReattest) {
            self.set_reattestable(true);
        }
        let said = Said(status).to_string();
        if self.is_reattestable() && reason != Some(Reason::AgentBanned) {
            warn!(error = said, "the server no longer knows this agent, which attests anew");
            self.health.set(State::Degraded(format!("attesting anew: the server says: {said}")));
            return self.evidence.now.notify_one();
        }
        let why = match reason {
            Some(Reason::AgentBanned) => {
                self.banned.cancel();
                "is banned; `claviger agent evict` lifts the ban, then"
            }
            Some(Reason::AgentExpired) => "let its SVID expire;",
            Some(Reason::AgentNotAttested) => "was evicted;",
            Some(Reason::AgentNotActive) => "presented an SVID that is not its newest;",
            Some(Reason::AgentMustReattest) => "must attest anew;",
            Some(Reason::Unknown) | None => "is refused by the server;",
        };
        let with =
            if self.is_reattestable() { "" } else { " with a new join token, if it used one" };
        let message = format!("this agent {why} restart it{with} (the server says: {said})");
        let mut last = self.last.lock().await;
        if *last == message {
            return; // It is asked again and again, and has been told.
        }
        error!("{message}");
        self.health.set(State::Failed(message.clone()));
        *last = message;
        if let Err(error) = stored::forget(&self.dir).await {
            error!(error = %Chain(&error), "cannot forget the identity");
        }
    }

    /// Fires when the server has banned this agent: nobody here may be served any more.
    pub(crate) fn banned(&self) -> &CancellationToken {
        &self.banned
    }
}

/// Tells `agent` whenever `id`, which is its own, stands otherwise. Never ends.
pub(crate) async fn doubts(standings: Standings, id: SpiffeId, agent: Standing) {
    let mut editions = standings.watch();
    let mut before = HowItStands::default();
    loop {
        let now = standings.of(&id);
        if now != before {
            agent.stands(&id, now);
            before = now;
        }
        if editions.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}
