//! One-time PSKs, on behalf of the workloads of an agent.
//!
//! | to find | look in |
//! |---|---|
//! | redeeming, and what agents say and are told | here |
//! | issuing, for agents and for programs without one | `issue` |
//!
//! A redemption checks, in this order: the agent, the key's existence, that the acceptor is the one
//! the key names, that its client is still registered, and the policy of the moment; then the ledger
//! verifies the binder and spends the key, durably, before the answer leaves. Every refusal looks
//! the same.

mod issue;

use claviger_core::grant::{PskProof, RedeemPsk};
use claviger_core::id::SpiffeId;
use claviger_core::psk::identity::WireIdentity;
use claviger_core::psk::{PskTtl, SeriesEpoch};
use claviger_proto::NEWEST_EPOCH;
use claviger_proto::claviger::agent::v1::{
    IssuePskRequest, IssuePskResponse, RedeemPskRequest, RedeemPskResponse, agent_psk_server,
};
use claviger_runtime::telemetry::Chain;
use metrics::counter;
use tonic::{Request, Response, Status, async_trait};
use tracing::{debug, info, warn};

use super::fresh::Stale;
use super::{Shared, caller, not_committed};
use crate::ledger::LedgerError;
use crate::ledger::psk::{AttemptId, Redeemed, Refused};
use crate::metrics as names;
use crate::policy::Denied;
use crate::registry::agents::Agent;
pub(crate) use issue::{Asked, IssueError, Issued, Issuer};

/// The most identities that one acceptor can have.
const MAX_ACCEPTORS: usize = 64;

/// Serves `claviger.agent.v1.AgentPsk`.
#[derive(Clone, Debug)]
pub struct Service {
    issuer: Issuer,
}

#[async_trait]
impl agent_psk_server::AgentPsk for Service {
    async fn issue_psk(
        &self,
        request: Request<IssuePskRequest>,
    ) -> Result<Response<IssuePskResponse>, Status> {
        let agent = caller::agent(self.shared(), &request).await?;
        let issued = self.issue(&agent, request.into_inner()).await;
        let outcome = if issued.is_ok() { "issued" } else { "refused" };
        counter!(names::PSKS_ISSUED, "outcome" => outcome).increment(1);
        Ok(issued.map(Response::new)?)
    }

    async fn redeem_psk(
        &self,
        request: Request<RedeemPskRequest>,
    ) -> Result<Response<RedeemPskResponse>, Status> {
        let agent = caller::agent(self.shared(), &request).await?;
        let redeemed = self.redeem(&agent, request.into_inner()).await;
        let outcome = if redeemed.is_ok() { "redeemed" } else { "refused" };
        counter!(names::PSKS_REDEEMED, "outcome" => outcome).increment(1);
        Ok(redeemed.map(Response::new)?)
    }
}

impl Service {
    /// The service that issues by `issuer`.
    #[must_use]
    pub(crate) const fn new(issuer: Issuer) -> Self {
        Self { issuer }
    }

    const fn shared(&self) -> &Shared {
        &self.issuer.shared
    }

    async fn issue(
        &self,
        agent: &Agent,
        request: IssuePskRequest,
    ) -> Result<IssuePskResponse, IssueError> {
        let asked = asked(&request)?;
        if !self.shared().registry.is_entitled(&agent.id, &asked.client) {
            return Err(IssueError::NotEntitled(asked.client));
        }
        self.shared().check_fresh(&agent.id, &asked.client)?;
        let issued = self.issuer.issue(asked, caller::requester(agent)).await?;
        Ok(IssuePskResponse {
            identity: issued.identity.to_string(),
            base: issued.base.0.expose().to_vec(),
            not_after: issued.binding.not_after.as_secs(),
        })
    }

