//! What an operator writes in `agent.toml`.
//!
//! A [`Config`] that exists is a valid one. [`Config::load`] does not stop at the first mistake: it
//! reports all of them, each with its key, its value and what to do.
//!
//! ```toml
//! trust-domain = "example.org"                       # required
//! server-address = "server.example.org:8081"         # required; or vsock:CID:port, unix:/path;
//!                                                    # or a list of servers that share a store
//! data-dir = "/var/lib/claviger/agent"               # required; made if missing
//! trust-bundle-path = "/etc/claviger/bundle.pem"     # required; see `claviger bundle show`
//! socket-path = "/run/claviger/agent.sock"           # where workloads connect
//! join-token-file = "/etc/claviger/join-token"       # or join-token = "…"; for the first start
//! admin-socket-path = "/run/claviger/agent-admin.sock" # none by default
//! admin-socket-mode = "0600"                         # delegates must be let in: "0770", say
//! authorized-delegates = ["spiffe://example.org/proxy"] # who may ask for anybody's SVIDs
//! broker-socket-path = "/run/claviger/broker.sock"   # none by default
//!
//! [attestor.x509pop]                                 # what the machine has to show for itself:
//! private-key-path = "/etc/machine/key.pem"          # one table for each kind, see docs/attestors/
//! certificate-path = "/etc/machine/cert.pem"
//!
//! [health]
//! listen = "127.0.0.1:8083"                          # no endpoint by default
//!
//! [log]
//! level = "info"                                     # error, warn, info, debug, trace
//! format = "text"                                    # text, json
//!
//! [unix]
//! max-program-size = 536870912                       # larger programs have no unix:sha256
//!
//! [workload.k8s]                                     # ask Kubernetes about pods; see docs/attestors
//! [workload.docker]                                  # ask Docker and Podman about containers
//! [workload.systemd]                                 # ask systemd about units
//!
//! [[brokers]]                                        # who may ask there, and how
//! id = "spiffe://example.org/csi-driver"
//! allowed-references = ["type.googleapis.com/spiffe.broker.WorkloadPIDReference"]
//!
//! [sds]                                              # Envoy's secret discovery service
//! enabled = true
//! default-svid-name = "default"
//! default-bundle-name = "ROOTCA"
//! default-all-bundles-name = "ALL"
//! disable-spiffe-cert-validation = false
//!
//! [clock]                                            # in an enclave, whose host sets the clock
//! trusted = false
//! not-before = "2026-11-21T12:00:00Z"                # when the image was built
//!
//! [relay]                                            # for the enclaves on this machine
//! listen = "vsock:8081"                              # or "unix:/path"; to server-address only
//! connections = 256
//! connections-per-peer = 16
//! idle-seconds = 90
//!
//! [limits]
//! entries = 100000
//! streams = 16384
//! streams-per-uid = 4096
//! [limits.connections]
//! connections = 8192
//! connections-per-uid = 2048
//! ```
//!
//! There is no setting to believe the first server that answers: an agent that does is an agent of
//! whoever answers first.

mod attestor;
mod clock;
mod doors;
mod relay;
mod sds;
#[cfg(test)]
mod tests;
mod workload;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use claviger_attestors::join_token::JoinToken;
use claviger_attestors::unix as unix_attestor;
use claviger_core::id::TrustDomain;
use claviger_runtime::place::ServerAddrs;
use claviger_runtime::settings::{self, AbsolutePath, Problems, Section};
use claviger_runtime::telemetry::LogConfig;
use claviger_runtime::unix;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::clock::Trust;
use crate::relay as relaying;
#[cfg(test)]
pub(crate) use attestor::Source;
pub use attestor::{Attestors, OpenEvidenceError, Opened, TokenSource};
pub use doors::{AdminSocket, BrokerSocket};
pub use sds::Sds;
pub use workload::Workload;

/// An agent's settings.
#[derive(Debug)]
pub struct Config {
    /// The trust domain of its server, and its own.
    pub trust_domain: TrustDomain,
    /// Where the server is; several of them share a store.
    pub servers: ServerAddrs,
    /// Where the agent keeps its identity, and what it must not forget.
    pub data_dir: PathBuf,
    /// The authorities by which it recognizes the server when it attests, in PEM.
    pub trust_bundle_path: PathBuf,
    /// Where workloads connect.
    pub socket_path: PathBuf,
    /// Where the operator asks, and delegates; nowhere if unset.
    pub admin: Option<AdminSocket>,
    /// Where brokers ask; nowhere if unset.
    pub broker: Option<BrokerSocket>,
    /// The token by which it attests; not needed while it has an identity.
    pub join_token: Option<TokenSource>,
    /// What else it attests by.
    pub attestors: Attestors,
    /// Where health checks are answered; nowhere if unset.
    pub health: Option<SocketAddr>,
    /// How to log.
    pub log: LogConfig,
    /// How to look at processes.
    pub unix: unix_attestor::Config,
    /// Whom to ask about processes besides.
    pub workload: Workload,
    /// How to serve Envoys.
    pub sds: Sds,
    /// How far to believe the machine's clock.
    pub clock: Trust,
    /// How enclaves on this machine reach the server; they do not if unset.
    pub relay: Option<relaying::Settings>,
    /// How much of everything there may be.
    pub limits: Limits,
}

