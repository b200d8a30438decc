//! Authorities of downstream servers, which sign for the same trust domain.

use claviger_core::entry::EntryId;
use claviger_core::grant::IssueX509Ca;
use claviger_core::id::SpiffeId;
use claviger_core::svid::SvidTtl;
use claviger_proto::spire::server::svid::v1::{
    NewDownstreamX509caRequest, NewDownstreamX509caResponse,
};
use tonic::Status;

use super::Service;
use crate::api::issuance::IssueError;
use crate::ca::csr::Csr;

/// What is signed lasts so many seconds, or as close to it as it may.
pub(super) fn lifetime(secs: u64) -> SvidTtl {
    let secs = u32::try_from(secs).unwrap_or(u32::MAX);
    let secs = secs.clamp(*SvidTtl::SECS.start(), *SvidTtl::SECS.end());
    SvidTtl::try_from(secs).unwrap_or(SvidTtl::HOUR)
}

impl Service {
    /// Signs an authority for `server`, which `entry` makes a downstream one.
    pub(super) async fn sign_downstream(
        &self,
        server: SpiffeId,
        entry: EntryId,
        request: &NewDownstreamX509caRequest,
    ) -> Result<NewDownstreamX509caResponse, Status> {
        let ttl = match u64::try_from(request.preferred_ttl) {
            Ok(0) => self.lifetimes.ca,
            Ok(secs) => lifetime(secs),
            Err(_negative) => {
                let asked = request.preferred_ttl;
                return Err(Status::invalid_argument(format!(
                    "preferred_ttl: {asked} is negative"
                )));
            }
        };
        let csr = Csr::parse(&request.csr).map_err(IssueError::Csr)?;
        let act = IssueX509Ca { server, public_key: csr.into_spki(), ttl, entry };
        let signed = self.shared.issuance.issue(act).await?;
        let bundle = self.shared.issuance.authority.bundle().borrow().clone();
        Ok(NewDownstreamX509caResponse {
            ca_cert_chain: signed.chain.iter().map(|der| der.to_vec()).collect(),
            x509_authorities: bundle.x509_authorities.iter().map(|one| one.der.to_vec()).collect(),
        })
    }
}
