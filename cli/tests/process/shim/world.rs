//! A server, an agent, a shim on each side, and a listener behind the far one.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use claviger_tests::process::{Deployment, PATIENCE, free_port, my_uid};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};

use crate::claviger;

pub(super) struct World {
    pub(super) deployment: Deployment,
    /// The shim beside the client.
    pub(super) near: Child,
    /// The shim beside the server.
    far: Child,
    /// Where the client connects.
    pub(super) door: SocketAddr,
    /// Where strangers connect.
    pub(super) port: SocketAddr,
    server: TcpListener,
    health: [SocketAddr; 2],
    dir: TempDir,
}

impl World {
    /// Starts everything; `more` stands at the end of the client's route.
    pub(super) async fn start(more: &str) -> Self {
        let deployment = Deployment::start(&claviger()).await;
        for name in ["web", "db"] {
            let id = format!("spiffe://example.org/{name}");
            let args = ["entry", "create", "--spiffe-id", &id, "--selector", &my_uid(), "--wait"];
            deployment.admin(&args).await;
        }
        let dir = TempDir::new().unwrap();
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let [door, port, near, far] =
            [(); 4].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let to = server.local_addr().unwrap();
        let shared = "name = \"db\"\nmode = \"psk\"\npurpose = \"query\"\n";
        let outbound = format!(
            "[[outbound]]\n{shared}listen = \"{door}\"\nto = \"{port}\"\n\
             peer = \"spiffe://example.org/db\"\n{more}\n"
        );
        let inbound = format!("[[inbound]]\n{shared}listen = \"{port}\"\nto = \"{to}\"\n");
        let shim = |name: &str, id: &str, health: SocketAddr, route: &str| {
            let file = dir.path().join(format!("{name}.toml"));
            let records = dir.path().join(format!("{name}.jsonl"));
            let config = format!(
                "socket = \"{}\"\nspiffe-id = \"spiffe://example.org/{id}\"\n{route}\
                 [health]\nlisten = \"{health}\"\n[access]\nfile = \"{}\"\n\
                 [log]\nlevel = \"debug\"\n",
                deployment.agent_socket().display(),
                records.display(),
            );
            fs::write(&file, config).unwrap();
            let args = [Path::new("shim"), Path::new("run"), Path::new("--config"), &file];
            claviger().command(args.map(PathBuf::from)).spawn().unwrap()
        };
        let near_shim = shim("near", "web", near, &outbound);
        let far_shim = shim("far", "db", far, &inbound);
        for health in [near, far] {
            let ready = async {
                while !get(health, "/ready").await.starts_with("HTTP/1.1 200 ") {
                    sleep(Duration::from_millis(10)).await;
                }
            };
            timeout(PATIENCE, ready).await.unwrap();
        }
        Self {
            deployment,
            near: near_shim,
            far: far_shim,
            door,
            port,
            server,
            health: [near, far],
            dir,
        }
    }

    /// A connection of the client's.
    pub(super) async fn connect(&self) -> TcpStream {
        timeout(PATIENCE, TcpStream::connect(self.door)).await.unwrap().unwrap()
    }

    /// Whether a connection of the client's is closed at once. That may be before it is known that there
    /// is one.
    pub(super) async fn is_refused(&self) -> bool {
        let refused = async {
            let mut client = TcpStream::connect(self.door).await?;
            client.read_u8().await
        };
        timeout(PATIENCE, refused).await.unwrap().is_err()
    }

    /// The server's end of the next one that gets through.
    pub(super) async fn accept(&self) -> TcpStream {
        timeout(PATIENCE, self.server.accept()).await.unwrap().unwrap().0
    }

    /// What each of the shims recorded of the one connection there was.
    pub(super) async fn records(&self) -> [Value; 2] {
        let mut records = Vec::new();
        for name in ["near", "far"] {
            let path = self.dir.path().join(format!("{name}.jsonl"));
            let written = async {
                loop {
                    match fs::read_to_string(&path) {
                        Ok(lines) if lines.ends_with('\n') => break lines,
                        Ok(_) | Err(_) => sleep(Duration::from_millis(10)).await,
                    }
                }
            };
            let lines = timeout(PATIENCE, written).await.unwrap();
            records.push(serde_json::from_str(&lines).unwrap());
        }
        records.try_into().unwrap()
    }

    /// Whether the shim beside the server comes to count `what`.
    pub(super) async fn metric(&self, what: &str) -> bool {
        counts(self.health[1], what).await
    }

    /// Whether the shim beside the client does.
    pub(super) async fn metric_of_near(&self, what: &str) -> bool {
        counts(self.health[0], what).await
    }

    /// Leaves the shim beside the server `most` descriptors.
    pub(super) fn limit_far(&self, most: u64) {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        prlimit(Some(self.far_pid()), Resource::Nofile, limit).unwrap();
    }

    /// The processor time that the shim beside the server has used.
    pub(super) fn far_cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.far_pid().as_raw_nonzero()));
        let stat = stat.unwrap();
        let (_name, fields) = stat.rsplit_once(") ").unwrap();
        // utime and stime, the 14th and 15th of proc_pid_stat(5), in hundredths of a second.
        let ticks = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap());
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }

    fn far_pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.far.id().unwrap()).unwrap()).unwrap()
    }
}

async fn counts(health: SocketAddr, what: &str) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let metrics = get(health, "/metrics").await;
        if metrics.contains(what) {
            return true;
        }
        assert!(Instant::now() < deadline, "no `{what}` in {metrics}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// What is answered at `path`; nothing while nobody answers.
async fn get(health: SocketAddr, path: &str) -> String {
    let mut answer = String::new();
    let asking = async {
        let mut stream = TcpStream::connect(health).await?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await?;
        stream.read_to_string(&mut answer).await
    };
    match asking.await {
        Ok(_) => answer,
        Err(_) => String::new(),
    }
}
