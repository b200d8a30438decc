//! SPIRE's agent API: nodes attest and renew, the operator admits, lists and throws out.

mod attest;
mod filter;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use claviger_attestors::join_token::JoinToken;
use claviger_core::entry::Entry;
use claviger_core::grant::{IssueX509, Requester};
use claviger_core::id::SpiffeId;
use claviger_core::selector::{Selector, Selectors};
use claviger_core::svid::{SvidTtl, X509SvidContents};
use claviger_core::time::UnixTime;
use claviger_proto::convert::{ids, times};
use claviger_proto::spire::server::agent::v1::{
    AttestAgentRequest, BanAgentRequest, CountAgentsRequest, CountAgentsResponse,
    CreateJoinTokenRequest, DeleteAgentRequest, GetAgentRequest, ListAgentsRequest,
    ListAgentsResponse, PostStatusRequest, PostStatusResponse, RenewAgentRequest,
    RenewAgentResponse, agent_server,
};
use claviger_proto::spire::types;
use claviger_runtime::slots::Slots;
use claviger_runtime::telemetry::Chain;
use claviger_runtime::tls::TlsPeer;
use tonic::{Request, Response, Status, Streaming, async_trait};
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::issuance::{IssueError, to_wire};
use super::{Shared, caller, count, entry, malformed, not_committed, page_size};
use crate::ca::csr::Csr;
use crate::ca::{SignedSvid, fresh_serial};
use crate::journal::Change;
use crate::ledger::LedgerError;
use crate::ledger::token::NewToken;
use crate::registry::agents::{Agent, AgentSvid};
use crate::registry::{AuthenticateError, CreateWithError};
use crate::verifiers::Verifiers;
use filter::{Filter, select};

/// Attestations at a time. Each takes well under a millisecond of work once its evidence is there;
/// the rest is waiting for strangers to send it.
const ATTESTING: usize = 1_024;

/// Of which one address may have so many: a whole rack behind one router.
const ATTESTING_PER_IP: usize = 128;

/// Serves `spire.api.server.agent.v1.Agent`.
#[derive(Clone, Debug)]
pub struct Service {
    shared: Shared,
    /// The kinds of evidence that admit a node.
    verifiers: Verifiers,
    /// How long an agent's SVID lasts.
    ttl: SvidTtl,
    /// Strangers at the door.
    attesting: Slots<IpAddr>,
}

#[async_trait]
impl agent_server::Agent for Service {
    type AttestAgentStream = attest::Answers;

    /// For everybody: who calls is what is to be found out.
    async fn attest_agent(
        &self,
        request: Request<Streaming<AttestAgentRequest>>,
    ) -> Result<Response<Self::AttestAgentStream>, Status> {
        // On the admin socket there is no address; its callers are few and known.
        let peer = request.extensions().get::<TlsPeer>();
        let caller = peer.map(|peer| peer.addr().ip().to_canonical());
        let address = caller.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let slot = self.attesting.take(address);
        let slot = slot.map_err(|full| {
            debug!(%address, %full, "attestation refused");
            Status::resource_exhausted("too many nodes are attesting; try again in a moment")
        })?;
        Ok(Response::new(attest::attest(self.clone(), request.into_inner(), caller, slot)))
    }

    async fn renew_agent(
        &self,
        request: Request<RenewAgentRequest>,
    ) -> Result<Response<RenewAgentResponse>, Status> {
        let agent = caller::agent(&self.shared, &request).await?;
        if agent.reattestable {
            return Err(caller::must_reattest());
        }
        let params = request.into_inner().params.unwrap_or_default();
        let csr = Csr::parse(&params.csr).map_err(IssueError::Csr)?;
        let (svid, next) = self.issue(&agent.id, csr, caller::requester(&agent)).await?;
        self.shared.registry.renew(&agent.id, next).await.map_err(|error| unregistered(&error))?;
        Ok(Response::new(RenewAgentResponse { svid: Some(to_wire(&agent.id, &svid)) }))
    }

    async fn count_agents(
        &self,
        request: Request<CountAgentsRequest>,
    ) -> Result<Response<CountAgentsResponse>, Status> {
        caller::administrator(&self.shared, &request)?;
        let registry = &self.shared.registry;
        let number = match request.into_inner().filter {
            None => registry.agent_count(),
            Some(wire) => {
                let filter = Filter::try_from(wire)?;
                registry.agents(None, usize::MAX, |agent| filter.holds(agent)).len()
            }
        };
        Ok(Response::new(CountAgentsResponse { count: count(number) }))
    }

