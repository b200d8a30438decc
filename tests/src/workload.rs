//! Calls to an agent's socket, as a workload makes them.

use std::path::Path;
use std::time::Duration;

use claviger_proto::claviger::psk::v1::RedeemRequest;
use claviger_proto::claviger::psk::v1::psk_broker_client::PskBrokerClient;
use claviger_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use claviger_proto::workload::{X509svidRequest, X509svidResponse};
use claviger_runtime::unix::connector;
use tokio::time::{Instant, sleep};
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use crate::process::PATIENCE;

/// A connection to an agent's socket.
#[derive(Clone, Debug)]
pub struct Workload(Channel);

impl Workload {
    /// Connects to the socket at `path` when first used, and again when the connection is lost.
    ///
    /// # Panics
    ///
    /// If no socket can be at `path`.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        let endpoint = Endpoint::from_static("http://localhost");
        Self(endpoint.connect_with_connector_lazy(connector(path.to_owned()).unwrap()))
    }

    /// `message` with the header that the standard asks for.
    pub fn request<T>(message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("workload.spiffe.io", MetadataValue::from_static("true"));
        request
    }

    /// Opens a stream of X.509-SVIDs.
    ///
    /// # Errors
    ///
    /// The agent's refusal.
    pub async fn watch_x509(&self) -> Result<Streaming<X509svidResponse>, Status> {
        let mut client = SpiffeWorkloadApiClient::new(self.0.clone());
        let answer = client.fetch_x509svid(Self::request(X509svidRequest {})).await?;
        Ok(answer.into_inner())
    }

    /// The first message of a new stream of X.509-SVIDs.
    ///
    /// # Errors
    ///
    /// The agent's refusal.
    pub async fn fetch_x509(&self) -> Result<X509svidResponse, Status> {
        let first = self.watch_x509().await?.message().await?;
        first.ok_or_else(|| Status::unknown("the stream ended without a message"))
    }

    /// The broker of one-time PSKs.
    #[must_use]
    pub fn broker(&self) -> PskBrokerClient<Channel> {
        PskBrokerClient::new(self.0.clone())
    }

    /// Redeems a PSK, repeating the attempt until the agent has an answer from the server.
    pub async fn redeem_until_answered(self, offer: RedeemRequest) -> Code {
        let mut broker = self.broker();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = broker.redeem(Self::request(offer.clone())).await;
            let code = answer.as_ref().map_or_else(Status::code, |_redeemed| Code::Ok);
            if code != Code::Unavailable || deadline < Instant::now() {
                return code;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}
