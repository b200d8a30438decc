//! Events as messages of syslog (RFC 5424): over a Unix socket, UDP (RFC 5426), or TCP with the length
//! before each message (RFC 6587 §3.4.1).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use rustix::system::uname;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UdpSocket, UnixDatagram, lookup_host};

use super::export::ExportError;
use super::notice::{Notice, Severity, show};
use crate::config::SyslogServer;

/// The facility `authpriv`: security, for those who may know (RFC 5424 §6.2.1).
const FACILITY: u8 = 10;

/// Sends messages.
#[derive(Debug)]
pub(super) struct Syslog {
    target: SyslogServer,
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
    pub(super) fn new(target: SyslogServer) -> Self {
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
    async fn open(target: &SyslogServer) -> io::Result<Self> {
        Ok(match target {
            SyslogServer::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                Self::Unix(socket)
            }
            SyslogServer::Udp(place) => {
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
            SyslogServer::Tcp(place) => Self::Tcp(TcpStream::connect(place).await?),
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
