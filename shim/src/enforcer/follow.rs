//! What the agent says, as it changes: the signed policies, the keys they are signed with, and how
//! identities stand.

use std::path::PathBuf;
use std::sync::Arc;

use claviger_core::bundle::{TokenAuthority, json};
use claviger_core::policies::Announcement;
use claviger_policy::local::{NotAdopted, Signed, SignedError};
use claviger_proto::claviger::policy::v1::policy_desk_client::PolicyDeskClient;
use claviger_proto::claviger::policy::v1::{SignedPolicies, WatchRequest, WatchResponse};
use claviger_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use claviger_proto::workload::{JwtBundlesRequest, JwtBundlesResponse};
use claviger_runtime::telemetry::Chain;
use claviger_runtime::unix::SocketPathError;
use tokio::task::spawn_blocking;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tracing::{error, info, warn};

use super::Enforcer;
use super::standings::{Malformed, Pages};
use crate::agent::{Pauses, channel, with_header};

/// The most bytes of one message: policies have four megabytes at most.
const MAX_MESSAGE: usize = 8 << 20;

/// Tells an enforcer what the agent says.
#[derive(Debug)]
pub(super) struct Follower {
    enforcer: Enforcer,
    agent: Channel,
    /// What verifies policies, once it is known.
    keys: Option<Vec<TokenAuthority>>,
    /// What the agent says the server signed.
    pub(super) offered: Option<Arc<SignedPolicies>>,
    pages: Pages,
}

impl Follower {
    /// Follows the agent behind the socket `agent`.
    pub(super) fn new(enforcer: Enforcer, agent: PathBuf) -> Result<Self, SocketPathError> {
        let agent = channel(agent, None)?;
        Ok(Self { enforcer, agent, keys: None, offered: None, pages: Pages::default() })
    }

    /// Follows it for ever.
    pub(super) async fn run(&mut self) {
        let mut pauses = Pauses::default();
        loop {
            let (ended, heard) = self.follow().await;
            if heard {
                pauses.reset();
            }
            warn!(error = %Chain(&ended), "the agent does not say what the policies are");
            if let Ended::Agent(status) = &ended
                && status.code() == Code::PermissionDenied
            {
                self.enforcer.somebody(false);
            }
            pauses.pause().await;
        }
    }

    /// Follows it until something fails: what, and whether there was anything to be heard.
    async fn follow(&mut self) -> (Ended, bool) {
        let mut heard = false;
        match self.listen(&mut heard).await {
            Ok(()) => (Ended::Closed, heard),
            Err(ended) => (ended, heard),
        }
    }

    async fn listen(&mut self, heard: &mut bool) -> Result<(), Ended> {
        let mut desk =
            PolicyDeskClient::new(self.agent.clone()).max_decoding_message_size(MAX_MESSAGE);
        let mut bundles = SpiffeWorkloadApiClient::new(self.agent.clone());
        let mut said = desk.watch(with_header(WatchRequest {})).await?.into_inner();
        let keys = bundles.fetch_jwt_bundles(with_header(JwtBundlesRequest {})).await?;
        let mut keys = keys.into_inner();
        self.pages = Pages::default();
        loop {
            tokio::select! {
                message = said.message() => {
                    let Some(message) = message? else { return Ok(()) };
                    self.enforcer.somebody(true);
                    *heard = true;
                    self.take_in(message).await?;
                }
                message = keys.message() => {
                    let Some(message) = message? else { return Ok(()) };
                    self.take_keys(&message).await?;
                }
            }
        }
    }

    /// What changed: who stands otherwise comes first.
    pub(super) async fn take_in(&mut self, message: WatchResponse) -> Result<(), Ended> {
        let WatchResponse { policies, standings } = message;
        if let Some(page) = standings
            && let Some(update) = self.pages.push(page)?
        {
            let concerned = self.enforcer.0.standings.apply(update)?;
            self.enforcer.ask_again(concerned.as_ref());
        }
        if let Some(policies) = policies {
            self.offered = Some(Arc::new(policies));
            self.decide_anew().await;
        }
        Ok(())
    }

    /// The trust domain's keys for tokens.
    pub(super) async fn take_keys(&mut self, message: &JwtBundlesResponse) -> Result<(), Ended> {
        let domain = self.enforcer.0.local.trust_domain();
        let document = message.bundles.get(&domain.id().to_string()).ok_or(Ended::NoBundle)?;
        let bundle = json::read(domain.clone(), document)?;
        if self.keys.as_ref() != Some(&bundle.jwt_authorities) {
            self.keys = Some(bundle.jwt_authorities);
            self.decide_anew().await;
        }
        Ok(())
    }

    /// Policies or keys changed. What can't be believed changes nothing, and what there is expires; but
    /// what is signed by a key that is believed no more ends at once.
    async fn decide_anew(&mut self) {
        let (Some(offered), Some(keys)) = (self.offered.clone(), &self.keys) else { return };
        let local = self.enforcer.0.local.clone();
        let announcement = match Announcement::verify(&offered.token, local.trust_domain(), keys) {
            Ok(announcement) => announcement,
            Err(error) => {
                error!(error = %Chain(&error), "the policies are not believed");
                local.withdraw();
                return self.enforcer.policies_changed();
            }
        };
        let known = local.policies().and_then(|known| known.renewed(announcement.clone()));
        let signed = match known {
            Some(signed) => Ok(signed),
            None => compile(announcement, offered).await,
        };
        match signed.and_then(|signed| Ok(local.adopt(signed)?)) {
            Ok(signed) => {
                let version = signed.announcement().version;
                info!(version, policy = %signed.announcement().policy, "deciding by these policies");
                self.enforcer.policies_changed();
            }
            Err(error) => error!(error = %Chain(&error), "the policies are not decided by"),
        }
    }
}

/// Compiles the policies; it may take a while.
async fn compile(
    announcement: Announcement,
    offered: Arc<SignedPolicies>,
) -> Result<Signed, Unusable> {
    let compiled = spawn_blocking(move || Signed::compile(announcement, &offered.policies)).await;
    Ok(compiled.map_err(|_stopping| Unusable::Stopping)??)
}

/// Why policies do not come into force.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    Signed(#[from] SignedError),
    #[error(transparent)]
    NotAdopted(#[from] NotAdopted),
    #[error("shutting down")]
    Stopping,
}

/// Why the agent is not heard any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("the agent refused or was lost")]
    Agent(#[from] Status),
    #[error("the agent ended the stream")]
    Closed,
    #[error("the agent's bundles do not have the trust domain's own")]
    NoBundle,
    #[error("the agent's bundle is malformed")]
    Bundle(#[from] json::ReadError),
    #[error(transparent)]
    Standings(#[from] Malformed),
}