    async fn redeem(
        &self,
        agent: &Agent,
        request: RedeemPskRequest,
    ) -> Result<RedeemPskResponse, RedeemError> {
        let offer = Offer::try_from(request)?;
        let redeemed = self.spend(agent, &offer).await;
        if redeemed.as_ref().is_err_and(|error| !error.did_the_work()) {
            self.shared().storage.ledger.refuse_dummy(offer.identity, &offer.proof);
        }
        let Redeemed { base, binding } = redeemed?;
        let (series, epoch) = SeriesEpoch::to_wire(binding.series.as_ref());
        Ok(RedeemPskResponse {
            base: base.0.expose().to_vec(),
            client_id: binding.client.to_string(),
            server_id: binding.server.to_string(),
            purpose: binding.purpose.to_string(),
            not_after: binding.not_after.as_secs(),
            run: binding.run.map(String::from).unwrap_or_default(),
            series,
            epoch,
        })
    }

    async fn spend(&self, agent: &Agent, offer: &Offer) -> Result<Redeemed, RedeemError> {
        // An agent that subscribes shows how much of the log it remembers. Before that, this server
        // may be a restored backup that has forgotten whom it gave the key to.
        if !self.shared().registry.is_subscribed(&agent.id) {
            return Err(RedeemError::NotSubscribed);
        }
        let ledger = &self.shared().storage.ledger;
        let found = ledger.find(offer.identity).await?;
        let binding = found.binding().clone();
        if binding.bits.is_some() {
            return Err(RedeemError::NoConnection);
        }
        let is_acceptor = offer.acceptors.contains(&binding.server)
            && self.shared().registry.is_entitled(&agent.id, &binding.server);
        if !is_acceptor {
            return Err(RedeemError::OtherAcceptor(binding.server));
        }
        self.shared().check_fresh(&agent.id, &binding.server)?;
        if !self.shared().registry.is_registered(&binding.client) {
            return Err(RedeemError::UnknownClient(binding.client));
        }
        let requester = caller::requester(agent);
        let act = RedeemPsk { binding, requester, proof: offer.proof };
        let grant = self.shared().policy.redeem_psk(act)?;
        Ok(ledger.redeem(found, grant, offer.attempt).await?)
    }
}

/// What an agent asks for.
fn asked(wire: &IssuePskRequest) -> Result<Asked, IssueError> {
    fn bad(field: &'static str, error: &impl ToString) -> IssueError {
        IssueError::Malformed { field, why: error.to_string() }
    }
    let ttl = match wire.ttl_seconds {
        0 => PskTtl::default(),
        seconds => PskTtl::try_from(seconds).map_err(|error| bad("ttl_seconds", &error))?,
    };
    Ok(Asked {
        client: wire.client_id.parse().map_err(|error| bad("client_id", &error))?,
        server: wire.server_id.parse().map_err(|error| bad("server_id", &error))?,
        purpose: wire.purpose.parse().map_err(|error| bad("purpose", &error))?,
        ttl,
        run: None,
        series: SeriesEpoch::from_wire(&wire.series, wire.epoch)
            .map_err(|error| bad(error.field(), &error))?,
        bits: None,
    })
}

/// What an acceptor presents.
#[derive(Debug)]
struct Offer {
    attempt: AttemptId,
    identity: WireIdentity,
    proof: PskProof,
    acceptors: Vec<SpiffeId>,
}

impl TryFrom<RedeemPskRequest> for Offer {
    type Error = RedeemError;

    fn try_from(wire: RedeemPskRequest) -> Result<Self, RedeemError> {
        let malformed = |field| move || RedeemError::Malformed(field);
        let attempt = wire.attempt_id.try_into().ok().ok_or_else(malformed("attempt_id"))?;
        let identity = wire.identity.parse().ok().ok_or_else(malformed("identity"))?;
        if MAX_ACCEPTORS < wire.acceptor_ids.len() {
            return Err(RedeemError::Malformed("acceptor_ids"));
        }
        let acceptors = wire.acceptor_ids.iter().map(|id| id.parse().ok()).collect::<Option<_>>();
        let proof = if wire.transcript_hash.is_empty() && wire.binder.is_empty() {
            PskProof::IdentityOnly
        } else {
            let transcript = wire.transcript_hash.try_into().ok();
            PskProof::Binder {
                transcript: transcript.ok_or_else(malformed("transcript_hash"))?,
                binder: wire.binder.try_into().ok().ok_or_else(malformed("binder"))?,
            }
        };
        Ok(Self {
            attempt: AttemptId::from_bytes(attempt),
            identity,
            proof,
            acceptors: acceptors.ok_or_else(malformed("acceptor_ids"))?,
        })
    }
}

