//! The one request to a node.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, StatusCode, http};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::host::HostName;

/// The most bytes of an answer: two nonces in base64 and a line break have 90.
const MAX_BODY: usize = 128;

/// Room for the head of an answer, in bytes; the library takes no less.
const MAX_HEAD: usize = 8_192;

/// Asks the host at one of these addresses, and no other, for what is at `path`. The answer can't
/// send us elsewhere, and nothing in the environment can either.
pub(super) async fn visit(
    host: &HostName,
    addresses: &[IpAddr],
    port: u16,
    path: &str,
) -> Result<Vec<u8>, VisitError> {
    let stream = connect(addresses, port).await.map_err(VisitError::Connect)?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path)
        .header(HOST, format!("{host}:{port}"))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(VisitError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
        Ok(body.map_err(VisitError::Body)?.to_bytes().to_vec())
    };
    // What becomes of the connection shows in what becomes of the exchange.
    let drive = async {
        match connection.await {
            Ok(()) | Err(_) => pending::<Infallible>().await,
        }
    };
    tokio::select! {
        answer = exchange => answer,
        never = drive => match never {},
    }
}

async fn connect(addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        match TcpStream::connect(SocketAddr::new(*address, port)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum VisitError {
    #[error("no connection: {0}")]
    Connect(io::Error),
    #[error("no answer: {0}")]
    Http(#[from] hyper::Error),
    #[error("no request: {0}")]
    Request(#[from] http::Error),
    #[error("the answer has status {0}")]
    Status(StatusCode),
    #[error("the answer is not a short text: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
}
