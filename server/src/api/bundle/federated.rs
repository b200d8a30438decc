//! The bundles of other trust domains.

use std::sync::Arc;

use claviger_core::grant::Requester;
use claviger_core::id::TrustDomain;
use claviger_proto::convert::{FieldError, ids};
use claviger_proto::spire::server::bundle::v1::{
    BatchDeleteFederatedBundleRequest, BatchDeleteFederatedBundleResponse,
    GetFederatedBundleRequest, ListFederatedBundlesRequest, ListFederatedBundlesResponse,
    batch_delete_federated_bundle_request::Mode, batch_delete_federated_bundle_response,
};
use claviger_proto::spire::types;
use prost::Message as _;
use tonic::Status;

use super::select;
use crate::api::entry::ok;
use crate::api::svid::to_status;
use crate::api::{MAX_BATCH, PAGE_BYTES, Shared, check_batch, malformed, not_committed, page_size};
use crate::registry::federation::draft::{self, BundleDraft, BundleRefused};
use crate::registry::federation::{DeleteBundleError, Dissociation};

/// One page, bounded in number and in bytes.
pub(super) fn list(
    shared: &Shared,
    request: &ListFederatedBundlesRequest,
) -> Result<ListFederatedBundlesResponse, Status> {
    let size = page_size(request.page_size)?;
    let after = match request.page_token.as_str() {
        "" => None,
        token => Some(trust_domain(token, "page_token")?),
    };
    let federated = shared.registry.federated().borrow().clone();
    let mut following = federated.following(after.as_ref()).peekable();
    let (mut bundles, mut bytes): (Vec<types::Bundle>, usize) = (Vec::new(), 0);
    while let Some(bundle) = following.peek() {
        bytes = bytes.saturating_add(bundle.encoded_len());
        let has_room = bundles.len() < size && bytes <= PAGE_BYTES;
        if !bundles.is_empty() && !has_room {
            break;
        }
        bundles.push((***bundle).clone());
        following.next();
    }
    let last = bundles.last().map(|bundle| bundle.trust_domain.clone());
    let next_page_token =
        if following.peek().is_some() { last.unwrap_or_default() } else { String::new() };
    let bundles = bundles.into_iter().map(|bundle| select(bundle, request.output_mask));
    Ok(ListFederatedBundlesResponse { bundles: bundles.collect(), next_page_token })
}

/// The bundle of one trust domain.
pub(super) fn get(
    shared: &Shared,
    request: &GetFederatedBundleRequest,
) -> Result<types::Bundle, Status> {
    let trust_domain = draft::foreign(&request.trust_domain, shared.registry.trust_domain());
    let trust_domain = trust_domain.map_err(|refused| refusal(&refused))?;
    let federated = shared.registry.federated().borrow().clone();
    match federated.get(&trust_domain) {
        Some(bundle) => Ok(select((**bundle).clone(), request.output_mask)),
        None => Err(refusal(&BundleRefused::Unknown(trust_domain))),
    }
}

/// A batch of changes.
pub(super) struct Edit<'a> {
    pub(super) shared: &'a Shared,
    pub(super) requester: Requester,
    pub(super) output_mask: Option<types::BundleMask>,
}

impl Edit<'_> {
    /// Does `edit` to each bundle. Each succeeds or is refused by itself; those that succeed do so
    /// together.
    pub(super) async fn each(
        self,
        wire: Vec<types::Bundle>,
        edit: impl Fn(&mut BundleDraft, types::Bundle) -> Result<Arc<types::Bundle>, BundleRefused>
        + Send
        + 'static,
    ) -> Result<impl Iterator<Item = (types::Status, Option<types::Bundle>)>, Status> {
        check_batch(wire.len(), MAX_BATCH)?;
        let edit_all = move |draft: &mut BundleDraft| -> Vec<_> {
            wire.into_iter().map(|bundle| edit(draft, bundle)).collect()
        };
        let outcomes = self.shared.registry.edit_bundles(&self.requester, edit_all).await;
        let outcomes = outcomes.map_err(|error| not_committed(&error))?;
        let mask = self.output_mask;
        Ok(outcomes.into_iter().map(move |outcome| match outcome {
            Ok(bundle) => (ok(), Some(select((*bundle).clone(), mask))),
            Err(refused) => (to_status(&refusal(&refused)), None),
        }))
    }
}

/// Deletes each bundle by itself.
pub(super) async fn delete(
    shared: &Shared,
    requester: &Requester,
    request: BatchDeleteFederatedBundleRequest,
) -> Result<BatchDeleteFederatedBundleResponse, Status> {
    let mode = match Mode::try_from(request.mode) {
        Ok(Mode::Restrict) => Dissociation::Restrict,
        Ok(Mode::Dissociate) => Dissociation::Dissociate,
        Ok(Mode::Delete) => Dissociation::Delete,
        Err(_unknown) => {
            return Err(Status::invalid_argument(format!("mode: {} is none", request.mode)));
        }
    };
    check_batch(request.trust_domains.len(), MAX_BATCH)?;
    let mut results = Vec::with_capacity(request.trust_domains.len());
    for name in request.trust_domains {
        let status = match delete_one(shared, requester, &name, mode).await {
            Ok(()) => ok(),
            Err(status) => to_status(&status),
        };
        results.push(batch_delete_federated_bundle_response::Result {
            status: Some(status),
            trust_domain: name,
        });
    }
    Ok(BatchDeleteFederatedBundleResponse { results })
}

async fn delete_one(
    shared: &Shared,
    requester: &Requester,
    name: &str,
    mode: Dissociation,
) -> Result<(), Status> {
    let trust_domain = draft::foreign(name, shared.registry.trust_domain());
    let trust_domain = trust_domain.map_err(|refused| refusal(&refused))?;
    let deleted = shared.registry.delete_bundle(trust_domain, mode, requester).await;
    deleted.map_err(|error| match &error {
        DeleteBundleError::Unknown(_) => Status::not_found(error.to_string()),
        DeleteBundleError::InUse { .. } => Status::failed_precondition(error.to_string()),
        DeleteBundleError::Commit(commit) => not_committed(commit),
    })
}

fn trust_domain(name: &str, field: &str) -> Result<TrustDomain, Status> {
    ids::trust_domain(name).map_err(|problem| malformed(&FieldError::new(field, problem)))
}

/// What the operator is told.
fn refusal(refused: &BundleRefused) -> Status {
    let text = refused.to_string();
    match refused {
        BundleRefused::Exists(_) => Status::already_exists(text),
        BundleRefused::Unknown(_) => Status::not_found(text),
        BundleRefused::Own(_)
        | BundleRefused::Field(_)
        | BundleRefused::Certificate { .. }
        | BundleRefused::Repeated { .. }
        | BundleRefused::TooLarge { .. } => Status::invalid_argument(text),
        BundleRefused::Full => Status::resource_exhausted(text),
    }
}
