//! SPIRE's bundle API: what others need to verify our SVIDs.

use claviger_proto::spire::server::bundle::v1::{
    AppendBundleRequest, BatchCreateFederatedBundleRequest, BatchCreateFederatedBundleResponse,
    BatchDeleteFederatedBundleRequest, BatchDeleteFederatedBundleResponse,
    BatchSetFederatedBundleRequest, BatchSetFederatedBundleResponse,
    BatchUpdateFederatedBundleRequest, BatchUpdateFederatedBundleResponse, CountBundlesRequest,
    CountBundlesResponse, GetBundleRequest, GetFederatedBundleRequest, ListFederatedBundlesRequest,
    ListFederatedBundlesResponse, PublishJwtAuthorityRequest, PublishJwtAuthorityResponse,
    PublishWitAuthorityRequest, PublishWitAuthorityResponse, bundle_server,
};
use claviger_proto::spire::types;
use tonic::{Request, Response, Status, async_trait};

use super::{Shared, caller};

/// Serves `spire.api.server.bundle.v1.Bundle`.
#[derive(Clone, Debug)]
pub struct Service {
    /// What the services share.
    pub shared: Shared,
}

#[async_trait]
impl bundle_server::Bundle for Service {
    /// For everybody: the bundle holds public keys only.
    async fn get_bundle(
        &self,
        request: Request<GetBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        let bundle = self.shared.issuance.authority.bundle().borrow().clone();
        let bundle = types::Bundle::from(&*bundle);
        Ok(Response::new(select(bundle, request.into_inner().output_mask)))
    }

    async fn count_bundles(
        &self,
        request: Request<CountBundlesRequest>,
    ) -> Result<Response<CountBundlesResponse>, Status> {
        caller::operator(&request)?;
        Ok(Response::new(CountBundlesResponse { count: 1 }))
    }

    async fn list_federated_bundles(
        &self,
        request: Request<ListFederatedBundlesRequest>,
    ) -> Result<Response<ListFederatedBundlesResponse>, Status> {
        caller::operator(&request)?;
        Ok(Response::new(ListFederatedBundlesResponse::default()))
    }

    async fn get_federated_bundle(
        &self,
        request: Request<GetFederatedBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        if request.extensions().get::<claviger_runtime::unix::Peer>().is_some() {
            caller::operator(&request)?;
        } else {
            caller::agent(&self.shared, &request).await?;
        }
        Err(Status::not_found("there is no bundle of another trust domain"))
    }

    async fn append_bundle(
        &self,
        _request: Request<AppendBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        Err(no_upstream())
    }

    async fn publish_jwt_authority(
        &self,
        _request: Request<PublishJwtAuthorityRequest>,
    ) -> Result<Response<PublishJwtAuthorityResponse>, Status> {
        Err(no_upstream())
    }

    async fn publish_wit_authority(
        &self,
        _request: Request<PublishWitAuthorityRequest>,
    ) -> Result<Response<PublishWitAuthorityResponse>, Status> {
        Err(no_upstream())
    }

    async fn batch_create_federated_bundle(
        &self,
        _request: Request<BatchCreateFederatedBundleRequest>,
    ) -> Result<Response<BatchCreateFederatedBundleResponse>, Status> {
        Err(no_federation())
    }

    async fn batch_update_federated_bundle(
        &self,
        _request: Request<BatchUpdateFederatedBundleRequest>,
    ) -> Result<Response<BatchUpdateFederatedBundleResponse>, Status> {
        Err(no_federation())
    }

    async fn batch_set_federated_bundle(
        &self,
        _request: Request<BatchSetFederatedBundleRequest>,
    ) -> Result<Response<BatchSetFederatedBundleResponse>, Status> {
        Err(no_federation())
    }

    async fn batch_delete_federated_bundle(
        &self,
        _request: Request<BatchDeleteFederatedBundleRequest>,
    ) -> Result<Response<BatchDeleteFederatedBundleResponse>, Status> {
        Err(no_federation())
    }
}

/// Those fields of the bundle that the mask selects; all of them without a mask.
fn select(bundle: types::Bundle, mask: Option<types::BundleMask>) -> types::Bundle {
    let Some(mask) = mask else { return bundle };
    types::Bundle {
        trust_domain: bundle.trust_domain,
        x509_authorities: keep(mask.x509_authorities, bundle.x509_authorities),
        jwt_authorities: keep(mask.jwt_authorities, bundle.jwt_authorities),
        refresh_hint: keep(mask.refresh_hint, bundle.refresh_hint),
        sequence_number: keep(mask.sequence_number, bundle.sequence_number),
        wit_authorities: keep(mask.wit_authorities, bundle.wit_authorities),
    }
}

/// `value` if it is wanted, and otherwise what an absent field is.
pub(crate) fn keep<T: Default>(wanted: bool, value: T) -> T {
    if wanted { value } else { T::default() }
}

fn no_federation() -> Status {
    Status::unimplemented("this version of Claviger does not federate with other trust domains")
}

fn no_upstream() -> Status {
    Status::unimplemented("this version of Claviger signs with its own authorities only")
}
