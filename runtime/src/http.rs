//! HTTP/1.1 for supervisors, strangers and gateways: small headers, a small body if any, and a deadline.
//! Strangers have one request for each connection; those who are known may ask again on the same.

use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use zeroize::Zeroizing;

use crate::telemetry::Chain;

/// Time for a whole connection.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Room for a request line and its headers, in bytes. A token of a CI system has up to 4 KiB.
pub const MAX_HEAD: usize = 16_384;

/// Answers the one request on `stream` with what `answer` makes of it, and closes. `endpoint` names
/// us in the log. The body is read by `answer`, with [`read_body`], or not at all.
pub async fn answer_one<A, B>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    endpoint: &'static str,
    answer: impl Fn(Request<Incoming>) -> A,
    stop: CancellationToken,
) where
    A: Future<Output = Response<B>>,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    let service = service_fn(|request| {
        let response = answer(request);
        async move { Ok::<_, Infallible>(response.await) }
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

/// How long a connection serves one request after the other. Then it ends, so that whoever is at the other
/// end shows its certificate again.
pub const LIFE: Duration = Duration::from_secs(600);

/// Answers the requests on `stream`, one after the other, with what `answer` makes of each, until it is
/// idle for [`DEADLINE`] or [`LIFE`] is over. Each has the time that [`answer_one`] gives; one that takes
/// longer ends the connection without an answer.
pub async fn answer_each<A, B>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    endpoint: &'static str,
    answer: impl Fn(Request<Incoming>) -> A,
    stop: CancellationToken,
) where
    A: Future<Output = Response<B>>,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    let service = service_fn(|request| tokio::time::timeout(DEADLINE, answer(request)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(DEADLINE)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let until = async {
        let _over = stop.run_until_cancelled(tokio::time::sleep(LIFE)).await;
    };
    let mut served = tokio::select! {
        served = connection.as_mut() => Some(served),
        () = until => None,
    };
    if served.is_none() {
        // Whoever is being answered has that answer; nobody else is.
        connection.as_mut().graceful_shutdown();
        served = tokio::time::timeout(DEADLINE, connection).await.ok();
    }
    if let Some(Err(error)) = served {
        debug!(endpoint, error = %Chain(&error), "request not answered");
    }
}

/// The whole of a request's body, wiped when it is dropped.
///
/// # Errors
///
/// [`BodyError`] if it has more than `most` bytes, or does not arrive. No more than `most` is kept.
pub async fn read_body<B>(body: B, most: usize) -> Result<Zeroizing<Vec<u8>>, BodyError>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
{
    let room = body.size_hint().upper().and_then(|length| usize::try_from(length).ok());
    if room.is_some_and(|length| most < length) {
        return Err(BodyError::TooLarge(most));
    }
    // Room for everything: a buffer that grows would leave pieces of a secret behind.
    let mut whole = Zeroizing::new(Vec::with_capacity(room.unwrap_or(most)));
    let mut body = std::pin::pin!(Limited::new(body, most));
    while let Some(frame) = body.as_mut().frame().await {
        let frame = frame.map_err(|error| {
            if error.is::<LengthLimitError>() {
                BodyError::TooLarge(most)
            } else {
                BodyError::Broken(error)
            }
        })?;
        if let Some(bytes) = frame.data_ref() {
            whole.extend_from_slice(bytes);
        }
    }
    Ok(whole)
}

/// A body was not read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is larger than any that makes sense.
    #[error("the body has more than {0} bytes")]
    TooLarge(usize),
    /// The connection broke.
    #[error("the body did not arrive")]
    Broken(#[source] Box<dyn Error + Send + Sync>),
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// What a server that echoes up to eight bytes answers.
    async fn echo(request: &str) -> String {
        let (mut client, server) = tokio::io::duplex(1 << 10);
        let answer = async |request: Request<Incoming>| {
            let text = match read_body(request.into_body(), 8).await {
                Ok(bytes) => bytes.to_vec(),
                Err(error) => error.to_string().into(),
            };
            Response::new(Full::new(Bytes::from(text)))
        };
        let serving = answer_one(server, "test", answer, CancellationToken::new());
        let mut answer = String::new();
        let asking = async {
            client.write_all(request.as_bytes()).await.unwrap();
            client.read_to_string(&mut answer).await.unwrap();
        };
        tokio::join!(serving, asking);
        answer.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned())
    }

    /// What a server answers to all of `requests`, sent at once and not followed by more.
    async fn each(requests: &str, stop: CancellationToken) -> String {
        let (mut client, server) = tokio::io::duplex(1 << 12);
        let answer = async |request: Request<Incoming>| {
            if request.uri().path() == "/slow" {
                std::future::pending::<()>().await;
            }
            Response::new(Full::new(Bytes::from(format!("<{}>", request.uri().path()))))
        };
        let serving = answer_each(server, "test", answer, stop);
        let mut answers = String::new();
        let asking = async {
            client.write_all(requests.as_bytes()).await.unwrap();
            client.read_to_string(&mut answers).await.unwrap();
        };
        tokio::join!(serving, asking);
        answers
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_serves_one_request_after_the_other_until_it_is_idle() {
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
        let begun = tokio::time::Instant::now();
        let answers = each(&(get("/a") + &get("/b")), CancellationToken::new()).await;
        assert!(answers.contains("</a>") && answers.contains("</b>"), "{answers}");
        assert!(begun.elapsed() < DEADLINE * 2, "{:?}", begun.elapsed());
        // One that is not answered in time ends it.
        let answers = each(&(get("/slow") + &get("/b")), CancellationToken::new()).await;
        assert_eq!(answers, "");
        // So does the end of the server.
        let stop = CancellationToken::new();
        stop.cancel();
        assert!(!each("", stop).await.contains("</"));
    }

    #[tokio::test]
    async fn nothing_is_read_after_a_body_whose_length_another_may_see_otherwise() {
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
        let both = "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\
                    transfer-encoding: chunked\r\n\r\n0\r\n\r\n";
        let answers = each(&format!("{both}{}", get("/smuggled")), CancellationToken::new()).await;
        assert!(answers.contains("</a>") && answers.contains("connection: close"), "{answers}");
        assert!(!answers.contains("smuggled"), "{answers}");
    }

    #[tokio::test]
    async fn a_body_is_read_whole_or_not_at_all() {
        let post = |rest: &str| format!("POST / HTTP/1.1\r\nhost: a\r\n{rest}");
        assert_eq!(echo(&post("content-length: 8\r\n\r\n12345678")).await, "12345678");
        let chunked = "transfer-encoding: chunked\r\n\r\n4\r\n1234\r\n4\r\n5678\r\n";
        assert_eq!(echo(&post(&format!("{chunked}0\r\n\r\n"))).await, "12345678");
        let too_large = "the body has more than 8 bytes";
        assert_eq!(echo(&post("content-length: 9\r\n\r\n123456789")).await, too_large);
        assert_eq!(echo(&post(&format!("{chunked}1\r\n9\r\n0\r\n\r\n"))).await, too_large);
        assert_eq!(echo("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await, "");
    }
}
