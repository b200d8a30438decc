//! A machine after a power cut: its disk, the server that starts on it, and who asks there.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use claviger_core::time::SystemClock;
use claviger_proto::claviger::agent::v1::agent_sync_client::AgentSyncClient;
use claviger_proto::claviger::agent::v1::subscribe_request::Step;
use claviger_proto::claviger::agent::v1::{Hello, SubscribeRequest, SubscribeResponse};
use claviger_runtime::tls::{Identity, Svid, TrustBundle, client_config, connector};
use claviger_tests::process::{Deployment, PATIENCE, free_port};
use futures_util::{StreamExt as _, stream};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::time::{Instant, sleep};
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use crate::claviger;

/// A machine that has not started yet.
pub(super) struct Machine {
    dir: TempDir,
    /// What has happened to it.
    pub(super) what: String,
}

impl Machine {
    pub(super) fn new(what: String) -> Self {
        Self { dir: TempDir::new().unwrap(), what }
    }

    /// Where the server's data is to be.
    pub(super) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Starts its server, and waits until it answers.
    pub(super) async fn start(self) -> Server {
        let Self { dir, what } = self;
        let data = dir.path().join("data");
        for_its_owner(&data);
        settle(&data.join("witness"));
        let (address, socket) = (format!("127.0.0.1:{}", free_port()), dir.path().join("sock"));
        let config = dir.path().join("server.toml");
        let text = format!(
            "trust-domain = \"example.org\"\ndata-dir = \"{}\"\nlisten = \"{address}\"\n\
             admin-socket = \"{}\"\n[log]\nlevel = \"error\"\n",
            data.display(),
            socket.display(),
        );
        fs::write(&config, text).unwrap();
        let args = ["server", "run", "--config", config.to_str().unwrap()];
        let mut child = claviger().command(args).spawn().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while UnixStream::connect(&socket).await.is_err() {
            assert!(child.try_wait().unwrap().is_none(), "{what}: the server ended");
            assert!(Instant::now() < deadline, "{what}: the server does not answer");
            sleep(Duration::from_millis(5)).await;
        }
        Server { _dir: dir, child, address, socket }
    }
}

/// Modes are not recorded: all is as a server makes it.
fn for_its_owner(directory: &Path) {
    fs::set_permissions(directory, Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            for_its_owner(&path);
        } else {
            fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
        }
    }
}

/// The disk is in another place, where the witness would be taken for a copy: it says what it said as the file
/// that it is, of a boot that is over. What it cannot be understood of stays as it is.
fn settle(path: &Path) {
    const BOOT: std::ops::Range<usize> = 8..44;
    const CHECKSUM: usize = 32;
    let Ok(mut said) = fs::read(path) else { return };
    let Some(end) = said.len().checked_sub(CHECKSUM).filter(|end| BOOT.end + 24 < *end) else {
        return;
    };
    if digest(&SHA256, &said[..end]).as_ref() != &said[end..] {
        return;
    }
    let file = OpenOptions::new().write(true).open(path).unwrap();
    said[BOOT].fill(b'-');
    // It is written twice: by the first time, what the file system's clock shows is known.
    for _time in 0..2 {
        for (at, number) in facts(&file).into_iter().enumerate() {
            let at = BOOT.end + at * 8;
            said[at..at + 8].copy_from_slice(&number.to_be_bytes());
        }
        let checksum = digest(&SHA256, &said[..end]);
        said[end..].copy_from_slice(checksum.as_ref());
        file.write_all_at(&said, 0).unwrap();
    }
}

/// Which file it is, when it was made, and when it was written.
fn facts(file: &File) -> [u64; 3] {
    let metadata = file.metadata().unwrap();
    let since = |time: std::time::SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let birth = metadata.created().map_or(0, |made| u64::try_from(since(made)).unwrap());
    let written = u64::try_from(metadata.ctime() * 1_000_000_000 + metadata.ctime_nsec()).unwrap();
    [metadata.ino(), birth, written]
}

/// The server of a machine that has started again.
pub(super) struct Server {
    _dir: TempDir,
    child: Child,
    address: String,
    socket: PathBuf,
}

impl Server {
    /// All of its audit log, which is whole.
    pub(super) async fn export_audit(&self) -> String {
        let args = ["audit", "export", "--socket-path", self.socket.to_str().unwrap()];
        let output = claviger().run(args).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(super) async fn stop(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// An agent, as far as a server can tell. What it has seen of the log it does not say.
#[derive(Clone)]
pub(super) struct Agent {
    identity: Identity,
    bundle: TrustBundle,
}

impl Agent {
    /// The agent of `deployment`.
    pub(super) fn of(deployment: &Deployment) -> Self {
        let text = fs::read(deployment.dir().join("agent/identity.pem")).unwrap();
        let (mut chain, mut key) = (Vec::new(), Vec::new());
        for part in pem::parse_many(text).unwrap() {
            if part.tag() == "CERTIFICATE" {
                chain.push(CertificateDer::from(part.into_contents()));
            } else {
                key = part.into_contents();
            }
        }
        let authorities = pem::parse_many(deployment.bundle()).unwrap();
        let authorities: Vec<_> = authorities
            .into_iter()
            .map(|part| CertificateDer::from(part.into_contents()))
            .collect();
        let bundle = TrustBundle::new("example.org".parse().unwrap(), &authorities).unwrap();
        Self { identity: Identity::new(Svid::new(chain, &key).unwrap()), bundle }
    }

    /// Its way to `server`, which serves only those who have said what they have seen.
    pub(super) async fn subscribed(&self, server: &Server) -> Line {
        let id = "spiffe://example.org/spire/server".parse().unwrap();
        let tls = client_config(Some(&self.identity), &self.bundle, id, Arc::new(SystemClock));
        let connector = connector(server.address.parse().unwrap(), tls);
        let endpoint = Endpoint::from_static("http://claviger-server");
        let channel = endpoint.connect_with_connector_lazy(connector);
        let step = Some(Step::Hello(Hello::default()));
        let says = stream::iter([SubscribeRequest { step }]).chain(stream::pending());
        let mut client = AgentSyncClient::new(channel.clone());
        let mut heard = client.subscribe(says).await.unwrap().into_inner();
        heard.message().await.unwrap().unwrap();
        Line { channel, _heard: heard }
    }
}

/// The way of an agent to a server, for as long as it listens to what that has to say.
pub(super) struct Line {
    pub(super) channel: Channel,
    _heard: Streaming<SubscribeResponse>,
}