    async fn list_agents(
        &self,
        request: Request<ListAgentsRequest>,
    ) -> Result<Response<ListAgentsResponse>, Status> {
        caller::administrator(&self.shared, &request)?;
        let request = request.into_inner();
        let size = page_size(request.page_size)?;
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(
                token
                    .parse::<SpiffeId>()
                    .map_err(|error| Status::invalid_argument(format!("page_token: {error}")))?,
            ),
        };
        let filter = request.filter.map(Filter::try_from).transpose()?;
        let wanted = |agent: &Agent| filter.as_ref().is_none_or(|filter| filter.holds(agent));

        let more = size.saturating_add(1);
        let mut page = self.shared.registry.agents(after.as_ref(), more, wanted);
        let is_last = page.len() <= size;
        page.truncate(size);
        let last = page.last().map(|agent| agent.id.to_string()).unwrap_or_default();
        let next_page_token = if is_last { String::new() } else { last };
        let mask = request.output_mask.as_ref();
        let agents = page.iter().map(|agent| select(agent, mask)).collect();
        Ok(Response::new(ListAgentsResponse { agents, next_page_token }))
    }

    async fn get_agent(
        &self,
        request: Request<GetAgentRequest>,
    ) -> Result<Response<types::Agent>, Status> {
        caller::administrator(&self.shared, &request)?;
        let request = request.into_inner();
        let id = ids::required(request.id, "id").map_err(|error| malformed(&error))?;
        let agent = self.shared.registry.agent(&id);
        let agent = agent.ok_or_else(|| Status::not_found(format!("there is no agent `{id}`")))?;
        Ok(Response::new(select(&agent, request.output_mask.as_ref())))
    }

    async fn delete_agent(
        &self,
        request: Request<DeleteAgentRequest>,
    ) -> Result<Response<()>, Status> {
        let requester = caller::administrator(&self.shared, &request)?;
        let id = ids::required(request.into_inner().id, "id").map_err(|error| malformed(&error))?;
        let evicted = self.shared.registry.evict(&id, requester).await;
        evicted.map_err(|error| unregistered(&error))?;
        info!(%id, "agent evicted");
        Ok(Response::new(()))
    }

    async fn ban_agent(&self, request: Request<BanAgentRequest>) -> Result<Response<()>, Status> {
        let requester = caller::administrator(&self.shared, &request)?;
        let id = ids::required(request.into_inner().id, "id").map_err(|error| malformed(&error))?;
        let banned = self.shared.registry.ban(&id, requester).await;
        banned.map_err(|error| unregistered(&error))?;
        info!(%id, "agent banned");
        Ok(Response::new(()))
    }

    async fn create_join_token(
        &self,
        request: Request<CreateJoinTokenRequest>,
    ) -> Result<Response<types::JoinToken>, Status> {
        let requester = caller::administrator(&self.shared, &request)?;
        let request = request.into_inner();
        let ttl = u64::try_from(request.ttl).ok().filter(|ttl| 0 < *ttl).ok_or_else(|| {
            Status::invalid_argument(format!("ttl: {} is not a number of seconds", request.ttl))
        })?;
        let text = match request.token {
            text if text.is_empty() => Uuid::new_v4().to_string(),
            text => text,
        };
        let token: JoinToken =
            text.parse().map_err(|error| Status::invalid_argument(format!("token: {error}")))?;
        let alias =
            ids::optional(request.agent_id, "agent_id").map_err(|error| malformed(&error))?;
        let token = Arc::new(token);
        let ttl = Duration::from_secs(ttl);
        let expires_at = self.create(Arc::clone(&token), ttl, alias, requester).await?;
        let value = token.expose().to_owned();
        Ok(Response::new(types::JoinToken { value, expires_at: times::to_wire(expires_at) }))
    }

    async fn post_status(
        &self,
        request: Request<PostStatusRequest>,
    ) -> Result<Response<PostStatusResponse>, Status> {
        caller::agent(&self.shared, &request).await?;
        Ok(Response::new(PostStatusResponse {}))
    }
}

