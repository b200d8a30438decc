//! What a shim is told to do: the ways out of a machine and the ways in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use claviger_core::id::SpiffeId;
use claviger_core::psk::Purpose;
use claviger_runtime::place::ServerAddr;
use claviger_runtime::unix::{SocketPathError, check_path};
use serde::Deserialize;

/// How a connection is protected, and by what both ends know each other.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Mode {
    /// TLS 1.3 with a key for this one connection. No certificate, and never a fall-back to one.
    Psk,
    /// TLS 1.3 with X.509-SVIDs at both ends.
    Mtls,
    /// Not at all: bytes go through as they are, and it is recorded what the policies would have said.
    /// For finding out what there is before it is forbidden.
    Observe,
}

impl Mode {
    /// As it is written in configurations and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Psk => "psk",
            Self::Mtls => "mtls",
            Self::Observe => "observe",
        }
    }
}

/// Where programs of this machine come in that want to get out.
///
/// | written | is |
/// |---|---|
/// | `127.0.0.1:5432` | a port, for one destination |
/// | `unix:/path` | a Unix socket, for one destination |
/// | `socks5:127.0.0.1:1080` | a SOCKS5 proxy |
/// | `connect:127.0.0.1:3128` | an HTTP proxy |
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub enum Door {
    /// A port of this machine; the destination is always the same.
    Tcp(SocketAddr),
    /// A Unix socket; the destination is always the same.
    Unix(PathBuf),
    /// A SOCKS5 proxy (RFC 1928); the program says where to.
    Socks5(SocketAddr),
    /// An HTTP proxy that knows CONNECT (RFC 9110 §9.3.6); the program says where to.
    Connect(SocketAddr),
}

impl Door {
    /// The address that it takes, if it is not a Unix socket.
    #[must_use]
    pub const fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) | Self::Socks5(address) | Self::Connect(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
            Self::Socks5(address) => write!(f, "{SOCKS5}{address}"),
            Self::Connect(address) => write!(f, "{CONNECT}{address}"),
        }
    }
}

/// What the kinds of doors are written behind; nothing for TCP.
const UNIX: &str = "unix:";
const SOCKS5: &str = "socks5:";
const CONNECT: &str = "connect:";

impl FromStr for Door {
    type Err = ParseDoorError;

    fn from_str(text: &str) -> Result<Self, ParseDoorError> {
        if let Some(path) = text.strip_prefix(UNIX) {
            let path = Path::new(path);
            if !path.is_absolute() {
                return Err(ParseDoorError::Relative(path.to_owned()));
            }
            check_path(path)?;
            return Ok(Self::Unix(path.to_owned()));
        }
        let (kind, address): (fn(SocketAddr) -> Self, _) = match text {
            text if text.starts_with(SOCKS5) => (Self::Socks5, text.strip_prefix(SOCKS5)),
            text if text.starts_with(CONNECT) => (Self::Connect, text.strip_prefix(CONNECT)),
            text => (Self::Tcp, Some(text)),
        };
        let address = address.and_then(|address| address.parse().ok());
        address.map(kind).ok_or_else(|| ParseDoorError::Form(text.to_owned()))
    }
}

impl TryFrom<String> for Door {
    type Error = ParseDoorError;

    fn try_from(text: String) -> Result<Self, ParseDoorError> {
        text.parse()
    }
}

/// Why a string is no door.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseDoorError {
    /// It is of none of the forms.
    #[error(
        "`{0}` is not of the form `127.0.0.1:port`, `unix:/path`, `socks5:127.0.0.1:port` or \
         `connect:127.0.0.1:port`"
    )]
    Form(String),
    /// The path of a socket depends on where the process is started.
    #[error("`{path}` is not an absolute path; begin it with `/`", path = .0.display())]
    Relative(PathBuf),
    /// No socket can be there.
    #[error(transparent)]
    Socket(#[from] SocketPathError),
}

/// Where a connection goes, and who must be there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Destination {
    /// Where the peer's shim listens, or the peer itself.
    pub at: ServerAddr,
    /// Who has to answer.
    pub peer: SpiffeId,
}

/// Where a door leads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Destinations {
    /// To one place.
    One(Destination),
    /// To those that a program may name to a proxy, by `host:port` in lower case as it names them;
    /// nowhere else.
    Named(BTreeMap<String, Destination>),
}

/// The most identities in [`Callers::Known`]: what an agent takes in one question.
pub const MAX_KNOWN: usize = 16;

/// Which programs of this machine may use a door.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Callers {
    /// Those whom the agent knows by one of these identities. In a configuration, none stand for the
    /// shim's own; a desk that is asked about none admits nobody.
    Known(BTreeSet<SpiffeId>),
    /// The process with this number, and those that come from it.
    Descendants(NonZeroU32),
    /// All who reach it. It has to be asked for.
    Anybody,
}

/// A way out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outbound {
    /// What it is called in logs, records and metrics.
    pub name: String,
    /// Where programs come in.
    pub door: Door,
    /// Which programs.
    pub callers: Callers,
    /// Where it leads.
    pub destinations: Destinations,
    /// How connections are protected.
    pub mode: Mode,
    /// What they are for.
    pub purpose: Purpose,
    /// How many one-time keys are kept in hand for each destination while the route is in use, so that
    /// connecting does not wait for their issue.
    pub prefetch: usize,
    /// How long connections last.
    pub lifetime: Lifetime,
}

/// A way in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Inbound {
    /// What it is called in logs, records and metrics.
    pub name: String,
    /// Where strangers come in.
    pub listen: SocketAddr,
    /// The program that is shielded.
    pub to: ServerAddr,
    /// How connections are protected.
    pub mode: Mode,
    /// What they are for. A one-time key says so itself, and has to say the same.
    pub purpose: Purpose,
    /// Who may come in, if not everybody whom the policies permit.
    pub peers: Option<BTreeSet<SpiffeId>>,
    /// Whether the program is told who calls, by a PROXY header.
    pub proxy_header: Option<ProxyHeader>,
    /// How long connections last.
    pub lifetime: Lifetime,
}

/// Versions of the PROXY protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProxyHeader {
    /// A line of text: addresses and nothing else.
    V1,
    /// Binary, with what TLS found out about the peer: its SPIFFE ID is the URI of `PP2_SUBTYPE_SSL_CN`'s
    /// place.
    V2,
}

/// How long a connection lasts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lifetime {
    /// With nothing said in either direction.
    pub idle: Duration,
    /// In all.
    pub max_age: Duration,
}

/// What TLS may use.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Profile {
    /// X25519MLKEM768 first; every suite of TLS 1.3 and every curve that is in good standing.
    #[default]
    Modern,
    /// What NIST SP 800-52r2 approves of: AES-GCM, and groups of FIPS 186 and 203.
    Nist80052r2,
    /// What CNSA 2.0 asks for: AES-256, SHA-384, ML-KEM-1024.
    Cnsa2,
}
