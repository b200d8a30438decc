//! How the agent stands with its server.

use std::sync::Arc;

use claviger_runtime::health::{Part, State};
use claviger_runtime::telemetry::Chain;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::error;

use super::stored;
use crate::files::DataDir;
use crate::server::{Reason, Said, reason};

/// Says in health and log whether the server still knows this agent.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    health: Part,
    dir: DataDir,
    banned: CancellationToken,
    /// What was last said about a refusal.
    last: Arc<Mutex<String>>,
}

impl Standing {
    pub(crate) fn new(health: Part, dir: DataDir) -> Self {
        Self { health, dir, banned: CancellationToken::new(), last: Arc::default() }
    }

    /// The server talks to us.
    pub(crate) async fn accepted(&self) {
        self.last.lock().await.clear();
        self.health.set(State::Ready);
    }

    /// The SVID could not be renewed, for `why`; it still lasts `left` seconds.
    pub(crate) fn renewal_failed(&self, why: &str, left: u64) {
        self.health.set(State::Degraded(format!(
            "the agent's own SVID cannot be renewed and ends in {left} s: {why}"
        )));
    }

    /// The server has decided against this agent. The identity on disk is forgotten, so that the
    /// next start attests anew; what workloads have stays valid until it ends, unless the agent was
    /// banned.
    pub(crate) async fn refused(&self, status: &Status) {
        let why = match reason(status) {
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
        let said = Said(status).to_string();
        let message =
            format!("this agent {why} restart it with a new join token (the server says: {said})");
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
