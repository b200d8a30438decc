//! A small web server on loopback, for as long as the demo lasts.

use std::net::SocketAddr;
use std::sync::Arc;

use claviger_runtime::http::{answer_one, read_body};
use claviger_runtime::tasks::Tasks;
use http::{Response, StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::failure::Failure;

/// What is answered: to a method and path, such as `GET /keys`, and a body in JSON, if there is one.
pub(super) type Answers = Arc<dyn Fn(&str, &Value) -> Option<Value> + Send + Sync>;

/// The most bytes of a body. A review holds a token.
const MAX_BODY: usize = 64 << 10;

/// A port that nobody has.
pub(super) async fn bind() -> Result<(TcpListener, SocketAddr), Failure> {
    let failed = |error| Failure::failed(format_args!("cannot listen on loopback: {error}"));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Serves until `tasks` stop; over TLS if there is an acceptor.
pub(super) fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    answers: Answers,
    tasks: &Tasks,
) {
    let connections = tasks.clone();
    tasks.spawn("platform", |stop| async move {
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            let (stream, _address) = accepted?;
            let (tls, answers) = (tls.clone(), Arc::clone(&answers));
            connections.spawn("platform connection", |stop| async move {
                let answer = |request: http::Request<_>| {
                    let answers = Arc::clone(&answers);
                    async move {
                        let question = format!("{} {}", request.method(), request.uri().path());
                        let body = read_body(request.into_body(), MAX_BODY).await;
                        let body = body.ok().and_then(|body| serde_json::from_slice(&body).ok());
                        respond(answers(&question, &body.unwrap_or_default()).as_ref())
                    }
                };
                match tls {
                    // Who does not get through the handshake has nothing to ask.
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            answer_one(stream, "platform", answer, stop).await;
                        }
                    }
                    None => answer_one(stream, "platform", answer, stop).await,
                }
                Ok(())
            });
        }
        Ok(())
    });
}

fn respond(answer: Option<&Value>) -> Response<String> {
    let mut response = Response::new(answer.map(Value::to_string).unwrap_or_default());
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    if answer.is_none() {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    response
}
