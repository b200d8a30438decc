//! Sockets between a virtual machine and its host (vsock(7)).

use std::fmt;
use std::io;
use std::str::FromStr;

use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockStream};

use crate::accept::Backoff;

/// Not a port, but any: `VMADDR_PORT_ANY`.
const ANY_PORT: u32 = u32::MAX;

/// What a place is written behind.
pub(crate) const SCHEME: &str = "vsock:";

/// A port of a virtual machine, or of a host: `vsock:CID:port`.
///
/// From inside a virtual machine, its host is CID 2 in general, and CID 3 in an AWS Nitro enclave.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct VsockPlace {
    cid: u32,
    port: u32,
}

impl VsockPlace {
    pub(crate) async fn dial(self) -> io::Result<VsockStream> {
        VsockStream::connect(VsockAddr::new(self.cid, self.port)).await
    }
}

/// A port; none if it means any.
pub(crate) fn port(text: &str) -> Option<u32> {
    text.parse().ok().filter(|port| *port != ANY_PORT)
}

impl FromStr for VsockPlace {
    type Err = ParseVsockError;

    /// What is behind [`SCHEME`].
    fn from_str(text: &str) -> Result<Self, ParseVsockError> {
        let parse = || {
            let (cid, at) = text.split_once(':')?;
            let cid = cid.parse().ok().filter(|cid| *cid != VMADDR_CID_ANY)?;
            Some(Self { cid, port: port(at)? })
        };
        parse().ok_or_else(|| ParseVsockError(text.to_owned()))
    }
}

impl fmt::Display for VsockPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}:{}", self.cid, self.port)
    }
}

/// Not a place of vsock's.
#[derive(Debug, thiserror::Error)]
#[error("`vsock:{0}` is not of the form `vsock:CID:port`, such as `vsock:3:8081`")]
pub struct ParseVsockError(String);

/// Takes connections of the virtual machines on this host.
#[derive(Debug)]
pub struct Listener {
    listener: tokio_vsock::VsockListener,
    backoff: Backoff,
}

impl Listener {
    /// Listens on `port`.
    ///
    /// # Errors
    ///
    /// What the operating system says: the port is taken, or there is no vsock here.
    pub fn bind(port: u32) -> io::Result<Self> {
        let listener = tokio_vsock::VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, port))?;
        Ok(Self { listener, backoff: Backoff::default() })
    }

    /// The next connection, and the CID that it came from. A failing accept is tried again.
    pub async fn accept(&mut self) -> (VsockStream, u32) {
        loop {
            match self.listener.accept().await {
                Ok((stream, from)) => {
                    self.backoff.reset();
                    return (stream, from.cid());
                }
                Err(error) => self.backoff.pause(&error).await,
            }
        }
    }
}
