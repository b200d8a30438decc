//! The mock as a gRPC service.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use claviger_proto::workload::spiffe_workload_api_server::{
    SpiffeWorkloadApi, SpiffeWorkloadApiServer,
};
use claviger_proto::workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, WitBundlesRequest, WitBundlesResponse, WitsvidRequest,
    WitsvidResponse, X509BundlesRequest, X509BundlesResponse, X509svidRequest, X509svidResponse,
};
use futures_util::stream::{self, Stream, StreamExt as _};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;
use tonic::{Request, Response, Status};

use super::{Fault, Mock, OWN};

/// Messages, and then nothing for as long as the stream is open.
type Messages<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

fn messages<M: Send + 'static>(messages: Vec<M>) -> Response<Messages<M>> {
    let messages = stream::iter(messages.into_iter().map(Ok));
    Response::new(Box::pin(messages.chain(stream::pending())))
}

impl Mock {
    fn gate(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let values: Vec<_> = metadata.get_all("workload.spiffe.io").iter().collect();
        let fits = match self.fault {
            Some(Fault::HeaderNotRequired) => true,
            Some(Fault::HeaderOfAnyCase) => {
                values.len() == 1 && values[0].as_bytes().eq_ignore_ascii_case(b"true")
            }
            Some(Fault::HeaderTwice) => !values.is_empty() && values.iter().all(|v| *v == "true"),
            _ => values == ["true"],
        };
        match self.fault {
            Some(Fault::HeaderMissingIsDenied) if !fits => {
                Err(Status::permission_denied("security header missing"))
            }
            _ if !fits => Err(Status::invalid_argument("security header missing")),
            _ => Ok(()),
        }
    }

    /// The same, and only for somebody.
    fn admit(&self, metadata: &MetadataMap) -> Result<(), Status> {
        self.gate(metadata)?;
        match self.fault {
            Some(Fault::Nobody) => Err(Status::permission_denied("no identity issued")),
            Some(Fault::NobodyIsNotFound) => Err(Status::not_found("no identity issued")),
            _ => Ok(()),
        }
    }

    fn jwt_profile(&self) -> Result<(), Status> {
        if self.has(Fault::NoJwtProfile) {
            return Err(Status::unimplemented("no JWT-SVIDs here"));
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for Mock {
    type FetchX509SVIDStream = Messages<X509svidResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        self.admit(request.metadata())?;
        let mut state = self.x509_svids();
        let first = self.opened.fetch_add(1, Ordering::Relaxed) == 0;
        match self.fault {
            Some(Fault::RepeatsState) => return Ok(messages(vec![state.clone(), state])),
            Some(Fault::SecondStreamIncomplete) if !first => state.svids.truncate(1),
            Some(Fault::DefaultChanges) if !first => state.svids.reverse(),
            _ => {}
        }
        Ok(messages(vec![state]))
    }

    type FetchX509BundlesStream = Messages<X509BundlesResponse>;

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        self.admit(request.metadata())?;
        match self.fault {
            Some(Fault::NoX509Bundles) => return Err(Status::unimplemented("no bundles here")),
            Some(Fault::FirstMessageLate) => tokio::time::sleep(Duration::from_secs(60)).await,
            _ => {}
        }
        Ok(messages(vec![self.x509_bundles()]))
    }

    async fn fetch_jwtsvid(
        &self,
        request: Request<JwtsvidRequest>,
    ) -> Result<Response<JwtsvidResponse>, Status> {
        self.admit(request.metadata())?;
        self.jwt_profile()?;
        self.jwt_svids(request.into_inner()).await.map(Response::new)
    }

    type FetchJWTBundlesStream = Messages<JwtBundlesResponse>;

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        self.admit(request.metadata())?;
        self.jwt_profile()?;
        let bundles = self.material.jwt_bundles();
        let bundles = bundles.into_iter().map(|(key, json)| (key, json.into())).collect();
        Ok(messages(vec![JwtBundlesResponse { bundles }]))
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        self.gate(request.metadata())?;
        self.jwt_profile()?;
        self.validate(request.get_ref()).map(Response::new)
    }

    type FetchWITSVIDStream = Messages<WitsvidResponse>;

    async fn fetch_witsvid(
        &self,
        request: Request<WitsvidRequest>,
    ) -> Result<Response<Self::FetchWITSVIDStream>, Status> {
        self.admit(request.metadata())?;
        Ok(messages(vec![self.wit_svids(&request.get_ref().spiffe_id)?]))
    }

    type FetchWITBundlesStream = Messages<WitBundlesResponse>;

    async fn fetch_wit_bundles(
        &self,
        request: Request<WitBundlesRequest>,
    ) -> Result<Response<Self::FetchWITBundlesStream>, Status> {
        self.admit(request.metadata())?;
        if self.has(Fault::WitHalf) {
            return Err(Status::unimplemented("no WIT bundles here"));
        }
        let own = (format!("spiffe://{OWN}"), self.material.wit_bundle());
        Ok(messages(vec![WitBundlesResponse { bundles: [own].into() }]))
    }
}

/// The service, which may answer in a strange way to an RPC that it does not have.
#[derive(Clone)]
pub(super) struct Strange {
    inner: SpiffeWorkloadApiServer<Mock>,
    strange: bool,
}

impl Strange {
    pub(super) fn new(inner: SpiffeWorkloadApiServer<Mock>, strange: bool) -> Self {
        Self { inner, strange }
    }
}

impl NamedService for Strange {
    const NAME: &'static str = <SpiffeWorkloadApiServer<Mock> as NamedService>::NAME;
}

impl Service<http::Request<Body>> for Strange {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<http::Request<Body>>::poll_ready(&mut self.inner, context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if self.strange && request.uri().path().ends_with("FetchNothing") {
            let answer = Status::internal("what is this?").into_http();
            return Box::pin(async { Ok(answer) });
        }
        self.inner.call(request)
    }
}
