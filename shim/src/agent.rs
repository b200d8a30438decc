//! The way to the agent of this machine, over its Unix socket.

use std::path::PathBuf;
use std::time::Duration;

use claviger_runtime::grpc;
use claviger_runtime::unix::{SocketPathError, connector};
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};

/// A channel to the agent behind the socket at `path`, on which a call may take as long as `call` says,
/// and a stream for ever without it. It connects when it is first used, and again whenever the
/// connection is lost.
///
/// # Errors
///
/// [`SocketPathError`] if no socket can be there.
pub(crate) fn channel(path: PathBuf, call: Option<Duration>) -> Result<Channel, SocketPathError> {
    // The URI only fills the `:authority` header.
    let endpoint = grpc::client(Endpoint::from_static("http://localhost"));
    let endpoint = match call {
        Some(limit) => endpoint.timeout(limit),
        None => endpoint,
    };
    Ok(endpoint.connect_with_connector_lazy(connector(path)?))
}

/// `message` with the header by which an agent tells its clients from a browser that was tricked
/// into connecting (SPIFFE Workload Endpoint §3).
pub(crate) fn with_header<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", MetadataValue::from_static("true"));
    request
}

/// Between two attempts to follow the agent. It is on this machine: to ask it costs little.
#[derive(Debug)]
pub(crate) struct Pauses(Duration);

impl Pauses {
    const FIRST: Duration = Duration::from_millis(20);
    const LAST: Duration = Duration::from_secs(1);

    /// It was heard: the next pause is short again.
    pub(crate) fn reset(&mut self) {
        self.0 = Self::FIRST;
    }

    /// Waits, longer each time.
    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = self.0.saturating_mul(2).min(Self::LAST);
    }
}

impl Default for Pauses {
    fn default() -> Self {
        Self(Self::FIRST)
    }
}
