//! What the operator mints: SVIDs for workloads of the trust domain, outside of registration.

use claviger_core::grant::{IssueJwt, IssueWit, IssueX509, Requester};
use claviger_core::id::SpiffeId;
use claviger_core::svid::jwt::JwtSvidContents;
use claviger_core::svid::wit::WitSvidContents;
use claviger_core::svid::{SvidTtl, X509SvidContents};
use claviger_proto::convert::ids;
use claviger_proto::spire::server::svid::v1::{
    MintJwtsvidRequest, MintWitsvidRequest, MintX509svidRequest,
};
use claviger_proto::spire::types;
use tonic::Status;

use super::{Service, audience, public_key};
use crate::api::issuance::{IssueError, jwt_to_wire, to_wire, wit_to_wire};
use crate::api::malformed;
use crate::ca::csr::Csr;
use crate::ca::fresh_serial;

impl Service {
    pub(super) async fn mint_x509(
        &self,
        request: &MintX509svidRequest,
        requester: Requester,
    ) -> Result<types::X509svid, Status> {
        let csr = Csr::parse(&request.csr).map_err(IssueError::Csr)?;
        let (subject, dns_names) = csr.names().map_err(IssueError::Csr)?;
        self.check_workload("csr", &subject)?;
        let ttl = ttl(request.ttl)?.unwrap_or(self.lifetimes.x509);
        let contents = X509SvidContents { subject: subject.clone(), dns_names, ttl };
        let serial = fresh_serial().map_err(IssueError::Sign)?;
        let public_key = csr.into_spki();
        let act = IssueX509 { contents, serial, public_key, requester, entry: None };
        let svid = self.shared.issuance.issue(act).await?;
        Ok(to_wire(&subject, &svid))
    }

    pub(super) async fn mint_jwt(
        &self,
        request: MintJwtsvidRequest,
        requester: Requester,
    ) -> Result<types::Jwtsvid, Status> {
        let audience = audience(request.audience)?;
        let subject = self.subject(request.id)?;
        let ttl = ttl(request.ttl)?.unwrap_or(self.lifetimes.jwt);
        let contents = JwtSvidContents { subject: subject.clone(), audience, ttl, jti: false };
        let act = IssueJwt { contents, requester, entry: None };
        Ok(jwt_to_wire(&subject, self.shared.issuance.issue(act).await?))
    }

    pub(super) async fn mint_wit(
        &self,
        request: MintWitsvidRequest,
        requester: Requester,
    ) -> Result<types::Witsvid, Status> {
        let subject = self.subject(request.id)?;
        let key = public_key(&request.public_key)?;
        let ttl = ttl(request.ttl)?.unwrap_or(self.lifetimes.wit);
        let contents = WitSvidContents { subject: subject.clone(), key, ttl };
        let act = IssueWit { contents, requester, entry: None };
        Ok(wit_to_wire(&subject, self.shared.issuance.issue(act).await?))
    }

    fn subject(&self, id: Option<types::Spiffeid>) -> Result<SpiffeId, Status> {
        let id = ids::required(id, "id").map_err(|error| malformed(&error))?;
        self.check_workload("id", &id)?;
        Ok(id)
    }

    /// Only workloads of the trust domain are given what an operator asks for.
    fn check_workload(&self, field: &str, subject: &SpiffeId) -> Result<(), Status> {
        if subject.trust_domain() != self.shared.registry.trust_domain() {
            let text = format!("{field}: `{subject}` is not in this server's trust domain");
            return Err(Status::invalid_argument(text));
        }
        if subject.is_trust_domain() || subject.is_reserved() {
            let text = format!("{field}: `{subject}` is not a workload's identity");
            return Err(Status::invalid_argument(text));
        }
        Ok(())
    }
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