impl Service {
    /// The service over what the services share, which believes `verifiers`. Agents' SVIDs last for
    /// `ttl`.
    #[must_use]
    pub fn new(shared: Shared, verifiers: Verifiers, ttl: SvidTtl) -> Self {
        let attesting = Slots::new(ATTESTING, ATTESTING_PER_IP);
        Self { shared, verifiers, ttl, attesting }
    }

    /// Issues an SVID to the agent `id`, and says by what it will be known.
    async fn issue(
        &self,
        id: &SpiffeId,
        csr: Csr,
        requester: Requester,
    ) -> Result<(SignedSvid, AgentSvid), IssueError> {
        let key = csr.key();
        let contents =
            X509SvidContents { subject: id.clone(), dns_names: Vec::new(), ttl: self.ttl };
        let (serial, public_key) = (fresh_serial()?, csr.into_spki());
        let act = IssueX509 { contents, serial, public_key, requester, entry: None };
        let svid = self.shared.issuance.issue(act).await?;
        let known = AgentSvid { serial: svid.serial, key, not_after: svid.validity.not_after };
        Ok((svid, known))
    }

    /// Makes the token, and with it the entry that gives its agent the identity `alias`.
    async fn create(
        &self,
        token: Arc<JoinToken>,
        ttl: Duration,
        alias: Option<SpiffeId>,
        requester: Requester,
    ) -> Result<UnixTime, Status> {
        let (ledger, registry) = (self.shared.storage.ledger.clone(), &self.shared.registry);
        let entry = alias.as_ref().map(|alias| {
            let agent = token.agent_id(registry.trust_domain());
            let agent = agent.map_err(|e| Status::invalid_argument(format!("token: {e}")))?;
            alias_entry(&agent, alias, self.shared.now())
        });
        let author = requester.clone();
        let make = move |change| async move {
            let new = NewToken { token: &token, ttl, agent_id: alias, requester };
            ledger.create_token(new, change).await
        };
        let Some(entry) = entry.transpose()? else {
            return make(Change::default()).await.map_err(|error| not_created(&error));
        };
        match registry.create_with(entry, &author, make).await {
            Ok(expires_at) => Ok(expires_at),
            Err(CreateWithError::Refused(refused)) => Err(entry::refusal(&refused)),
            Err(CreateWithError::Commit(error)) => Err(not_created(&error)),
            Err(CreateWithError::Stopped(error)) => Err(not_committed(&error)),
        }
    }
}

/// The entry by which an agent is known under another name, as SPIRE makes it.
fn alias_entry(agent: &SpiffeId, alias: &SpiffeId, now: UnixTime) -> Result<Entry, Status> {
    let selector = Selector::new("spiffe_id", &agent.to_string())
        .map_err(|error| Status::invalid_argument(format!("token: {error}")))?;
    let wire = types::Entry {
        spiffe_id: Some(alias.into()),
        parent_id: Some(agent.into()),
        selectors: vec![(&selector).into()],
        ..types::Entry::default()
    };
    claviger_proto::convert::entries::create(wire, entry::fresh_id, now)
        .map_err(|error| malformed(&error))
}

/// What the operator, or the agent itself, is told.
fn unregistered(error: &AuthenticateError) -> Status {
    match error {
        AuthenticateError::NotAnAgent(why) => Status::not_found(why.to_string()),
        AuthenticateError::Commit(error) => not_committed(error),
    }
}

/// What the operator is told about a token that was not made.
fn not_created(error: &LedgerError) -> Status {
    match error {
        LedgerError::Lifetime { longest, .. } => Status::invalid_argument(format!(
            "ttl: a join token lives for at most {longest} seconds"
        )),
        LedgerError::Full { .. } => Status::resource_exhausted(error.to_string()),
        LedgerError::Exists => Status::already_exists("token: it exists already"),
        LedgerError::Commit(error) => not_committed(error),
        LedgerError::Fenced
        | LedgerError::Unmet
        | LedgerError::Random
        | LedgerError::TooManySeries(_)
        | LedgerError::Superseded { .. }
        | LedgerError::Overtaken
        | LedgerError::Store(_) => {
            warn!(error = %Chain(error), "join token not made");
            Status::unavailable(error.to_string())
        }
    }
}

/// The facts that make an agent: what its evidence proved.
fn facts(selectors: &Selectors) -> Vec<types::Selector> {
    selectors.iter().map(Into::into).collect()
}
