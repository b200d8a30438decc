//! What the kernel knows of the other end of a TCP connection, if that is on this machine.
//!
//! It is asked for one socket by its addresses (sock_diag(7)): that costs the same however many there
//! are, unlike `/proc/net/tcp`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with,
};
use tokio::net::TcpStream;

/// A connection that was accepted here, by its two addresses.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    near: SocketAddr,
    far: SocketAddr,
    /// Which of our sockets it is.
    inode: u64,
}

/// A connected socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Socket {
    /// Its number, by which `/proc/<pid>/fd` names it.
    pub(super) inode: u64,
    /// Whose it is.
    pub(super) uid: u32,
}

impl Connection {
    pub(super) fn of(stream: &TcpStream) -> io::Result<Self> {
        let (near, far) = (plain(stream.local_addr()?), plain(stream.peer_addr()?));
        Ok(Self { near, far, inode: fstat(stream)?.st_ino })
    }

    /// The socket at the other end, if it is on this machine and somebody has it.
    pub(super) fn other_end(&self) -> io::Result<Option<Socket>> {
        find(self.far, self.near)
    }

    /// Whether our end has not been cut off. As long as it is open, its two addresses are no other
    /// connection's.
    pub(super) fn is_open(&self) -> io::Result<bool> {
        Ok(find(self.near, self.far)?.is_some_and(|socket| socket.inode == self.inode))
    }
}

/// An IPv4 address as one, also where an IPv6 socket took it.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
const REQUEST: usize = 16 + 56;

/// `SOCK_DIAG_BY_FAMILY`, and the type of an answer that is none.
const BY_FAMILY: u16 = 20;
const ERROR: u16 = 2;

const NLM_F_REQUEST: u16 = 1;
const IPPROTO_TCP: u8 = 6;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// The socket that is connected from `local` to `remote` and that a process has.
fn find(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Socket>> {
    let mut answer = [0; 1_024];
    let kernel = kernel()?;
    send(&kernel, &request(local, remote), SendFlags::empty())?;
    // The kernel has answered by the time the request is sent.
    let (_, length) = recv(&kernel, &mut answer, RecvFlags::DONTWAIT)?;
    let answer = answer.get(..length).unwrap_or_default();
    read(answer, local, remote)
}

/// A way to the kernel, which nobody else can write to.
fn kernel() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(SOCK_DIAG))?;
    connect(&socket, &SocketAddrNetlink::new(0, 0))?;
    Ok(socket)
}

fn request(local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let family = if local.is_ipv4() && remote.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut bytes = Vec::with_capacity(REQUEST);
    bytes.extend(72_u32.to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    // The sequence and the port: one request, one answer.
    bytes.extend([0; 8]);
    // No attributes; sockets in all states.
    bytes.extend([family, IPPROTO_TCP, 0, 0]);
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(local.port().to_be_bytes());
    bytes.extend(remote.port().to_be_bytes());
    bytes.extend(octets(local.ip()));
    bytes.extend(octets(remote.ip()));
    // Any interface, any cookie.
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend([0xff; 8]);
    bytes
}

/// An address in the 16 bytes that there are for it.
fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn read(answer: &[u8], local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Socket>> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let mut answer = Reader(answer);
    let [_length, kind] = [answer.u32(), answer.u32()];
    // The type, and then the flags.
    let kind = kind.map(u32::to_ne_bytes).map(|[low, high, ..]| u16::from_ne_bytes([low, high]));
    answer.take::<8>().ok_or_else(malformed)?;
    if kind == Some(ERROR) {
        let errno = answer.take().map(i32::from_ne_bytes).ok_or_else(malformed)?;
        let none = errno == -Errno::NOENT.raw_os_error();
        return if none {
            Ok(None)
        } else {
            Err(io::Error::from_raw_os_error(errno.saturating_neg()))
        };
    }
    let found = answer.socket().filter(|_| kind == Some(BY_FAMILY)).ok_or_else(malformed)?;
    // Where nothing is connected so, the kernel names who listens there.
    let is_it = found.local == local && found.remote == remote && is_connected(found.state);
    // A socket without a number was closed by whoever had it.
    Ok(Some(found.socket).filter(|socket| is_it && socket.inode != 0))
}

/// Whether a socket is at one end of a connection: TCP's states from `ESTABLISHED` on, except those in
/// which there is no other end yet, or nobody has it any more.
const fn is_connected(state: u8) -> bool {
    const ESTABLISHED: u8 = 1;
    const FIN_WAIT1: u8 = 4;
    const FIN_WAIT2: u8 = 5;
    const CLOSE_WAIT: u8 = 8;
    const LAST_ACK: u8 = 9;
    const CLOSING: u8 = 11;
    matches!(state, ESTABLISHED | FIN_WAIT1 | FIN_WAIT2 | CLOSE_WAIT | LAST_ACK | CLOSING)
}

/// What an answer says.
struct Found {
    state: u8,
    local: SocketAddr,
    remote: SocketAddr,
    socket: Socket,
}

/// The rest of an answer.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    /// `struct inet_diag_msg`.
    fn socket(&mut self) -> Option<Found> {
        let [family, state, _timer, _retransmits] = self.take()?;
        let ports = [self.take()?, self.take()?].map(u16::from_be_bytes);
        let ips = [self.take()?, self.take()?].map(|octets| ip(family, octets));
        let [local, remote] = [(ips[0], ports[0]), (ips[1], ports[1])]
            .map(|(ip, port)| plain(SocketAddr::new(ip, port)));
        // The interface, the cookie, a timer, two queues.
        self.take::<24>()?;
        let (uid, inode) = (self.u32()?, self.u32()?.into());
        Some(Found { state, local, remote, socket: Socket { inode, uid } })
    }
}

fn ip(family: u8, octets: [u8; 16]) -> IpAddr {
    let [a, b, c, d, ..] = octets;
    if family == AF_INET { Ipv4Addr::new(a, b, c, d).into() } else { Ipv6Addr::from(octets).into() }
}
