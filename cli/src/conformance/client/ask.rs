//! Single requests, well-formed or not.

use claviger_proto::workload::{
    JwtBundlesRequest, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, WitBundlesRequest, WitsvidRequest, WitsvidResponse,
    X509BundlesRequest, X509svidRequest, X509svidResponse,
};
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::{Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::{Client, HEADER, Rpc, request};
use crate::conformance::answer::Answer;

/// A request of which only its being granted or refused matters.
#[derive(Clone, Debug)]
pub(in crate::conformance) enum Ask {
    /// An RPC with these values of the security header.
    Header(Rpc, &'static [&'static str]),
    /// An RPC of the Workload API's service that the standard does not have.
    Unknown(&'static [&'static str]),
    FetchJwt {
        audience: Vec<String>,
        spiffe_id: String,
    },
    FetchWit {
        spiffe_id: String,
    },
    Validate {
        audience: String,
        token: String,
    },
}

impl Client {
    /// Does it, and tells what came of it.
    pub(in crate::conformance) async fn perform(&self, ask: &Ask) -> Answer<()> {
        match ask {
            Ask::Header(rpc, header) => self.with_header(*rpc, header).await,
            Ask::Unknown(header) => self.ask(Rpc::Other, || self.unknown(header)).await,
            Ask::FetchJwt { audience, spiffe_id } => {
                self.fetch_jwt(audience, spiffe_id).await.map(drop)
            }
            Ask::FetchWit { spiffe_id } => self.fetch_wit(spiffe_id).await.map(drop),
            Ask::Validate { audience, token } => self.validate(audience, token).await.map(drop),
        }
    }

    /// JWT-SVIDs for `audience`; an empty ID stands for all.
    pub(in crate::conformance) async fn fetch_jwt(
        &self,
        audience: &[String],
        spiffe_id: &str,
    ) -> Answer<JwtsvidResponse> {
        let message =
            JwtsvidRequest { audience: audience.to_vec(), spiffe_id: spiffe_id.to_owned() };
        let call = || {
            let (mut api, request) = (self.api(), request(message.clone(), HEADER));
            async move { api.fetch_jwtsvid(request).await }
        };
        self.ask(Rpc::FetchJwtSvid, call).await.map(Response::into_inner)
    }

    /// The first WIT-SVIDs; an empty ID stands for all.
    pub(in crate::conformance) async fn fetch_wit(
        &self,
        spiffe_id: &str,
    ) -> Answer<WitsvidResponse> {
        let message = WitsvidRequest { spiffe_id: spiffe_id.to_owned() };
        let call = || {
            let (mut api, request) = (self.api(), request(message.clone(), HEADER));
            async move { first(api.fetch_witsvid(request).await?).await }
        };
        self.ask(Rpc::FetchWitSvid, call).await
    }

    /// What the server makes of a JWT-SVID.
    pub(in crate::conformance) async fn validate(
        &self,
        audience: &str,
        token: &str,
    ) -> Answer<ValidateJwtsvidResponse> {
        let message =
            ValidateJwtsvidRequest { audience: audience.to_owned(), svid: token.to_owned() };
        let call = || {
            let (mut api, request) = (self.api(), request(message.clone(), HEADER));
            async move { api.validate_jwtsvid(request).await }
        };
        self.ask(Rpc::ValidateJwtSvid, call).await.map(Response::into_inner)
    }

    async fn with_header(&self, rpc: Rpc, header: &'static [&'static str]) -> Answer<()> {
        self.ask(rpc, || self.call(rpc, header)).await
    }

    /// Calls an RPC with a message that would be granted.
    async fn call(&self, rpc: Rpc, header: &'static [&'static str]) -> Result<(), Status> {
        let mut api = self.api();
        let jwt = || JwtsvidRequest {
            audience: vec!["claviger-conformance".to_owned()],
            spiffe_id: String::new(),
        };
        match rpc {
            Rpc::FetchX509Svid => {
                let stream = api.fetch_x509svid(request(X509svidRequest {}, header)).await?;
                first(stream).await.map(drop)
            }
            Rpc::FetchX509Bundles => {
                let stream = api.fetch_x509_bundles(request(X509BundlesRequest {}, header)).await?;
                first(stream).await.map(drop)
            }
            Rpc::FetchJwtSvid => api.fetch_jwtsvid(request(jwt(), header)).await.map(drop),
            Rpc::FetchJwtBundles => {
                let stream = api.fetch_jwt_bundles(request(JwtBundlesRequest {}, header)).await?;
                first(stream).await.map(drop)
            }
            Rpc::ValidateJwtSvid => {
                let message = ValidateJwtsvidRequest {
                    audience: "claviger-conformance".to_owned(),
                    svid: "a.b.c".to_owned(),
                };
                api.validate_jwtsvid(request(message, header)).await.map(drop)
            }
            Rpc::FetchWitSvid => {
                let message = WitsvidRequest { spiffe_id: String::new() };
                first(api.fetch_witsvid(request(message, header)).await?).await.map(drop)
            }
            Rpc::FetchWitBundles => {
                let stream = api.fetch_wit_bundles(request(WitBundlesRequest {}, header)).await?;
                first(stream).await.map(drop)
            }
            Rpc::Other => self.unknown(header).await,
        }
    }

    async fn unknown(&self, header: &'static [&'static str]) -> Result<(), Status> {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::from_static("/SpiffeWorkloadAPI/FetchNothing");
        let codec = ProstCodec::<X509svidRequest, X509svidResponse>::default();
        grpc.unary(request(X509svidRequest {}, header), path, codec).await.map(drop)
    }
}

/// The first message of a stream.
pub(super) async fn first<M>(stream: Response<Streaming<M>>) -> Result<M, Status> {
    let message = stream.into_inner().message().await?;
    message.ok_or_else(|| Status::unknown("the stream ended without a message"))
}
