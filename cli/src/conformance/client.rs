//! A caller of the Workload API who is never kept waiting, and who can misbehave.

mod ask;
mod reflection;
mod watch;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use claviger_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use claviger_runtime::unix::{self, SocketPathError};
use tokio::time::{sleep, timeout};
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

pub(super) use ask::Ask;
pub(super) use watch::{State, Watched};

use super::address::Address;
use super::answer::Answer;

/// How often an RPC may be late before it is not called any more.
const MAX_LATE: u8 = 5;

/// The RPCs of the Workload API.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Rpc {
    FetchX509Svid,
    FetchX509Bundles,
    FetchJwtSvid,
    FetchJwtBundles,
    ValidateJwtSvid,
    FetchWitSvid,
    FetchWitBundles,
    /// Whatever is not one of them.
    Other,
}

impl Rpc {
    /// Those of the standard.
    pub(super) const ALL: [Self; 7] = [
        Self::FetchX509Svid,
        Self::FetchX509Bundles,
        Self::FetchJwtSvid,
        Self::FetchJwtBundles,
        Self::ValidateJwtSvid,
        Self::FetchWitSvid,
        Self::FetchWitBundles,
    ];

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::FetchX509Svid => "FetchX509SVID",
            Self::FetchX509Bundles => "FetchX509Bundles",
            Self::FetchJwtSvid => "FetchJWTSVID",
            Self::FetchJwtBundles => "FetchJWTBundles",
            Self::ValidateJwtSvid => "ValidateJWTSVID",
            Self::FetchWitSvid => "FetchWITSVID",
            Self::FetchWitBundles => "FetchWITBundles",
            Self::Other => "another RPC",
        }
    }
}

/// How often each RPC was late.
#[derive(Debug, Default)]
struct Lateness([AtomicU8; 8]);

impl Lateness {
    fn of(&self, rpc: Rpc) -> &AtomicU8 {
        let [x509, x509_bundles, jwt, jwt_bundles, validate, wit, wit_bundles, other] = &self.0;
        match rpc {
            Rpc::FetchX509Svid => x509,
            Rpc::FetchX509Bundles => x509_bundles,
            Rpc::FetchJwtSvid => jwt,
            Rpc::FetchJwtBundles => jwt_bundles,
            Rpc::ValidateJwtSvid => validate,
            Rpc::FetchWitSvid => wit,
            Rpc::FetchWitBundles => wit_bundles,
            Rpc::Other => other,
        }
    }
}

/// A connection to a Workload API.
#[derive(Clone, Debug)]
pub(super) struct Client {
    channel: Channel,
    patience: Duration,
    late: Arc<Lateness>,
}

impl Client {
    /// Connects; each call will have `patience` to be answered.
    pub(super) async fn open(address: &Address, patience: Duration) -> Result<Self, OpenError> {
        let channel = match address {
            Address::Unix(path) => {
                let path = path.clone();
                let connector = unix::connector(path.clone())
                    .map_err(|source| OpenError::Path { path, source })?;
                // The authority of a Unix socket means nothing; HTTP/2 wants one.
                Endpoint::from_static("http://localhost")
                    .connect_timeout(patience)
                    .connect_with_connector(connector)
                    .await
            }
            Address::Tcp(address) => {
                let endpoint = Endpoint::from_shared(format!("http://{address}"));
                match endpoint {
                    Ok(endpoint) => endpoint.connect_timeout(patience).connect().await,
                    Err(error) => Err(error),
                }
            }
        };
        let channel = channel.map_err(OpenError::Connect)?;
        Ok(Self { channel, patience, late: Arc::default() })
    }

    fn api(&self) -> SpiffeWorkloadApiClient<Channel> {
        SpiffeWorkloadApiClient::new(self.channel.clone())
    }

    /// Calls `rpc` by `call`, and once more if the server says that it is busy.
    async fn ask<T, F>(&self, rpc: Rpc, call: impl Fn() -> F) -> Answer<T>
    where
        F: Future<Output = Result<T, Status>>,
    {
        const PAUSE: Duration = Duration::from_millis(200);

        let late = self.late.of(rpc);
        if late.load(Ordering::Relaxed) >= MAX_LATE {
            return Answer::Unasked;
        }
        let asked = async {
            let first = call().await;
            match first {
                Err(status) if status.code() == Code::Unavailable => {
                    sleep(PAUSE).await;
                    call().await
                }
                answered => answered,
            }
        };
        match timeout(self.patience, asked).await {
            Ok(answered) => answered.into(),
            Err(_elapsed) => {
                late.fetch_add(1, Ordering::Relaxed);
                Answer::Late
            }
        }
    }
}

/// `message` with the security header, or with other values of it.
fn request<T>(message: T, header: &[&'static str]) -> Request<T> {
    let mut request = Request::new(message);
    for value in header {
        request.metadata_mut().append("workload.spiffe.io", MetadataValue::from_static(value));
    }
    request
}

/// The security header as it must be.
const HEADER: &[&str] = &["true"];

/// Why there is nobody to ask.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// No socket can be there.
    #[error("cannot use `{path}` as a socket", path = path.display())]
    Path { path: PathBuf, source: SocketPathError },
    /// Nobody listens, or whoever does speaks no HTTP/2.
    #[error("cannot connect")]
    Connect(#[source] tonic::transport::Error),
}
