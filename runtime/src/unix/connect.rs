//! Connecting to a Unix socket.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::Uri;
use tower::Service;

use super::address::{SocketPathError, address};

/// Connects to the socket at `path`, whatever the URI: for tonic's
/// `Endpoint::connect_with_connector`.
///
/// # Errors
///
/// [`SocketPathError`] if no socket can be there.
pub fn connector(
    path: PathBuf,
) -> Result<
    impl Service<Uri, Response = TokioIo<UnixStream>, Error = ConnectError, Future: Send>
    + Clone
    + Send
    + 'static,
    SocketPathError,
> {
    address(&path)?;
    let path = Arc::new(path);
    Ok(tower::service_fn(move |_uri| {
        let path = Arc::clone(&path);
        async move {
            match UnixStream::connect(&*path).await {
                Ok(stream) => Ok(TokioIo::new(stream)),
                Err(source) => Err(ConnectError { path: path.to_path_buf(), source }),
            }
        }
    }))
}

/// Nobody answers on a Unix socket.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to socket `{path}`; is the process that serves it running?", path = path.display())]
pub struct ConnectError {
    path: PathBuf,
    source: io::Error,
}
