//! Accepting connections.

use std::io;
use std::path::Path;

use futures_util::Stream;
use futures_util::stream::unfold;
use metrics::counter;
use serde::Deserialize;
use tokio::net::{UnixListener, UnixStream};
use tracing::debug;

use super::bind::{BindError, SocketFile, bind};
use super::incoming::Incoming;
use super::peer::{Peer, PeerError, check_kernel};
use super::stream::PeerStream;
use crate::accept::Backoff;
use crate::slots::{Full, Slots};
use crate::telemetry::Chain;

/// How many connections may be open at a time. More are closed as soon as they are accepted.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Of all users together. Each takes two file descriptors.
    pub connections: usize,
    /// Of any one user.
    pub connections_per_uid: usize,
}

impl Default for Limits {
    /// Room for a machine full of workloads, a quarter of it for any one user.
    fn default() -> Self {
        Self { connections: 8_192, connections_per_uid: 2_048 }
    }
}

/// A Unix socket that knows its callers. Dropping it removes the socket file.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    slots: Slots<u32>,
    backoff: Backoff,
    file: SocketFile,
}

impl Listener {
    /// Listens at `path`, with the permission bits `mode` (as in chmod(2)) from the first moment
    /// at which anyone can connect. A socket that nobody listens on any more is replaced.
    ///
    /// # Errors
    ///
    /// [`BindError`] says what is in the way and what to do about it.
    pub fn bind(path: &Path, mode: u32, limits: Limits) -> Result<Self, BindError> {
        check_kernel().map_err(BindError::NoPidfd)?;
        let (listener, file) = bind(path, mode)?;
        let listener = UnixListener::from_std(listener).map_err(|source| BindError::Io {
            path: path.to_owned(),
            doing: "poll",
            source,
        })?;
        let slots = Slots::new(limits.connections, limits.connections_per_uid);
        Ok(Self { listener, slots, backoff: Backoff::default(), file })
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The next connection whose caller is known and has room. Others are closed, and a failing
    /// accept is tried again: nothing a caller does ends the listener.
    pub async fn accept(&mut self) -> PeerStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _unnamed)) => {
                    self.backoff.reset();
                    match self.admit(stream) {
                        Ok(stream) => return stream,
                        Err(refusal) => {
                            counter!("claviger_unix_connections_refused_total", "reason" => refusal.label()).increment(1);
                            debug!(path = %self.path().display(), error = %Chain(&refusal), "connection refused");
                        }
                    }
                }
                Err(error) => self.backoff.pause(&error).await,
            }
        }
    }

    fn admit(&self, stream: UnixStream) -> Result<PeerStream, Refusal> {
        let peer = Peer::of(&stream)?;
        let slot = self.slots.take(peer.uid())?;
        let incoming = Incoming::new(stream, peer).map_err(PeerError::Io)?;
        Ok(PeerStream::new(incoming, slot))
    }

    /// All connections, as tonic's `serve_with_incoming_shutdown` takes them. It never ends.
    pub fn incoming(self) -> impl Stream<Item = io::Result<PeerStream>> + Send {
        unfold(self, async |mut listener| {
            let stream = listener.accept().await;
            Some((Ok(stream), listener))
        })
    }
}

