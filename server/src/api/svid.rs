//! SPIRE's SVID API: agents have the SVIDs of their workloads signed, the operator mints.
//!
//! | to find | look in |
//! |---|---|
//! | SVIDs for agents, one entry each | here |
//! | authorities of downstream servers | `downstream` |
//! | what the operator mints, outside of registration | `mint` |

mod downstream;
mod mint;

use claviger_core::entry::{Entry, EntryId};
use claviger_core::grant::{IssueJwt, IssueWit, IssueX509};
use claviger_core::jose::PublicKey;
use claviger_core::svid::jwt::{Audience, JwtSvidContents};
use claviger_core::svid::wit::WitSvidContents;
use claviger_core::svid::{SvidTtl, X509SvidContents};
use claviger_proto::spire::server::svid::v1::{
    BatchNewWitsvidRequest, BatchNewWitsvidResponse, BatchNewX509svidRequest,
    BatchNewX509svidResponse, MintJwtsvidRequest, MintJwtsvidResponse, MintWitsvidRequest,
    MintWitsvidResponse, MintX509svidRequest, MintX509svidResponse, NewDownstreamX509caRequest,
    NewDownstreamX509caResponse, NewJwtsvidRequest, NewJwtsvidResponse, NewWitsvidParams,
    NewX509svidParams, batch_new_witsvid_response, batch_new_x509svid_response, svid_server,
};
use claviger_proto::spire::types;
use tonic::{Request, Response, Status, async_trait};

use super::issuance::acts::Issue;
use super::issuance::{IssueError, jwt_to_wire, to_wire, wit_to_wire};
use super::{Shared, caller, check_batch};
use crate::ca::csr::Csr;
use crate::ca::fresh_serial;
use crate::config::Config;
use crate::registry::agents::Agent;

/// The most SVIDs signed in one call, as with SPIRE.
const MAX_SVIDS: usize = 500;

/// Serves `spire.api.server.svid.v1.SVID`.
#[derive(Clone, Debug)]
pub struct Service {
    /// What the services share.
    pub shared: Shared,
    /// How long SVIDs last if nobody says.
    pub lifetimes: Lifetimes,
}

/// How long SVIDs last if neither their entry nor their request says.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    x509: SvidTtl,
    jwt: SvidTtl,
    wit: SvidTtl,
    ca: SvidTtl,
}

impl Lifetimes {
    /// As configured.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            x509: config.x509_svid_ttl,
            jwt: config.jwt_svid_ttl,
            wit: config.wit_svid_ttl,
            ca: downstream::lifetime(config.ca.ttl.as_secs()),
        }
    }

    /// What the X.509-SVID of `entry` says.
    pub(crate) fn x509(&self, entry: &Entry) -> X509SvidContents {
        X509SvidContents {
            subject: entry.spiffe_id.clone(),
            dns_names: entry.dns_names.clone(),
            ttl: entry.x509_svid_ttl.unwrap_or(self.x509),
        }
    }

    /// What a JWT-SVID of `entry` says.
    pub(crate) fn jwt(&self, entry: &Entry, audience: Audience) -> JwtSvidContents {
        JwtSvidContents {
            subject: entry.spiffe_id.clone(),
            audience,
            ttl: entry.jwt_svid_ttl.unwrap_or(self.jwt),
            jti: entry.jwt_jti,
        }
    }
}

impl Service {
    /// The entry that `agent` names, if it is one of its own.
    fn entry(&self, agent: &Agent, id: &str) -> Result<Entry, Status> {
        let id: EntryId =
            id.parse().map_err(|error| Status::invalid_argument(format!("entry_id: {error}")))?;
        let entry = self.shared.registry.authorized_entry(&agent.id, &id);
        // The same answer whether the entry belongs to somebody else or does not exist.
        let entry = entry.ok_or_else(|| Status::not_found("no such entry for this agent"))?;
        let entry = entry.to_entry();
        self.shared.check_fresh(&agent.id, &entry.spiffe_id)?;
        Ok(entry)
    }

    fn x509(&self, agent: &Agent, params: &NewX509svidParams) -> Planned<IssueX509> {
        let entry = self.entry(agent, &params.entry_id)?;
        let csr = Csr::parse(&params.csr).map_err(IssueError::Csr)?;
        let contents = self.lifetimes.x509(&entry);
        let (requester, public_key) = (caller::requester(agent), csr.into_spki());
        let serial = fresh_serial().map_err(IssueError::Sign)?;
        let entry_id = Some(entry.id.clone());
        let act = IssueX509 { contents, serial, public_key, requester, entry: entry_id };
        Ok((entry, act))
    }

    fn jwt(&self, agent: &Agent, request: NewJwtsvidRequest) -> Planned<IssueJwt> {
        let audience = audience(request.audience)?;
        let entry = self.entry(agent, &request.entry_id)?;
        let contents = self.lifetimes.jwt(&entry, audience);
        let requester = caller::requester(agent);
        let act = IssueJwt { contents, requester, entry: Some(entry.id.clone()) };
        Ok((entry, act))
    }

    fn wit(&self, agent: &Agent, params: &NewWitsvidParams) -> Planned<IssueWit> {
        let entry = self.entry(agent, &params.entry_id)?;
        let contents = WitSvidContents {
            subject: entry.spiffe_id.clone(),
            key: public_key(&params.public_key)?,
            ttl: self.lifetimes.wit,
        };
        let requester = caller::requester(agent);
        let act = IssueWit { contents, requester, entry: Some(entry.id.clone()) };
        Ok((entry, act))
    }