impl From<IssueError> for Status {
    fn from(error: IssueError) -> Self {
        info!(error = %Chain(&error), "PSK not issued");
        match &error {
            IssueError::Malformed { .. } => Self::invalid_argument(error.to_string()),
            IssueError::ToItself(_) => Self::invalid_argument(format!("server_id: {error}")),
            // One answer, so that nobody can find out who is registered.
            IssueError::NotEntitled(_) | IssueError::UnknownPeer(_) | IssueError::Denied(_) => {
                Self::permission_denied("not permitted")
            }
            IssueError::Overload(overload) => Self::from(*overload),
            IssueError::Stale(_) => Self::unavailable(error.to_string()),
            IssueError::Ledger(LedgerError::Commit(error)) => not_committed(error),
            IssueError::Ledger(LedgerError::Full { .. }) => {
                Self::resource_exhausted("too many PSKs are waiting to be used; try again later")
            }
            IssueError::Ledger(LedgerError::TooManySeries(_)) => Self::resource_exhausted(
                "too many series of keys; one ends when it was not used for a week",
            ),
            IssueError::Ledger(LedgerError::Superseded { newest }) => {
                let why = format!(
                    "epoch {newest} of the series has begun, so there are no more keys of earlier ones"
                );
                let mut status = Self::failed_precondition(why);
                status.metadata_mut().insert(NEWEST_EPOCH, newest.get().into());
                status
            }
            IssueError::Ledger(_) => Self::unavailable("try again"),
        }
    }
}

/// Why a PSK was not redeemed.
#[derive(Debug, thiserror::Error)]
enum RedeemError {
    /// A field is wrong.
    #[error("{0} is malformed")]
    Malformed(&'static str),
    /// The agent has not shown what it remembers.
    #[error("the agent has to subscribe first")]
    NotSubscribed,
    /// The key is for somebody else.
    #[error("the PSK is for `{0}`, which the acceptor is not")]
    OtherAcceptor(SpiffeId),
    /// The key is for two machines, and not for a connection.
    #[error("the key is not for a connection")]
    NoConnection,
    /// The agent may speak of another acceptor than there is now.
    #[error(transparent)]
    Stale(#[from] Stale),
    /// The client's entry was deleted, or has ended, since the key was issued.
    #[error("no entry gives anybody the identity `{0}` any more")]
    UnknownClient(SpiffeId),
    /// The policy says no.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The ledger says no, or says nothing.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl RedeemError {
    /// Whether a binder was verified on the way to this refusal.
    fn did_the_work(&self) -> bool {
        match self {
            Self::Malformed(_)
            | Self::NotSubscribed
            | Self::OtherAcceptor(_)
            | Self::NoConnection
            | Self::Stale(_)
            | Self::UnknownClient(_)
            | Self::Denied(_) => false,
            Self::Refused(refused) => !matches!(refused, Refused::Unknown),
        }
    }
}

impl From<RedeemError> for Status {
    fn from(error: RedeemError) -> Self {
        match &error {
            RedeemError::Refused(refused) if refused.is_unavailable() => {
                warn!(error = %Chain(&error), "PSK not redeemed");
                Self::unavailable("try again")
            }
            // That is all that an agent hears until it has subscribed anew.
            RedeemError::NotSubscribed | RedeemError::Stale(_) => {
                debug!(error = %Chain(&error), "PSK not redeemed");
                Self::unavailable("try again")
            }
            RedeemError::Refused(_)
            | RedeemError::Malformed(_)
            | RedeemError::OtherAcceptor(_)
            | RedeemError::NoConnection
            | RedeemError::UnknownClient(_)
            | RedeemError::Denied(_) => {
                info!(error = %Chain(&error), "PSK refused");
                Self::permission_denied("refused")
            }
        }
    }
}
