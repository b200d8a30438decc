//! SPIRE's bundle API: what others need to verify our SVIDs, and what we need to verify theirs.

mod federated;

use claviger_proto::spire::server::bundle::v1::{
    AppendBundleRequest, BatchCreateFederatedBundleRequest, BatchCreateFederatedBundleResponse,
    BatchDeleteFederatedBundleRequest, BatchDeleteFederatedBundleResponse,
    BatchSetFederatedBundleRequest, BatchSetFederatedBundleResponse,
    BatchUpdateFederatedBundleRequest, BatchUpdateFederatedBundleResponse, CountBundlesRequest,
    CountBundlesResponse, GetBundleRequest, GetFederatedBundleRequest, ListFederatedBundlesRequest,
    ListFederatedBundlesResponse, PublishJwtAuthorityRequest, PublishJwtAuthorityResponse,
    PublishWitAuthorityRequest, PublishWitAuthorityResponse,
    batch_create_federated_bundle_response, batch_set_federated_bundle_response,
    batch_update_federated_bundle_response, bundle_server,
};
use claviger_proto::spire::types;
use tonic::{Request, Response, Status, async_trait};

use super::{Shared, caller, count};
use crate::registry::federation::draft::BundleDraft;

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

    /// Ours, too.
    async fn count_bundles(
        &self,
        request: Request<CountBundlesRequest>,
    ) -> Result<Response<CountBundlesResponse>, Status> {
        caller::administrator(&self.shared, &request)?;
        let number = self.shared.registry.federated().borrow().len().saturating_add(1);
        Ok(Response::new(CountBundlesResponse { count: count(number) }))
    }

    async fn list_federated_bundles(
        &self,
        request: Request<ListFederatedBundlesRequest>,
    ) -> Result<Response<ListFederatedBundlesResponse>, Status> {
        caller::administrator(&self.shared, &request)?;
        federated::list(&self.shared, &request.into_inner()).map(Response::new)
    }

    /// For agents, too: SPIRE's ask for those that their entries federate with.
    async fn get_federated_bundle(
        &self,
        request: Request<GetFederatedBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        caller::administrator_or_agent(&self.shared, &request).await?;
        federated::get(&self.shared, &request.into_inner()).map(Response::new)
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
        request: Request<BatchCreateFederatedBundleRequest>,
    ) -> Result<Response<BatchCreateFederatedBundleResponse>, Status> {
        let requester = caller::administrator(&self.shared, &request)?;
        let BatchCreateFederatedBundleRequest { bundle, output_mask } = request.into_inner();
        let edit = federated::Edit { shared: &self.shared, requester, output_mask };
        let results = edit.each(bundle, BundleDraft::create).await?.map(|(status, bundle)| {
            batch_create_federated_bundle_response::Result { status: Some(status), bundle }
        });
        Ok(Response::new(BatchCreateFederatedBundleResponse { results: results.collect() }))
    }

    async fn batch_update_federated_bundle(
        &self,
        request: Request<BatchUpdateFederatedBundleRequest>,
    ) -> Result<Response<BatchUpdateFederatedBundleResponse>, Status> {
        let requester = caller::administrator(&self.shared, &request)?;
        let BatchUpdateFederatedBundleRequest { bundle, input_mask, output_mask } =
            request.into_inner();
        let edit = federated::Edit { shared: &self.shared, requester, output_mask };
        let update = move |draft: &mut BundleDraft, wire| draft.update(wire, input_mask);
        let results = edit.each(bundle, update).await?.map(|(status, bundle)| {
            batch_update_federated_bundle_response::Result { status: Some(status), bundle }
        });
        Ok(Response::new(BatchUpdateFederatedBundleResponse { results: results.collect() }))
    }

    async fn batch_set_federated_bundle(
        &self,
        request: Request<BatchSetFederatedBundleRequest>,
    ) -> Result<Response<BatchSetFederatedBundleResponse>, Status> {
        let requester = caller::administrator(&self.shared, &request)?;
        let BatchSetFederatedBundleRequest { bundle, output_mask } = request.into_inner();
        let edit = federated::Edit { shared: &self.shared, requester, output_mask };
        let results = edit.each(bundle, BundleDraft::set).await?.map(|(status, bundle)| {
            batch_set_federated_bundle_response::Result { status: Some(status), bundle }
        });
        Ok(Response::new(BatchSetFederatedBundleResponse { results: results.collect() }))
    }

    async fn batch_delete_federated_bundle(
        &self,
        request: Request<BatchDeleteFederatedBundleRequest>,
    ) -> Result<Response<BatchDeleteFederatedBundleResponse>, Status> {
        let requester = caller::administrator(&self.shared, &request)?;
        federated::delete(&self.shared, &requester, request.into_inner()).await.map(Response::new)
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

fn no_upstream() -> Status {
    Status::unimplemented("this version of Claviger publishes no authorities but its own")
}