/// How much of everything there may be; beyond it, the agent refuses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Entries that the server may delegate to this agent; each takes about 4 kB of memory.
    pub entries: usize,
    /// Open Workload API streams.
    pub streams: usize,
    /// Of any one user.
    pub streams_per_uid: usize,
    /// Connections to the socket.
    pub connections: unix::Limits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 100_000,
            streams: 16_384,
            streams_per_uid: 4_096,
            connections: unix::Limits::default(),
        }
    }
}

impl Config {
    /// The default socket for workloads.
    pub const SOCKET_PATH: &str = "/run/claviger/agent.sock";

    /// An agent of the server at any of `servers`, otherwise left at its defaults.
    #[must_use]
    pub fn new(
        trust_domain: TrustDomain,
        servers: impl Into<ServerAddrs>,
        data_dir: PathBuf,
        trust_bundle_path: PathBuf,
    ) -> Self {
        Self {
            trust_domain,
            servers: servers.into(),
            data_dir,
            trust_bundle_path,
            socket_path: Self::SOCKET_PATH.into(),
            admin: None,
            broker: None,
            join_token: None,
            attestors: Attestors::default(),
            health: None,
            log: LogConfig::default(),
            unix: unix_attestor::Config::default(),
            workload: Workload::default(),
            sds: Sds::default(),
            clock: Trust::default(),
            relay: None,
            limits: Limits::default(),
        }
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    ///
    /// [`Problems`]: every mistake in it.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        Self::parse(&Zeroizing::new(settings::read(path)?))
    }

    /// Reads the text of a configuration file.
    ///
    /// # Errors
    ///
    /// [`Problems`]: every mistake in it.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        settings::parse(text, read)
    }
}

/// Reads everything, so that every problem is found; `None` if something required is missing.
fn read(root: &mut Section<'_>) -> Option<Config> {
    let trust_domain = root.required("trust-domain", "name it, such as `example.org`");
    let servers = root.required(
        "server-address",
        "say where the server is: `host:port`, or `vsock:CID:port` from an enclave; or a list of several",
    );
    let data_dir = root.required::<AbsolutePath>("data-dir", "say where to keep the identity");
    let trust_bundle_path = root.required::<AbsolutePath>(
        "trust-bundle-path",
        "name a file with what `claviger bundle show` prints on the server",
    );
    let socket_path =
        doors::socket_path(root, "socket-path").unwrap_or_else(|| Config::SOCKET_PATH.into());
    let admin = doors::admin_socket(root, trust_domain.as_ref());
    let broker = doors::broker_socket(root, trust_domain.as_ref());
    let join_token = join_token(root);
    let attestors = attestor::read(root, join_token.is_some());
    let health = root.table("health", |health| health.value("listen"));
    let log = root.value("log").unwrap_or_default();
    let unix = root.value("unix").unwrap_or_default();
    let workload = root.table("workload", workload::read);
    let sds = root.table("sds", sds::read);
    let clock = root.table("clock", clock::read);
    let relay = relay::read(root);
    let limits = root.table("limits", limits);
    Some(Config {
        trust_domain: trust_domain?,
        servers: servers?,
        data_dir: data_dir?.0,
        trust_bundle_path: trust_bundle_path?.0,
        socket_path,
        admin,
        broker,
        join_token,
        attestors,
        health,
        log,
        unix,
        workload,
        sds,
        clock,
        relay,
        limits,
    })
}

fn join_token(root: &mut Section<'_>) -> Option<TokenSource> {
    let inline = root.secret::<Token>("join-token");
    let file = root.value::<AbsolutePath>("join-token-file");
    match (inline, file) {
        (Some(_), Some(file)) => {
            let advice = "`join-token` is set, too; keep one of them";
            root.problem("join-token-file", &file.0.display(), advice);
            None
        }
        (Some(token), None) => Some(TokenSource::Inline(token.0)),
        (None, file) => file.map(|path| TokenSource::File(path.0)),
    }
}

fn limits(section: &mut Section<'_>) -> Limits {
    let default = Limits::default();
    let mut at_least_one = |key: &'static str, default: usize| {
        let limit = section.value::<usize>(key).unwrap_or(default);
        if limit == 0 {
            section.problem(key, &limit, "allow at least one");
        }
        limit
    };
    Limits {
        entries: at_least_one("entries", default.entries),
        streams: at_least_one("streams", default.streams),
        streams_per_uid: at_least_one("streams-per-uid", default.streams_per_uid),
        connections: section.value("connections").unwrap_or(default.connections),
    }
}

/// A join token in a configuration file.
struct Token(JoinToken);

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}
