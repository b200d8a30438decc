//! A relay between enclaves, played by clients on a Unix socket, and a server that is played, too.

use std::path::{Path, PathBuf};

use claviger_runtime::place::ServerAddr;
use claviger_runtime::tasks::Drain;
use tempfile::{TempDir, tempdir};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::world::within;

struct World {
    server: TcpListener,
    tasks: Tasks,
    path: PathBuf,
    _dir: TempDir,
}

impl World {
    async fn with(limits: Limits) -> Self {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (dir, tasks) = (tempdir().unwrap(), Tasks::default());
        let path = dir.path().join("relay.sock");
        let settings = Settings { listen: LocalDoor::Unix(path.clone()), limits };
        let address: ServerAddr = server.local_addr().unwrap().to_string().parse().unwrap();
        open(&settings, &address.into(), &tasks).unwrap();
        Self { server, tasks, path, _dir: dir }
    }

    /// A connection of an enclave's, and the server's end of it.
    async fn connected(&self) -> (UnixStream, TcpStream) {
        let near = UnixStream::connect(&self.path).await.unwrap();
        (near, within(self.server.accept()).await.unwrap().0)
    }
}

async fn is_closed(stream: &mut UnixStream) -> bool {
    matches!(within(stream.read(&mut [0])).await, Ok(0) | Err(_))
}

#[tokio::test]
async fn bytes_go_both_ways_and_one_direction_may_end_first() {
    let world = World::with(Limits::default()).await;
    let (mut near, mut far) = world.connected().await;
    near.write_all(b"question").await.unwrap();
    near.shutdown().await.unwrap();
    let mut asked = Vec::new();
    within(far.read_to_end(&mut asked)).await.unwrap();
    assert_eq!(asked, b"question");
    far.write_all(b"answer").await.unwrap();
    drop(far);
    let mut answered = Vec::new();
    within(near.read_to_end(&mut answered)).await.unwrap();
    assert_eq!(answered, b"answer");
}

#[tokio::test]
async fn whoever_does_not_read_stops_whoever_writes() {
    let world = World::with(Limits::default()).await;
    let (mut near, _far) = world.connected().await;
    let chunk = vec![0; 64 << 10];
    let flood = async {
        let mut sent = 0_usize;
        while let Ok(written) =
            tokio::time::timeout(Duration::from_secs(1), near.write(&chunk)).await
        {
            sent += written.unwrap();
        }
        sent
    };
    let sent = within(flood).await;
    // What the sockets hold, and no more.
    assert!(sent < 32 << 20, "{sent}");
}

#[tokio::test]
async fn there_are_only_so_many_connections_at_a_time() {
    let world = World::with(Limits { connections: 1, ..Limits::default() }).await;
    let (near, far) = world.connected().await;
    let mut second = UnixStream::connect(&world.path).await.unwrap();
    assert!(is_closed(&mut second).await);
    drop((near, far));
    // The relay notices a moment later that there is room again.
    let next = async {
        loop {
            let mut near = UnixStream::connect(&world.path).await.unwrap();
            let mut byte = [0];
            tokio::select! {
                accepted = world.server.accept() => break accepted.unwrap(),
                _closed = near.read(&mut byte) => tokio::task::yield_now().await,
            }
        }
    };
    within(next).await;
}

#[tokio::test]
async fn an_idle_connection_ends_and_a_busy_one_does_not() {
    let idle = Duration::from_millis(300);
    let world = World::with(Limits { idle, ..Limits::default() }).await;
    let (mut quiet, _far) = world.connected().await;
    let (mut busy, mut far) = world.connected().await;
    for _ in 0..20 {
        busy.write_all(b"x").await.unwrap();
        within(far.read_exact(&mut [0])).await.unwrap();
        tokio::time::sleep(idle / 6).await;
    }
    assert!(is_closed(&mut quiet).await);
    busy.write_all(b"x").await.unwrap();
    within(far.read_exact(&mut [0])).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_away_ends_the_connection_and_not_the_relay() {
    let World { server, tasks, path, _dir } = World::with(Limits::default()).await;
    let address = server.local_addr().unwrap();
    drop(server);
    let mut near = UnixStream::connect(&path).await.unwrap();
    assert!(is_closed(&mut near).await);
    let server = TcpListener::bind(address).await.unwrap();
    World { server, tasks, path, _dir }.connected().await;
}

#[tokio::test]
async fn a_stop_lets_an_answer_through_and_waits_for_no_agent() {
    let world = World::with(Limits::default()).await;
    let (mut near, mut far) = world.connected().await;
    world.tasks.stop();
    far.write_all(b"last").await.unwrap();
    let mut got = Vec::new();
    drop(within(near.read_to_end(&mut got)).await);
    assert_eq!(got, b"last");
    assert_eq!(world.tasks.drained(Duration::from_secs(10)).await, Drain::Clean);
    assert!(!Path::new(&world.path).exists());
}

#[tokio::test]
async fn a_port_that_cannot_be_had_is_named() {
    let error = open(
        &Settings {
            listen: "unix:/nonexistent/r.sock".parse().unwrap(),
            limits: Limits::default(),
        },
        &"127.0.0.1:1".parse::<ServerAddr>().unwrap().into(),
        &Tasks::default(),
    )
    .unwrap_err();
    assert!(error.to_string().contains("/nonexistent"), "{error}");
}