    /// Issues what was planned, each by itself. The answers are in the order of the plans.
    async fn batch<A: Issue>(
        &self,
        plans: Vec<Planned<A>>,
    ) -> Vec<Result<(Entry, A::Svid), Status>> {
        let (mut entries, mut acts) = (Vec::with_capacity(plans.len()), Vec::new());
        for plan in plans {
            entries.push(plan.map(|(entry, act)| {
                acts.push(act);
                entry
            }));
        }
        let mut issued = self.shared.issuance.issue_all(acts).await.into_iter();
        let mut finish = |entry: Result<Entry, Status>| {
            let entry = entry?;
            let svid = issued.next().ok_or_else(|| Status::internal("an answer is missing"))??;
            Ok((entry, svid))
        };
        entries.into_iter().map(&mut finish).collect()
    }
}

/// What is to be issued, and for which entry; or why nothing is.
type Planned<A> = Result<(Entry, A), Status>;

fn audience(names: Vec<String>) -> Result<Audience, Status> {
    Audience::new(names).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn public_key(spki: &[u8]) -> Result<PublicKey, Status> {
    PublicKey::from_spki(spki)
        .map_err(|error| Status::invalid_argument(format!("public_key: {error}")))
}

/// One item of a batch: its status, and what it holds if that is good.
fn item<T>(outcome: Result<T, Status>) -> (Option<types::Status>, Option<T>) {
    match outcome {
        Ok(value) => (Some(types::Status::default()), Some(value)),
        Err(status) => (Some(to_status(&status)), None),
    }
}

/// The status of one item of a batch.
pub(crate) fn to_status(status: &Status) -> types::Status {
    types::Status { code: status.code().into(), message: status.message().to_owned() }
}

#[async_trait]
impl svid_server::Svid for Service {
    async fn batch_new_x509svid(
        &self,
        request: Request<BatchNewX509svidRequest>,
    ) -> Result<Response<BatchNewX509svidResponse>, Status> {
        let agent = caller::agent(&self.shared, &request).await?;
        let params = request.into_inner().params;
        check_batch(params.len(), MAX_SVIDS)?;
        let plans = params.iter().map(|params| self.x509(&agent, params)).collect();
        let answer = |outcome: Result<(Entry, _), Status>| {
            let (status, svid) = item(outcome.map(|(entry, svid)| types::X509svid {
                hint: entry.hint,
                ..to_wire(&entry.spiffe_id, &svid)
            }));
            batch_new_x509svid_response::Result { status, svid }
        };
        let results = self.batch(plans).await.into_iter().map(answer).collect();
        Ok(Response::new(BatchNewX509svidResponse { results }))
    }

    async fn new_jwtsvid(
        &self,
        request: Request<NewJwtsvidRequest>,
    ) -> Result<Response<NewJwtsvidResponse>, Status> {
        let agent = caller::agent(&self.shared, &request).await?;
        let (entry, act) = self.jwt(&agent, request.into_inner())?;
        let svid = self.shared.issuance.issue(act).await?;
        let svid = types::Jwtsvid { hint: entry.hint, ..jwt_to_wire(&entry.spiffe_id, svid) };
        Ok(Response::new(NewJwtsvidResponse { svid: Some(svid) }))
    }

    async fn batch_new_witsvid(
        &self,
        request: Request<BatchNewWitsvidRequest>,
    ) -> Result<Response<BatchNewWitsvidResponse>, Status> {
        let agent = caller::agent(&self.shared, &request).await?;
        let params = request.into_inner().params;
        check_batch(params.len(), MAX_SVIDS)?;
        let plans = params.iter().map(|params| self.wit(&agent, params)).collect();
        let answer = |outcome: Result<(Entry, _), Status>| {
            let (status, svid) = item(outcome.map(|(entry, svid)| types::Witsvid {
                hint: entry.hint,
                ..wit_to_wire(&entry.spiffe_id, svid)
            }));
            batch_new_witsvid_response::Result { status, svid }
        };
        let results = self.batch(plans).await.into_iter().map(answer).collect();
        Ok(Response::new(BatchNewWitsvidResponse { results }))
    }

    async fn mint_x509svid(
        &self,
        request: Request<MintX509svidRequest>,
    ) -> Result<Response<MintX509svidResponse>, Status> {
        let requester = caller::administrator(&self.shared, &request)?;
        let svid = self.mint_x509(request.get_ref(), requester).await?;
        Ok(Response::new(MintX509svidResponse { svid: Some(svid) }))
    }

    async fn mint_jwtsvid(
        &self,
        request: Request<MintJwtsvidRequest>,
    ) -> Result<Response<MintJwtsvidResponse>, Status> {
        let requester = caller::administrator(&self.shared, &request)?;
        let svid = self.mint_jwt(request.into_inner(), requester).await?;
        Ok(Response::new(MintJwtsvidResponse { svid: Some(svid) }))
    }

    async fn mint_witsvid(
        &self,
        request: Request<MintWitsvidRequest>,
    ) -> Result<Response<MintWitsvidResponse>, Status> {
        let requester = caller::administrator(&self.shared, &request)?;
        let svid = self.mint_wit(request.into_inner(), requester).await?;
        Ok(Response::new(MintWitsvidResponse { svid: Some(svid) }))
    }

    async fn new_downstream_x509ca(
        &self,
        request: Request<NewDownstreamX509caRequest>,
    ) -> Result<Response<NewDownstreamX509caResponse>, Status> {
        let (server, entry) = caller::downstream(&self.shared, &request)?;
        let answer = self.sign_downstream(server, entry, request.get_ref()).await?;
        Ok(Response::new(answer))
    }
}
