//! Envoy's secret discovery service (SDS), version 3: SVIDs and bundles for the Envoy that calls.
//!
//! | to find | look in |
//! |---|---|
//! | what is asked for, parsed, and what that means for one caller | `wanted` |
//! | which kind of validator an Envoy understands | `validator` |
//! | a resource, and its form on the wire | `resource` |
//! | versions, acknowledgements and rejections; no I/O | `exchange` |
//! | one open stream | `conversation` |
//!
//! Envoy sends no security header, and there is nothing in a URL that could make another program
//! speak this protocol on a Unix socket by accident.

mod conversation;
mod exchange;
mod resource;
mod validator;
mod wanted;

use std::sync::Arc;

use claviger_proto::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use claviger_proto::envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryService;
use futures_util::stream::try_unfold;
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::attestation::peer;
use crate::config;
use crate::metrics::counted;
use crate::streams::{Desk, Responses, Watcher};

use conversation::Conversation;
use exchange::Exchange;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Sds {
    /// Where its callers are served.
    pub(crate) desk: Desk,
    /// What its resources are called, and how peers are verified.
    pub(crate) config: Arc<config::Sds>,
}

#[async_trait]
impl SecretDiscoveryService for Sds {
    type StreamSecretsStream = Responses<DiscoveryResponse>;

    /// Opens a stream. Whether the caller has an identity is said on the stream, after its first
    /// request: an Envoy may wait for the headers of the answer before it sends one.
    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let peer = peer(&request)?;
        let slot = self.desk.slot(peer.uid());
        let opened = slot.map(|slot| {
            let requests = request.into_inner();
            let conversation = Conversation::new(self, peer, slot, requests);
            let responses = try_unfold(conversation, |mut conversation| async move {
                let next = conversation.next().await?;
                Ok(next.map(|response| (response, conversation)))
            });
            let responses: Self::StreamSecretsStream = Box::pin(responses);
            responses
        });
        counted("StreamSecrets", opened)
    }

    async fn fetch_secrets(
        &self,
        request: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        let peer = peer(&request)?;
        counted("FetchSecrets", self.fetch(peer, request.into_inner()).await)
    }
}

impl Sds {
    async fn fetch(
        &self,
        peer: claviger_runtime::unix::Peer,
        request: DiscoveryRequest,
    ) -> Result<DiscoveryResponse, Status> {
        let mut exchange = Exchange::new(&self.config);
        let slot = self.desk.slot(peer.uid())?;
        let compose = exchange.take(request)?.unwrap_or_default().compose(&self.config);
        let resources = Watcher::new(&self.desk, slot, peer, compose).next().await?;
        exchange.respond(&resources)
    }
}

#[cfg(test)]
mod tests;
