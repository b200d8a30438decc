//! HTTP/1.1 for supervisors and strangers: one request without a body for each connection, small
//! headers and a deadline.

use std::convert::Infallible;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::telemetry::Chain;

/// Time for a whole connection.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Room for a request line and its headers, in bytes: the least that hyper accepts.
pub const MAX_HEAD: usize = 8_192;

/// Answers the one request on `stream` with what `answer` makes of it, and closes. `endpoint` names
/// us in the log. The request's body is not looked at.
pub async fn answer_one(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    endpoint: &'static str,
    answer: impl Fn(&Request<Incoming>) -> Response<String>,
    stop: CancellationToken,
) {
    let service = service_fn(|request| {
        let response = answer(&request);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(DEADLINE)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let served = tokio::time::timeout(DEADLINE, connection);
    if let Some(Ok(Err(error))) = stop.run_until_cancelled(served).await {
        debug!(endpoint, error = %Chain(&error), "request not answered");
    }
}
