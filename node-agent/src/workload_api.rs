//! The SPIFFE Workload API: the profiles for X.509-SVIDs, JWT-SVIDs and WIT-SVIDs (SPIFFE Workload
//! API §5–7).
//!
//! | to find | look in |
//! |---|---|
//! | the header that every request must carry | `header` |
//! | what a snapshot means for one caller; no I/O | `answer` |
//! | JWT-SVIDs for the caller | `jwt_svid` |
//! | whether somebody's JWT-SVID is to be believed | `validate` |
//!
//! Its streams are those of [`crate::streams`].

mod answer;
mod header;
mod jwt_svid;
mod validate;

use claviger_core::id::{ParseIdError, SpiffeId};
use claviger_core::selector::Selectors;
use claviger_proto::workload::spiffe_workload_api_server::SpiffeWorkloadApi;
use claviger_proto::workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, WitBundlesRequest, WitBundlesResponse, WitsvidRequest,
    WitsvidResponse, X509BundlesRequest, X509BundlesResponse, X509svidRequest, X509svidResponse,
};
use futures_util::{StreamExt, TryStreamExt};
use tonic::{Request, Response, Status, async_trait};

use crate::attestation::peer;
use crate::credentials::Snapshot;
use crate::metrics::counted;
use crate::streams::{Compose, Desk, Responses};
use crate::tokens::Tokens;

pub(crate) use answer::Hints;
pub(crate) use header::{require, require_header};

/// The API.
#[derive(Clone, Debug)]
pub(crate) struct WorkloadApi {
    /// Where its callers are served.
    pub(crate) desk: Desk,
    /// Who gets JWT-SVIDs.
    pub(crate) tokens: Tokens,
}

impl WorkloadApi {
    /// Opens a stream for the caller about itself.
    async fn open<T, M: Clone + PartialEq + Send + 'static>(
        &self,
        request: &Request<T>,
        compose: impl Compose<Selectors, M> + 'static,
    ) -> Result<Responses<M>, Status> {
        let peer = peer(request)?;
        self.desk.open(peer.uid(), peer, compose).await
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
        let opened = self.open(&request, answer::x509_svid).await;
        counted("FetchX509SVID", opened)
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        require_header(request.metadata())?;
        let opened = self.open(&request, answer::x509_bundles).await;
        counted("FetchX509Bundles", opened)
    }

    async fn fetch_jwtsvid(
        &self,
        request: Request<JwtsvidRequest>,
    ) -> Result<Response<JwtsvidResponse>, Status> {
        require_header(request.metadata())?;
        let (peer, asked) = (peer(&request)?, request.into_inner());
        counted("FetchJWTSVID", jwt_svid::fetch(self, &peer, asked).await)
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        require_header(request.metadata())?;
        let opened = self.open(&request, answer::jwt_bundles).await;
        counted("FetchJWTBundles", opened)
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        require_header(request.metadata())?;
        let (peer, asked) = (peer(&request)?, request.into_inner());
        counted("ValidateJWTSVID", validate::validate(&self.desk, &peer, asked).await)
    }

    async fn fetch_witsvid(
        &self,
        request: Request<WitsvidRequest>,
    ) -> Result<Response<Self::FetchWITSVIDStream>, Status> {
        require_header(request.metadata())?;
        let named = named(&request.get_ref().spiffe_id)?;
        let opened = self
            .open(&request, move |snapshot: &Snapshot, facts: &Selectors, now| {
                answer::wit_svids(snapshot, facts, now, named.as_ref())
            })
            .await;
        counted("FetchWITSVID", opened.map(|svids| svids.map_ok(WitsvidResponse::from).boxed()))
    }

    async fn fetch_wit_bundles(
        &self,
        request: Request<WitBundlesRequest>,
    ) -> Result<Response<Self::FetchWITBundlesStream>, Status> {
        require_header(request.metadata())?;
        let opened = self.open(&request, answer::wit_bundles).await;
        counted("FetchWITBundles", opened)
    }
}

/// The identity that a request names, if it names one.
fn named(spiffe_id: &str) -> Result<Option<SpiffeId>, Status> {
    let invalid = |error: ParseIdError| {
        Status::invalid_argument(format!("invalid requested SPIFFE ID: {error}"))
    };
    match spiffe_id {
        "" => Ok(None),
        id => id.parse().map(Some).map_err(invalid),
    }
}

#[cfg(test)]
mod tests;
