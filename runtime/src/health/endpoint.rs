//! `/live`, `/ready` and `/metrics` over HTTP/1.1.
//!
//! It is meant for a supervisor on the same machine, but stays polite when a stranger calls: a
//! connection carries one request without a body, small headers and a deadline, and there are only
//! so many at a time.

use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::debug;

use super::Health;
use crate::accept::Backoff;
use crate::http::answer_one;
use crate::slots::Slots;
use crate::tasks::Tasks;
use crate::telemetry::Metrics;

/// Connections at a time; more wait in the kernel's queue. A supervisor and a few Prometheus
/// servers hold one each.
const MAX_CONNECTIONS: usize = 64;

/// The same of any one address; more are closed as soon as they are accepted. Nobody else may keep a
/// supervisor from learning that the process is well.
const MAX_CONNECTIONS_PER_IP: usize = 32;

/// A TCP socket on which the health of a process can be asked for.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
    addr: SocketAddr,
}

impl Endpoint {
    /// Takes the address; answers begin with [`Self::serve`].
    ///
    /// # Errors
    ///
    /// [`BindEndpointError`] if the address is taken or not ours.
    pub async fn bind(addr: SocketAddr) -> Result<Self, BindEndpointError> {
        let failed = |source| BindEndpointError { addr, source };
        let listener = TcpListener::bind(addr).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, addr })
    }

    /// Where it listens, with the port that the operating system chose if 0 was asked for.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers until `tasks` stop.
    pub fn serve(self, tasks: &Tasks, health: Health, metrics: Metrics) {
        let answers = Answers { health, metrics };
        let connections = tasks.clone();
        tasks.spawn("health", |stop| async move {
            stop.run_until_cancelled(accept(self.listener, answers, connections)).await;
            Ok(())
        });
    }
}

/// The health endpoint can't listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr} for health checks; choose another address in the configuration")]
pub struct BindEndpointError {
    addr: SocketAddr,
    source: io::Error,
}

async fn accept(listener: TcpListener, answers: Answers, tasks: Tasks) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let callers = Slots::new(MAX_CONNECTIONS, MAX_CONNECTIONS_PER_IP);
    let mut backoff = Backoff::default();
    // Nobody closes the semaphore.
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, caller)) => {
                backoff.reset();
                let Ok(place) = callers.take(caller.ip().to_canonical()) else {
                    debug!(%caller, "too many connections for health checks; one was closed");
                    continue;
                };
                let answers = answers.clone();
                tasks.spawn("health connection", |stop| async move {
                    let answer = |request: Request<Incoming>| {
                        ready(answers.to(request.method(), request.uri().path()))
                    };
                    answer_one(stream, "health", answer, stop).await;
                    drop((slot, place));
                    Ok(())
                });
            }
            Err(error) => backoff.pause(&error).await,
        }
    }
}

#[derive(Clone)]
struct Answers {
    health: Health,
    metrics: Metrics,
}

impl Answers {
    fn to(&self, method: &Method, path: &str) -> Response<String> {
        if *method != Method::GET && *method != Method::HEAD {
            return answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, String::new());
        }
        match path {
            "/live" => answer(StatusCode::OK, TEXT, "alive\n".to_owned()),
            "/ready" => {
                let report = self.health.report();
                let status = match report.is_ready() {
                    true => StatusCode::OK,
                    false => StatusCode::SERVICE_UNAVAILABLE,
                };
                answer(status, JSON, report.to_json())
            }
            "/metrics" => answer(StatusCode::OK, PROMETHEUS, self.metrics.render()),
            _ => answer(StatusCode::NOT_FOUND, TEXT, String::new()),
        }
    }
}

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROMETHEUS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4");

fn answer(status: StatusCode, kind: HeaderValue, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::health::State;
    use crate::http::{DEADLINE, MAX_HEAD};
    use crate::tasks::Drain;

    struct World {
        tasks: Tasks,
        health: Health,
        addr: SocketAddr,
    }

    impl World {
        async fn start() -> Self {
            let (tasks, health) = (Tasks::default(), Health::default());
            let endpoint = Endpoint::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
            let addr = endpoint.addr();
            endpoint.serve(&tasks, health.clone(), Metrics::detached().0);
            Self { tasks, health, addr }
        }

        /// Everything the endpoint answers to these bytes before it closes the connection.
        async fn send(&self, request: &str) -> String {
            let mut stream = TcpStream::connect(self.addr).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        }

        async fn get(&self, path: &str) -> String {
            self.send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await
        }
    }

    #[tokio::test]
    async fn ready_says_why_not() {
        let world = World::start().await;
        let store = world.health.part("store");
        let answer = world.get("/ready").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.ends_with(r#"{"ready":false,"parts":{"store":"starting"}}"#), "{answer}");

        store.set(State::Ready);
        let answer = world.get("/ready").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    #[tokio::test]
    async fn each_path_has_its_answer() {
        let world = World::start().await;
        for (path, status) in [("/live", 200), ("/metrics", 200), ("/", 404), ("/ready/", 404)] {
            let answer = world.get(path).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
        }
        let answer =
            world.send("POST /live HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    }

    #[tokio::test]
    async fn a_head_without_end_is_refused() {
        let world = World::start().await;
        let answer = world.send(&format!("GET /{} HTTP/1.1\r\n", "a".repeat(MAX_HEAD))).await;
        assert!(
            answer.starts_with("HTTP/1.1 414 ") || answer.starts_with("HTTP/1.1 431 "),
            "{answer}"
        );
    }

    #[tokio::test]
    async fn one_address_does_not_keep_out_the_others() {
        let world = World::start().await;
        let mut silent = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            silent.push(socket.connect(world.addr).await.unwrap());
        }
        // Those beyond the limit are closed; the rest has ten seconds.
        let begun = tokio::time::Instant::now();
        assert!(world.get("/live").await.starts_with("HTTP/1.1 200 "));
        assert!(begun.elapsed() < DEADLINE / 2, "{:?}", begun.elapsed());
        assert_eq!(silent.last_mut().unwrap().read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_silent_caller_does_not_hold_up_the_drain() {
        let world = World::start().await;
        let _silent = TcpStream::connect(world.addr).await.unwrap();
        world.get("/live").await;
        world.tasks.stop();
        assert_eq!(world.tasks.drained(DEADLINE).await, Drain::Clean);
    }

    #[tokio::test]
    async fn a_taken_address_is_named() {
        let world = World::start().await;
        let error = Endpoint::bind(world.addr).await.unwrap_err();
        assert!(error.to_string().contains(&world.addr.to_string()), "{error}");
    }
}
