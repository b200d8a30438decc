//! An agent's socket, from a workload's side.

use std::ops::Deref;
use std::path::Path;

use claviger_proto::claviger::policy::v1::policy_desk_client::PolicyDeskClient;
use claviger_proto::claviger::psk::v1::psk_broker_client::PskBrokerClient;
use claviger_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::connection::Connection;
use crate::console::Console;
use crate::failure::Failure;
use crate::socket::WorkloadSocket;
use crate::status::Peer;

/// A connection to an agent's socket.
#[derive(Clone, Debug)]
pub(crate) struct Agent(Connection);

/// A channel whose requests carry the security header.
pub(crate) type Headed = InterceptedService<Channel, SecurityHeader>;

impl Agent {
    /// Connects to the agent whose socket was named.
    pub(crate) async fn connect(
        socket: &WorkloadSocket,
        console: Console,
    ) -> Result<Self, Failure> {
        Self::at(socket.path(), console).await
    }

    /// Connects to the agent whose socket is at `path`.
    pub(crate) async fn at(path: &Path, console: Console) -> Result<Self, Failure> {
        Connection::open(Peer::Agent, path, console).await.map(Self)
    }

    pub(crate) fn workload_api(&self) -> SpiffeWorkloadApiClient<Headed> {
        SpiffeWorkloadApiClient::with_interceptor(self.channel(), SecurityHeader)
    }

    pub(crate) fn policy_desk(&self) -> PolicyDeskClient<Headed> {
        PolicyDeskClient::with_interceptor(self.channel(), SecurityHeader)
    }

    pub(crate) fn psk_broker(&self) -> PskBrokerClient<Headed> {
        PskBrokerClient::with_interceptor(self.channel(), SecurityHeader)
    }
}

impl Deref for Agent {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

/// Puts `workload.spiffe.io: true` on every request (SPIFFE Workload Endpoint §3).
#[derive(Clone, Copy, Debug)]
pub(crate) struct SecurityHeader;

impl Interceptor for SecurityHeader {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("workload.spiffe.io", MetadataValue::from_static("true"));
        Ok(request)
    }
}
