//! The SPIFFE Workload API, X.509 profile (SPIFFE Workload API §5).
//!
//! | to find | look in |
//! |---|---|
//! | the header that every request must carry | `header` |
//! | what a snapshot means for one caller; no I/O | `answer` |
//! | one open stream | `stream` |
//!
//! Nothing waits for the server here: every answer is made from the snapshot of the moment.

mod answer;
mod header;
mod stream;

use std::pin::Pin;
use std::sync::Arc;

use claviger_core::time::Clock;
use claviger_proto::workload::spiffe_workload_api_server::SpiffeWorkloadApi;
use claviger_proto::workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, WitBundlesRequest, WitBundlesResponse, WitsvidRequest,
    WitsvidResponse, X509BundlesRequest, X509BundlesResponse, X509svidRequest, X509svidResponse,
};
use claviger_runtime::slots::Slots;
use futures_util::{Stream, StreamExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, async_trait};
use tracing::debug;

use crate::attestation::{Attestation, peer};
use crate::credentials::Snapshot;
use crate::metrics;

pub(crate) use header::require_header;
use stream::Watcher;

/// The API.
#[derive(Clone, Debug)]
pub(crate) struct WorkloadApi {
    /// Who finds out about callers.
    pub(crate) attestation: Attestation,
    /// What can be given out.
    pub(crate) snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    /// How many streams may be open, and of each user.
    pub(crate) slots: Slots<u32>,
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
    /// Fires when streams are to end.
    pub(crate) stop: CancellationToken,
}

type Responses<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

impl WorkloadApi {
    /// Opens a stream of what `compose` makes of each snapshot. The first message is made here, so
    /// that a refusal is the answer to the call.
    async fn open<M: Clone + PartialEq + Send + 'static>(
        &self,
        peer: claviger_runtime::unix::Peer,
        compose: answer::Compose<M>,
    ) -> Result<Responses<M>, Status> {
        let slot = self.slots.take(peer.uid()).map_err(|full| {
            debug!(uid = peer.uid(), error = %full, "stream refused");
            Status::unavailable("too many open streams; close some, or try again later")
        })?;
        let mut watcher = Watcher::new(self, peer, slot, compose);
        let first = watcher.next().await?;
        let rest = futures_util::stream::try_unfold(watcher, |mut watcher| async move {
            Ok(Some((watcher.next().await?, watcher)))
        });
        Ok(Box::pin(futures_util::stream::once(async { Ok(first) }).chain(rest)))
    }
}

#[async_trait]
impl SpiffeWorkloadApi for WorkloadApi {
    type FetchX509SVIDStream = Responses<X509svidResponse>;
    type FetchX509BundlesStream = Responses<X509BundlesResponse>;
    type FetchJWTBundlesStream = Responses<JwtBundlesResponse>;
    type FetchWITSVIDStream = Responses<WitsvidResponse>;
    type FetchWITBundlesStream = Responses<WitBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        require_header(request.metadata())?;
        let opened = self.open(peer(&request)?, answer::x509_svid).await;
        counted("FetchX509SVID", opened)
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        require_header(request.metadata())?;
        let opened = self.open(peer(&request)?, answer::x509_bundles).await;
        counted("FetchX509Bundles", opened)
    }

    async fn fetch_jwtsvid(
        &self,
        request: Request<JwtsvidRequest>,
    ) -> Result<Response<JwtsvidResponse>, Status> {
        require_header(request.metadata())?;
        Err(no_jwt())
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        require_header(request.metadata())?;
        Err(no_jwt())
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        require_header(request.metadata())?;
        Err(no_jwt())
    }

    async fn fetch_witsvid(
        &self,
        request: Request<WitsvidRequest>,
    ) -> Result<Response<Self::FetchWITSVIDStream>, Status> {
        require_header(request.metadata())?;
        Err(no_wit())
    }

    async fn fetch_wit_bundles(
        &self,
        request: Request<WitBundlesRequest>,
    ) -> Result<Response<Self::FetchWITBundlesStream>, Status> {
        require_header(request.metadata())?;
        Err(no_wit())
    }
}

fn counted<T>(method: &'static str, opened: Result<T, Status>) -> Result<Response<T>, Status> {
    metrics::called(method, if opened.is_ok() { "ok" } else { "refused" });
    opened.map(Response::new)
}

fn no_jwt() -> Status {
    Status::unimplemented("this version of Claviger does not issue JWT-SVIDs; use X.509-SVIDs")
}

fn no_wit() -> Status {
    Status::unimplemented("this version of Claviger does not issue WIT-SVIDs; use X.509-SVIDs")
}

#[cfg(test)]
mod tests;
