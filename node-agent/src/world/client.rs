//! Clients of the agent's socket.

use std::io;
use std::path::Path;
use std::sync::Mutex;

use claviger_proto::claviger::caller::v1::IdentifyRequest;
use claviger_proto::claviger::caller::v1::callers_client::CallersClient;
use claviger_proto::claviger::policy::v1::policy_desk_client::PolicyDeskClient;
use claviger_proto::claviger::policy::v1::{
    AuthorizeRequest, AuthorizeResponse, WatchRequest, WatchResponse,
};
use claviger_proto::claviger::psk::v1::psk_broker_client::PskBrokerClient;
use claviger_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use claviger_proto::workload::{
    JwtBundlesRequest, JwtBundlesResponse, Jwtsvid, JwtsvidRequest, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, WitBundlesRequest, WitBundlesResponse, WitsvidRequest,
    WitsvidResponse, X509BundlesRequest, X509BundlesResponse, X509svidRequest, X509svidResponse,
};
use claviger_runtime::unix::connector;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status, Streaming};

use super::within;

/// A workload.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) channel: Channel,
    pub(crate) api: SpiffeWorkloadApiClient<Channel>,
    pub(crate) psk: PskBrokerClient<Channel>,
    pub(crate) policy: PolicyDeskClient<Channel>,
}

/// Connects to the agent as this process.
pub(crate) async fn workload(socket: &Path) -> Client {
    let connector = connector(socket.to_owned()).unwrap();
    let endpoint = Endpoint::from_static("http://agent");
    Client::over(endpoint.connect_with_connector(connector).await.unwrap())
}

impl Client {
    fn over(channel: Channel) -> Self {
        let api = SpiffeWorkloadApiClient::new(channel.clone());
        let psk = PskBrokerClient::new(channel.clone());
        let policy = PolicyDeskClient::new(channel.clone()).max_decoding_message_size(8 << 20);
        Self { channel, api, psk, policy }
    }

    /// What is decided by, and whenever it changes.
    pub(crate) async fn watch_policies(&self) -> Result<Stream<WatchResponse>, Status> {
        let request = with_header(WatchRequest {});
        Ok(Stream(within(self.policy.clone().watch(request)).await?.into_inner()))
    }

    pub(crate) async fn authorize(
        &self,
        request: AuthorizeRequest,
    ) -> Result<AuthorizeResponse, Status> {
        let answer = within(self.policy.clone().authorize(with_header(request))).await?;
        Ok(answer.into_inner())
    }

    /// Which of `any_of` the process `pid` is.
    pub(crate) async fn identify(&self, pid: i32, any_of: &[&str]) -> Result<String, Status> {
        let any_of = any_of.iter().map(|&id| id.to_owned()).collect();
        let request = with_header(IdentifyRequest { pid, any_of });
        let mut callers = CallersClient::new(self.channel.clone());
        Ok(within(callers.identify(request)).await?.into_inner().spiffe_id)
    }

    /// Speaks over a connection that somebody else has made.
    pub(crate) async fn adopt(stream: UnixStream) -> Self {
        let stream = Mutex::new(Some(TokioIo::new(stream)));
        let once = tower::service_fn(move |_uri: Uri| {
            let stream = stream.lock().unwrap().take();
            async { stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
        });
        let endpoint = Endpoint::from_static("http://agent");
        Self::over(endpoint.connect_with_connector(once).await.unwrap())
    }

    pub(crate) async fn x509(&self) -> Result<Stream<X509svidResponse>, Status> {
        let request = with_header(X509svidRequest {});
        let opened = within(self.api.clone().fetch_x509svid(request)).await?;
        Ok(Stream(opened.into_inner()))
    }

    pub(crate) async fn bundles(&self) -> Result<Stream<X509BundlesResponse>, Status> {
        let request = with_header(X509BundlesRequest {});
        let opened = within(self.api.clone().fetch_x509_bundles(request)).await?;
        Ok(Stream(opened.into_inner()))
    }

    /// The JWT-SVIDs for `audience`, of all identities or of the one named.
    pub(crate) async fn jwts(&self, audience: &[&str], id: &str) -> Result<Vec<Jwtsvid>, Status> {
        let audience = audience.iter().map(|&name| name.to_owned()).collect();
        let request = with_header(JwtsvidRequest { audience, spiffe_id: id.to_owned() });
        let answer = within(self.api.clone().fetch_jwtsvid(request)).await?;
        Ok(answer.into_inner().svids)
    }

    pub(crate) async fn jwt_bundles(&self) -> Result<Stream<JwtBundlesResponse>, Status> {
        let request = with_header(JwtBundlesRequest {});
        let opened = within(self.api.clone().fetch_jwt_bundles(request)).await?;
        Ok(Stream(opened.into_inner()))
    }

    pub(crate) async fn validate(
        &self,
        audience: &str,
        svid: &str,
    ) -> Result<ValidateJwtsvidResponse, Status> {
        let (audience, svid) = (audience.to_owned(), svid.to_owned());
        let request = with_header(ValidateJwtsvidRequest { audience, svid });
        Ok(within(self.api.clone().validate_jwtsvid(request)).await?.into_inner())
    }

    pub(crate) async fn wits(&self, id: &str) -> Result<Stream<WitsvidResponse>, Status> {
        let request = with_header(WitsvidRequest { spiffe_id: id.to_owned() });
        let opened = within(self.api.clone().fetch_witsvid(request)).await?;
        Ok(Stream(opened.into_inner()))
    }

    pub(crate) async fn wit_bundles(&self) -> Result<Stream<WitBundlesResponse>, Status> {
        let request = with_header(WitBundlesRequest {});
        let opened = within(self.api.clone().fetch_wit_bundles(request)).await?;
        Ok(Stream(opened.into_inner()))
    }

    /// The SPIFFE IDs that this process has now, in order.
    pub(crate) async fn ids(&self) -> Result<Vec<String>, Code> {
        let mut stream = self.x509().await.map_err(|status| status.code())?;
        Ok(ids(&stream.next().await.map_err(|status| status.code())?))
    }
}

/// The SPIFFE IDs in a response, in order.
pub(crate) fn ids(response: &X509svidResponse) -> Vec<String> {
    response.svids.iter().map(|svid| svid.spiffe_id.clone()).collect()
}

/// A request as clients send it.
pub(crate) fn with_header<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
    request
}

/// An open stream.
pub(crate) struct Stream<T>(Streaming<T>);

impl<T> Stream<T> {
    /// The next message, or what ended the stream.
    pub(crate) async fn next(&mut self) -> Result<T, Status> {
        let next = within(self.0.message()).await?;
        Ok(next.expect("a stream of the Workload API ends with an error"))
    }

    /// What ends the stream, without another message.
    pub(crate) async fn end(&mut self) -> Status {
        match self.next().await {
            Err(status) => status,
            Ok(_) => panic!("another message"),
        }
    }
}
