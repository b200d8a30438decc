//! A server and an agent, two shims for each mode, and a program behind them.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use claviger_tests::process::{Claviger, Dev, free_port, my_uid, terminate};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Child;
use tokio::time::{Instant, sleep};

/// How long a shim may take to open its doors.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const CLIENT: &str = "spiffe://example.org/web";
pub(crate) const SERVER: &str = "spiffe://example.org/db";

/// How a pair of shims protects connections.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    Psk,
    Mtls,
}

impl Mode {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Psk => "psk",
            Self::Mtls => "mtls",
        }
    }
}

/// Two shims, each a process.
pub(crate) struct Pair {
    pub(crate) near: Child,
    pub(crate) far: Child,
    /// Where programs come in.
    pub(crate) door: SocketAddr,
}

pub(crate) struct World {
    pub(crate) dev: Dev,
    pub(crate) dir: TempDir,
    /// Answers each byte that it reads with the same.
    pub(crate) echo: SocketAddr,
    /// Reads until there is no more, and answers with one byte.
    pub(crate) sink: SocketAddr,
}

impl World {
    pub(crate) async fn start() -> Self {
        let dev = Dev::start(&Claviger::at(binary())).await;
        for id in [CLIENT, SERVER] {
            let uid = my_uid();
            let create = ["entry", "create", "--spiffe-id", id, "--selector", &uid, "--wait"];
            dev.admin(&create).await;
        }
        let (echo, sink) = (listen(echo).await, listen(sink).await);
        Self { dev, dir: TempDir::new().unwrap(), echo, sink }
    }

    pub(crate) async fn stop(self) {
        self.dev.stop().await;
    }

    /// A pair of shims in front of `to`.
    pub(crate) async fn pair(&self, mode: Mode, to: SocketAddr, more: &str) -> Pair {
        let (mode, socket) = (mode.name(), self.dev.agent_socket.display());
        let (door, between) = (free_port(), free_port());
        let far = format!(
            "socket = \"{socket}\"\nspiffe-id = \"{SERVER}\"\n\
             [limits]\nhandshakes-per-address = 1024\n[log]\nlevel = \"warn\"\n\
             [access]\nfile = \"{}\"\n\
             [[inbound]]\nname = \"db\"\nlisten = \"127.0.0.1:{between}\"\nto = \"{to}\"\n\
             mode = \"{mode}\"\npurpose = \"bench\"\n",
            self.dir.path().join("far.jsonl").display(),
        );
        let near = format!(
            "socket = \"{socket}\"\nspiffe-id = \"{CLIENT}\"\n[log]\nlevel = \"warn\"\n\
             [access]\nfile = \"{}\"\n\
             [[outbound]]\nname = \"db\"\nlisten = \"127.0.0.1:{door}\"\n\
             to = \"127.0.0.1:{between}\"\npeer = \"{SERVER}\"\nmode = \"{mode}\"\n\
             purpose = \"bench\"\n{more}\n",
            self.dir.path().join("near.jsonl").display(),
        );
        let far = self.shim("far", &far, between).await;
        let near = self.shim("near", &near, door).await;
        Pair { near, far, door: ([127, 0, 0, 1], door).into() }
    }

    async fn shim(&self, name: &str, config: &str, port: u16) -> Child {
        let path = self.dir.path().join(format!("{name}.toml"));
        fs::write(&path, config).unwrap();
        let path = path.to_str().unwrap();
        let child = Claviger::at(binary()).command(["shim", "run", "--config", path]);
        let mut child = child;
        let child = child.kill_on_drop(true).spawn().unwrap();
        opens(([127, 0, 0, 1], port).into()).await;
        // The port is bound before the agent has said who the shim is.
        sleep(Duration::from_millis(500)).await;
        child
    }
}

impl Pair {
    pub(crate) async fn stop(mut self) {
        terminate(&mut self.near).await;
        terminate(&mut self.far).await;
    }
}

/// Waits until somebody listens at `address`.
pub(crate) async fn opens(address: SocketAddr) {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(address).await.is_err() {
        assert!(Instant::now() < deadline, "nobody listens at {address}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Connects without delay for small messages.
pub(crate) async fn connect(address: SocketAddr) -> TcpStream {
    let tcp = TcpStream::connect(address).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    tcp
}

/// The release binary beside this benchmark, or the one that `CLAVIGER` names.
fn binary() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "the one setting of a benchmark")]
    let named = std::env::var("CLAVIGER").map(PathBuf::from);
    named.unwrap_or_else(|_unset| {
        let deps = std::env::current_exe().unwrap();
        deps.ancestors().nth(2).unwrap().join("claviger")
    })
}

async fn listen<F>(serve: fn(TcpStream) -> F) -> SocketAddr
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "it ends with the benchmark")]
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            tcp.set_nodelay(true).unwrap();
            tokio::spawn(serve(tcp));
        }
    });
    address
}

async fn echo(mut tcp: TcpStream) -> std::io::Result<()> {
    let mut byte = [0];
    while tcp.read(&mut byte).await? == 1 {
        tcp.write_all(&byte).await?;
    }
    Ok(())
}

async fn sink(mut tcp: TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    while tcp.read(&mut buffer).await? != 0 {}
    tcp.write_all(b"!").await
}
