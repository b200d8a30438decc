//! The SPIFFE Broker API: a program that acts for workloads gets their SVIDs. It proves by an SVID
//! of its own who it is, and each request refers to one workload (SPIFFE Broker API §4).
//!
//! | to find | look in |
//! |---|---|
//! | to which workload a request refers | `reference` |
//! | what a snapshot means for that workload | `answer` |
//! | the standard's reasons | `refusal` |
//!
//! As for SPIRE's delegates, entries for administrators and for nested servers are left out.

mod answer;
mod reference;
mod refusal;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use claviger_core::id::SpiffeId;
use claviger_core::selector::Selectors;
use claviger_core::svid::jwt::Audience;
use claviger_core::time::UnixTime;
use claviger_proto::broker as wire;
use claviger_proto::broker::api_server::{Api, ApiServer};
use claviger_runtime::grpc;
use claviger_runtime::tasks::Tasks;
use claviger_runtime::tls::{Identity, LocalTlsPeer, TrustBundle, local_tls, server_config};
use claviger_runtime::unix::Listener;
use tonic::{Request, Response, Status, async_trait};

use crate::attestation::not_attested;
use crate::credentials::Snapshot;
use crate::metrics::counted;
use crate::streams::{Answer, Desk, Responses, Subject};
use crate::tokens::Tokens;
use crate::workload_api::require;

use reference::Workload;

/// The header that proves that a request was meant for this socket.
const HEADER: &str = "broker.spiffe.io";

/// The most bytes of one request.
const MAX_REQUEST: usize = 64 << 10;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Broker {
    /// Where its callers are served.
    pub(crate) desk: Desk,
    /// Who gets JWT-SVIDs.
    pub(crate) tokens: Tokens,
    /// Who may ask, and by which kinds of references: names of messages.
    pub(crate) brokers: Arc<BTreeMap<SpiffeId, BTreeSet<String>>>,
}

impl Broker {
    /// Serves at `listener` as `identity`, to callers for whom `bundle` vouches.
    pub(crate) fn serve(
        self,
        listener: Listener,
        identity: &Identity,
        bundle: &TrustBundle,
        tasks: &Tasks,
    ) {
        let config = server_config(identity, bundle, Arc::clone(&self.desk.clock));
        let incoming = local_tls(listener, config, tasks);
        let service = ApiServer::new(self).max_decoding_message_size(MAX_REQUEST);
        let router = grpc::local_server(tasks).add_service(service);
        tasks.spawn("broker api", |stop| async move {
            Ok(router.serve_with_incoming_shutdown(incoming, stop.cancelled()).await?)
        });
    }
}

#[async_trait]
impl Api for Broker {
    type SubscribeToX509SVIDStream = Responses<wire::SubscribeToX509svidResponse>;
    type SubscribeToX509BundlesStream = Responses<wire::SubscribeToX509BundlesResponse>;
    type SubscribeToJWTBundlesStream = Responses<wire::SubscribeToJwtBundlesResponse>;

    async fn subscribe_to_x509svid(
        &self,
        request: Request<wire::SubscribeToX509svidRequest>,
    ) -> Result<Response<Self::SubscribeToX509SVIDStream>, Status> {
        let opened = self.open(request, |asked| asked.reference, answer::x509_svids).await;
        counted("SubscribeToX509SVID", opened)
    }

    async fn subscribe_to_x509_bundles(
        &self,
        request: Request<wire::SubscribeToX509BundlesRequest>,
    ) -> Result<Response<Self::SubscribeToX509BundlesStream>, Status> {
        let opened = self.open(request, |asked| asked.reference, answer::x509_bundles).await;
        counted("SubscribeToX509Bundles", opened)
    }

    async fn fetch_jwtsvid(
        &self,
        request: Request<wire::FetchJwtsvidRequest>,
    ) -> Result<Response<wire::FetchJwtsvidResponse>, Status> {
        counted("FetchJWTSVID by broker", self.jwt_svids(request).await)
    }

    async fn subscribe_to_jwt_bundles(
        &self,
        request: Request<wire::SubscribeToJwtBundlesRequest>,
    ) -> Result<Response<Self::SubscribeToJWTBundlesStream>, Status> {
        let opened = self.open(request, |asked| asked.reference, answer::jwt_bundles).await;
        counted("SubscribeToJWTBundles by broker", opened)
    }
}

impl Broker {
    /// Opens a stream about the workload to which `request` refers.
    async fn open<T, M: Clone + PartialEq + Send + 'static>(
        &self,
        request: Request<T>,
        reference: fn(T) -> Option<wire::WorkloadReference>,
        compose: fn(&Snapshot, &Selectors, UnixTime) -> Answer<M>,
    ) -> Result<Responses<M>, Status> {
        let (caller, allowed) = self.authenticate(&request)?;
        let workload = Workload::referred_to(reference(request.into_inner()), allowed)?;
        let uid = caller.process().uid();
        let compose = move |snapshot: &Snapshot, facts: &Selectors, now: UnixTime| {
            if caller.leaf().not_after() < now {
                return Answer::Refused(outlived());
            }
            compose(snapshot, facts, now)
        };
        self.desk.open(uid, workload, compose).await
    }

    async fn jwt_svids(
        &self,
        request: Request<wire::FetchJwtsvidRequest>,
    ) -> Result<wire::FetchJwtsvidResponse, Status> {
        let (caller, allowed) = self.authenticate(&request)?;
        let wire::FetchJwtsvidRequest { reference, audience, spiffe_id } = request.into_inner();
        let malformed = |error: &dyn ToString| Status::invalid_argument(error.to_string());
        let audience = Audience::new(audience).map_err(|error| malformed(&error))?;
        let named = match spiffe_id.as_str() {
            "" => None,
            id => Some(id.parse::<SpiffeId>().map_err(|error| malformed(&error))?),
        };
        let workload = Workload::referred_to(reference, allowed)?;
        let facts = workload.facts(&self.desk.attestation).await;
        let facts = facts.map_err(|error| not_attested(&error))?;
        let mut entries = answer::entries(&*self.desk.snapshot()?, &facts, self.desk.clock.now());
        entries.retain(|entry| named.as_ref().is_none_or(|named| entry.spiffe_id == *named));
        if entries.is_empty() {
            return Err(refusal::not_entitled());
        }

        let uid = caller.process().uid();
        let tokens = self.tokens.jwt_svids(uid, &entries, &audience).await?;

        if workload.has_ended() {
            return Err(refusal::not_found("the workload has ended"));
        }
        Ok(answer::jwt_svids(&tokens))
    }

    /// Who asks, and which kinds of references they may use.
    fn authenticate<T>(
        &self,
        request: &Request<T>,
    ) -> Result<(LocalTlsPeer, &BTreeSet<String>), Status> {
        require(request.metadata(), HEADER)?;
        let caller = request.extensions().get::<LocalTlsPeer>().cloned();
        let caller = caller.ok_or_else(|| {
            Status::internal("the connection does not say who is at its other end")
        })?;
        if caller.leaf().not_after() < self.desk.clock.now() {
            return Err(outlived());
        }
        let allowed = self.brokers.get(caller.id());
        let allowed = allowed
            .ok_or_else(|| Status::permission_denied("caller not configured as a broker"))?;
        Ok((caller, allowed))
    }
}

fn outlived() -> Status {
    Status::unauthenticated("the connection has outlived the broker's SVID; connect anew")
}

#[cfg(test)]
mod tests;
