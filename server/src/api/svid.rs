//! SPIRE's SVID API: agents have the SVIDs of their workloads signed, the operator mints.

use claviger_core::entry::{Entry, EntryId};
use claviger_core::grant::{IssueX509, Requester};
use claviger_core::svid::{SvidTtl, X509SvidContents};
use claviger_proto::spire::server::svid::v1::{
    BatchNewWitsvidRequest, BatchNewWitsvidResponse, BatchNewX509svidRequest,
    BatchNewX509svidResponse, MintJwtsvidRequest, MintJwtsvidResponse, MintWitsvidRequest,
    MintWitsvidResponse, MintX509svidRequest, MintX509svidResponse, NewDownstreamX509caRequest,
    NewDownstreamX509caResponse, NewJwtsvidRequest, NewJwtsvidResponse, NewX509svidParams,
    batch_new_x509svid_response, svid_server,
};
use claviger_proto::spire::types;
use tonic::{Request, Response, Status, async_trait};

use super::issuance::{IssueError, to_wire};
use super::{Shared, caller, check_batch};
use crate::ca::csr::Csr;
use crate::registry::agents::Agent;

/// The most SVIDs signed in one call, as with SPIRE.
const MAX_SVIDS: usize = 500;

/// Serves `spire.api.server.svid.v1.SVID`.
#[derive(Clone, Debug)]
pub struct Service {
    /// What the services share.
    pub shared: Shared,
    /// How long an X.509-SVID lasts if its entry does not say.
    pub default_ttl: SvidTtl,
}

impl Service {
    /// What `agent` asks for, if one of its entries entitles it.
    fn act(&self, agent: &Agent, params: &NewX509svidParams) -> Result<(Entry, IssueX509), Status> {
        let id: EntryId = params
            .entry_id
            .parse()
            .map_err(|error| Status::invalid_argument(format!("entry_id: {error}")))?;
        let entry = self.shared.registry.authorized_entry(&agent.id, &id);
        // The same answer whether the entry belongs to somebody else or does not exist.
        let entry = entry.ok_or_else(|| Status::not_found("no such entry for this agent"))?;
        let entry = entry.to_entry();
        let csr = Csr::parse(&params.csr).map_err(IssueError::Csr)?;
        let contents = X509SvidContents {
            subject: entry.spiffe_id.clone(),
            dns_names: entry.dns_names.clone(),
            ttl: entry.x509_svid_ttl.unwrap_or(self.default_ttl),
        };
        let act = IssueX509 {
            contents,
            public_key: csr.into_spki(),
            requester: caller::requester(agent),
            entry: Some(id),
        };
        Ok((entry, act))
    }

    async fn batch(
        &self,
        agent: &Agent,
        params: Vec<NewX509svidParams>,
    ) -> Vec<batch_new_x509svid_response::Result> {
        let (mut plan, mut acts) = (Vec::with_capacity(params.len()), Vec::new());
        for params in params {
            plan.push(self.act(agent, &params).map(|(entry, act)| {
                acts.push(act);
                entry
            }));
        }
        let mut issued = self.shared.issuance.issue_all(acts).await.into_iter();
        let mut finish = |entry: Result<Entry, Status>| {
            let entry = entry?;
            let svid = issued.next().ok_or_else(|| Status::internal("an answer is missing"))??;
            Ok(types::X509svid { hint: entry.hint, ..to_wire(&entry.spiffe_id, &svid) })
        };
        plan.into_iter().map(|entry| result(finish(entry))).collect()
    }
}

fn result(svid: Result<types::X509svid, Status>) -> batch_new_x509svid_response::Result {
    let (status, svid) = match svid {
        Ok(svid) => (types::Status::default(), Some(svid)),
        Err(status) => (to_status(&status), None),
    };
    batch_new_x509svid_response::Result { status: Some(status), svid }
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
        let results = self.batch(&agent, params).await;
        Ok(Response::new(BatchNewX509svidResponse { results }))
    }

    async fn mint_x509svid(
        &self,
        request: Request<MintX509svidRequest>,
    ) -> Result<Response<MintX509svidResponse>, Status> {
        let requester = caller::operator(&request)?;
        let request = request.into_inner();
        let csr = Csr::parse(&request.csr).map_err(IssueError::Csr)?;
        let (subject, dns_names) = csr.names().map_err(IssueError::Csr)?;
        if subject.trust_domain() != self.shared.registry.trust_domain() {
            let text = format!("csr: `{subject}` is not in this server's trust domain");
            return Err(Status::invalid_argument(text));
        }
        if subject.is_trust_domain() || subject.is_reserved() {
            let text = format!("csr: `{subject}` is not a workload's identity");
            return Err(Status::invalid_argument(text));
        }
        let ttl = ttl(request.ttl)?.unwrap_or(self.default_ttl);
        let act = mint(subject.clone(), dns_names, ttl, csr, requester);
        let svid = self.shared.issuance.issue(act).await?;
        let svid = Some(to_wire(&subject, &svid));
        Ok(Response::new(MintX509svidResponse { svid }))
    }

    async fn mint_jwtsvid(
        &self,
        _request: Request<MintJwtsvidRequest>,
    ) -> Result<Response<MintJwtsvidResponse>, Status> {
        Err(only_x509())
    }

    async fn new_jwtsvid(
        &self,
        _request: Request<NewJwtsvidRequest>,
    ) -> Result<Response<NewJwtsvidResponse>, Status> {
        Err(only_x509())
    }

    async fn mint_witsvid(
        &self,
        _request: Request<MintWitsvidRequest>,
    ) -> Result<Response<MintWitsvidResponse>, Status> {
        Err(only_x509())
    }

    async fn batch_new_witsvid(
        &self,
        _request: Request<BatchNewWitsvidRequest>,
    ) -> Result<Response<BatchNewWitsvidResponse>, Status> {
        Err(only_x509())
    }

    async fn new_downstream_x509ca(
        &self,
        _request: Request<NewDownstreamX509caRequest>,
    ) -> Result<Response<NewDownstreamX509caResponse>, Status> {
        Err(Status::unimplemented("this version of Claviger has no downstream authorities"))
    }
}

fn mint(
    subject: claviger_core::id::SpiffeId,
    dns_names: Vec<claviger_core::svid::DnsName>,
    ttl: SvidTtl,
    csr: Csr,
    requester: Requester,
) -> IssueX509 {
    let contents = X509SvidContents { subject, dns_names, ttl };
    IssueX509 { contents, public_key: csr.into_spki(), requester, entry: None }
}

/// A lifetime in seconds, where 0 leaves it to us.
fn ttl(seconds: i32) -> Result<Option<SvidTtl>, Status> {
    if seconds == 0 {
        return Ok(None);
    }
    let malformed = |error: String| Status::invalid_argument(format!("ttl: {error}"));
    let seconds = u32::try_from(seconds).map_err(|error| malformed(error.to_string()))?;
    SvidTtl::try_from(seconds).map(Some).map_err(|error| malformed(error.to_string()))
}

fn only_x509() -> Status {
    Status::unimplemented("this version of Claviger issues X.509-SVIDs and one-time PSKs only")
}
