//! Events as messages of syslog (RFC 5424): over a Unix socket, UDP (RFC 5426), or TCP with the length
//! before each message (RFC 6587 §3.4.1).

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use rustix::system::uname;
use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UdpSocket, UnixDatagram, lookup_host};

use super::export::ExportError;
use super::notice::{Notice, Severity, show};

/// The facility `authpriv`: security, for those who may know (RFC 5424 §6.2.1).
const FACILITY: u8 = 10;

/// Where messages go, such as `unix:/dev/log`, `udp:log.example.org:514` or `tcp:[::1]:601`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub enum Target {
    /// A datagram socket of this machine's.
    Unix(PathBuf),
    /// A host and a port.
    Udp(String),
    /// A host and a port.
    Tcp(String),
}

/// A text names no syslog server.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("name a syslog server: `unix:/dev/log`, `udp:HOST:PORT` or `tcp:HOST:PORT`")]
pub struct ParseTargetError;

impl FromStr for Target {
    type Err = ParseTargetError;

    fn from_str(text: &str) -> Result<Self, ParseTargetError> {
        let (kind, place) = text.split_once(':').ok_or(ParseTargetError)?;
        let remote = || {
            let (host, port) = place.rsplit_once(':').ok_or(ParseTargetError)?;
            let port: u16 = port.parse().map_err(|_no_number| ParseTargetError)?;
            let sound = !host.is_empty() && 0 < port && !host.contains(['/', ' ']);
            sound.then(|| place.to_owned()).ok_or(ParseTargetError)
        };
        match kind {
            "unix" if place.starts_with('/') => Ok(Self::Unix(place.into())),
            "udp" => remote().map(Self::Udp),
            "tcp" => remote().map(Self::Tcp),
            _ => Err(ParseTargetError),
        }
    }
}

impl TryFrom<String> for Target {
    type Error = ParseTargetError;

    fn try_from(text: String) -> Result<Self, ParseTargetError> {
        text.parse()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Udp(place) => write!(f, "udp:{place}"),
            Self::Tcp(place) => write!(f, "tcp:{place}"),
        }
    }
}

/// Sends messages.
#[derive(Debug)]
pub(super) struct Syslog {
    target: Target,
    host: String,
    connection: Option<Connection>,
}

#[derive(Debug)]
enum Connection {
    Unix(UnixDatagram),
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Syslog {
    pub(super) fn new(target: Target) -> Self {
        // RFC 5424 §6.2.4: at most 255 printable characters, or `-` if it is not known.
        let name = uname().nodename().to_string_lossy().into_owned();
        let sound = (1..=255).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
        let host = if sound { name } else { "-".to_owned() };
        Self { target, host, connection: None }
    }

    /// Sends `notices`, over a new connection if there is none.
    pub(super) async fn send(&mut self, notices: &[Arc<Notice>]) -> Result<(), ExportError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.target).await?,
        };
        for notice in notices {
            let message = self.message(notice)?;
            connection.send(&message).await?;
        }
        self.connection = Some(connection);
        Ok(())
    }

    /// `<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID - {…}` (RFC 5424 §6).
    fn message(&self, notice: &Notice) -> Result<Vec<u8>, serde_json::Error> {
        let priority = FACILITY * 8 + severity(notice.severity);
        let (time, host, process) = (show(notice.time), &self.host, std::process::id());
        let id = notice.event.name();
        let head = format!("<{priority}>1 {time} {host} claviger {process} {id} - ");
        let mut message = head.into_bytes();
        serde_json::to_writer(&mut message, notice)?;
        Ok(message)
    }
}

/// RFC 5424 §6.2.1.
const fn severity(severity: Severity) -> u8 {
    match severity {
        Severity::High => 3,
        Severity::Medium => 4,
        Severity::Low => 5,
        Severity::Info => 6,
    }
}

impl Connection {
    async fn open(target: &Target) -> io::Result<Self> {
        Ok(match target {
            Target::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                Self::Unix(socket)
            }
            Target::Udp(place) => {
                let address = lookup_host(place).await?.next();
                let address = address.ok_or_else(|| io::Error::other("the host has no address"))?;
                let any: SocketAddr = match address {
                    SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                    SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
                };
                let socket = UdpSocket::bind(any).await?;
                socket.connect(address).await?;
                Self::Udp(socket)
            }
            Target::Tcp(place) => Self::Tcp(TcpStream::connect(place).await?),
        })
    }

    async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Unix(socket) => socket.send(message).await.map(drop),
            Self::Udp(socket) => socket.send(message).await.map(drop),
            Self::Tcp(stream) => {
                let framed = [format!("{} ", message.len()).as_bytes(), message].concat();
                stream.write_all(&framed).await
            }
        }
    }
}