/// Why a connection is closed right away.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("caller unknown")]
    Unknown(#[from] PeerError),
    #[error("too many connections")]
    Full(#[from] Full),
}

impl Refusal {
    fn label(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "caller-unknown",
            Self::Full(full) => full.label(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Stdio;
    use std::time::Duration;

    use tempfile::{TempDir, tempdir};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::process::Command;
    use tonic::transport::{Endpoint, Server};
    use tonic::{Request, Status};
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    use tonic_health::pb::health_server::HealthServer;
    use tonic_health::server::{HealthReporter, HealthService};

    use super::*;
    use crate::tasks::{Drain, Tasks};
    use crate::unix::{SocketPathError, connector};

    fn listener(limits: Limits) -> (TempDir, Listener) {
        let dir = tempdir().unwrap();
        let listener = Listener::bind(&dir.path().join("a.sock"), 0o600, limits).unwrap();
        (dir, listener)
    }

    #[tokio::test]
    async fn a_long_path_is_refused_by_name() {
        let path = PathBuf::from(format!("/tmp/{}", "a".repeat(120)));
        let error = Listener::bind(&path, 0o600, Limits::default()).unwrap_err();
        assert!(
            matches!(error, BindError::Path(SocketPathError::TooLong { len: 125, .. })),
            "{error}"
        );
    }

    #[tokio::test]
    async fn bytes_flow_and_the_caller_is_known() {
        let (_dir, mut listener) = listener(Limits::default());
        let mut client = UnixStream::connect(listener.path()).await.unwrap();
        let mut server = listener.accept().await;
        assert_eq!(server.peer().pid(), std::process::id());

        client.write_all(b"ping").await.unwrap();
        let mut got = [0; 4];
        server.read_exact(&mut got).await.unwrap();
        server.write_all(&got).await.unwrap();
        server.shutdown().await.unwrap();
        let mut back = Vec::new();
        client.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, b"ping");
    }

    /// The other process is this test binary again, running [`be_a_caller`].
    #[tokio::test]
    async fn another_process_is_told_apart_and_its_end_is_noticed() {
        let (_dir, mut listener) = listener(Limits::default());
        let mut caller = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "unix::listener::tests::be_a_caller"])
            .env(CALLER, listener.path())
            .stdout(Stdio::null())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stream = listener.accept().await;
        assert_eq!(Some(stream.peer().pid()), caller.id());
        assert!(!stream.peer().has_exited());

        let peer = stream.peer().clone();
        drop(stream); // The caller ends when its connection does.
        peer.exited().await;
        assert!(caller.wait().await.unwrap().success());
    }

    const CALLER: &str = "CLAVIGER_TEST_CALLER";

    #[tokio::test]
    #[ignore = "run by another test, as a process of its own"]
    async fn be_a_caller() {
        let path = std::env::var_os(CALLER).unwrap();
        let mut stream = UnixStream::connect(path).await.unwrap();
        let mut nothing = Vec::new();
        stream.read_to_end(&mut nothing).await.unwrap();
    }

    #[tokio::test]
    async fn whoever_carries_bytes_on_gets_them_as_they_were_written() {
        let (_dir, mut listener) = listener(Limits::default());
        let mut client = UnixStream::connect(listener.path()).await.unwrap();
        let mut server = listener.accept().await.unedited();
        // A preface, and a frame of HEADERS whose `:authority` is a path.
        let said = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x05\x01\x05\0\0\0\x01\x41\x03%2F";
        client.write_all(said).await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = Vec::new();
        server.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, said);
    }

    #[tokio::test]
    async fn a_caller_beyond_the_limit_is_closed_and_the_next_is_served() {
        let (_dir, mut listener) = listener(Limits { connections: 9, connections_per_uid: 1 });
        let path = listener.path().to_owned();
        let _first = UnixStream::connect(&path).await.unwrap();
        let held = listener.accept().await;

        let mut second = UnixStream::connect(&path).await.unwrap();
        let closed = async { second.read(&mut [0]).await.unwrap() };
        tokio::select! {
            _ = listener.accept() => panic!("one too many"),
            read = closed => assert_eq!(read, 0),
        }

        drop(held);
        let _third = UnixStream::connect(&path).await.unwrap();
        listener.accept().await;
    }

    #[tokio::test]
    async fn a_caller_that_hung_up_does_no_harm() {
        let (_dir, mut listener) = listener(Limits::default());
        drop(UnixStream::connect(listener.path()).await.unwrap());
        listener.accept().await;
        let _next = UnixStream::connect(listener.path()).await.unwrap();
        listener.accept().await;
    }

    /// Serves health checks, to this process only.
    fn serve(tasks: &Tasks, listener: Listener) {
        tasks.spawn("server", |stop| async move {
            let service = HealthServer::with_interceptor(
                HealthService::from_health_reporter(HealthReporter::new()),
                known,
            );
            let stopped = stop.cancelled_owned();
            Server::builder()
                .add_service(service)
                .serve_with_incoming_shutdown(listener.incoming(), stopped)
                .await?;
            Ok(())
        });
    }

    #[tokio::test]
    async fn a_service_finds_its_caller_in_the_request() {
        let (_dir, listener) = listener(Limits::default());
        let path = listener.path().to_owned();
        let tasks = Tasks::default();
        serve(&tasks, listener);

        let channel = Endpoint::from_static("http://unused")
            .connect_with_connector(connector(path.clone()).unwrap())
            .await
            .unwrap();
        HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap();
        tasks.stop();
        assert_eq!(tasks.drained(Duration::from_secs(10)).await, Drain::Clean);
        assert!(!path.exists(), "the socket file is gone with its server");
    }

    /// As gRPC's C core does it, byte by byte.
    #[tokio::test]
    async fn a_client_that_calls_the_host_by_the_path_of_the_socket_is_served() {
        const HEADERS: u8 = 1;
        const RST_STREAM: u8 = 3;

        let (_dir, listener) = listener(Limits::default());
        let mut client = UnixStream::connect(listener.path()).await.unwrap();
        serve(&Tasks::default(), listener);

        let field = |name: &[u8], value: &[u8]| {
            let length = u8::try_from(value.len()).unwrap();
            [name, &[length], value].concat()
        };
        let request = [
            b"\x83\x86".to_vec(), // POST, http
            field(b"\x44", b"/grpc.health.v1.Health/Check"),
            field(b"\x40\x0a:authority", b"run%2Fclaviger%2Fagent.sock"),
            field(b"\x5f", b"application/grpc"),
            field(b"\x40\x02te", b"trailers"),
        ]
        .concat();
        let length = u8::try_from(request.len()).unwrap();
        let settings = b"\0\0\0\x04\0\0\0\0\0";
        let message = b"\0\0\x05\0\x01\0\0\0\x01\0\0\0\0\0";
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        client.write_all(settings).await.unwrap();
        client.write_all(&[0, 0, length, HEADERS, 4, 0, 0, 0, 1]).await.unwrap();
        client.write_all(&[request.as_slice(), message].concat()).await.unwrap();

        let answer = loop {
            let mut frame = [0; 9];
            client.read_exact(&mut frame).await.unwrap();
            let [a, b, c, kind, ..] = frame;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]).try_into().unwrap()];
            client.read_exact(&mut payload).await.unwrap();
            if [HEADERS, RST_STREAM].contains(&kind) {
                break kind;
            }
        };
        assert_eq!(answer, HEADERS);
    }

    fn known(request: Request<()>) -> Result<Request<()>, Status> {
        match request.extensions().get::<Peer>() {
            Some(peer) if peer.pid() == std::process::id() => Ok(request),
            _ => Err(Status::unauthenticated("caller unknown")),
        }
    }
}
