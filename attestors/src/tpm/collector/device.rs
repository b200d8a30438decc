//! Where a TPM is, and how bytes get there and back.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::structure::Malformed;

/// The largest answer, in bytes: what Linux takes from a TPM.
const MAX_RESPONSE: usize = 4_096;

/// The bytes before the parameters of an answer: tag, length, code (Part 1 §18.3).
const HEADER: usize = 10;

/// How long a TPM behind a socket may think: to make an RSA key takes a slow one this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a TPM is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Address {
    /// A device of Linux's, which takes a command with one write and gives the answer with one read.
    Device(PathBuf),
    /// Raw commands over a Unix socket.
    Unix(PathBuf),
    /// The same over TCP: host and port.
    Tcp(String),
}

impl Address {
    /// The address that `text` means, if it means one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let absolute = |path: &str| Path::new(path).is_absolute().then(|| PathBuf::from(path));
        if let Some(path) = text.strip_prefix("unix:") {
            return absolute(path).map(Self::Unix);
        }
        if let Some(address) = text.strip_prefix("tcp:") {
            let (host, port) = address.rsplit_once(':')?;
            let port = port.parse::<u16>().ok()?;
            return (!host.is_empty() && port != 0).then(|| Self::Tcp(address.to_owned()));
        }
        absolute(text).map(Self::Device)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) => write!(f, "{}", path.display()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

/// A TPM that can be talked with.
pub(super) struct Device(Box<dyn ReadWrite>);

impl Device {
    pub(super) fn open(address: &Address) -> Result<Self, DeviceError> {
        let opened = match address {
            Address::Device(path) => Self::file(path),
            Address::Unix(path) => Self::unix(path),
            Address::Tcp(address) => Self::tcp(address),
        };
        opened.map_err(DeviceError::Open)
    }

    fn file(path: &Path) -> io::Result<Self> {
        Ok(Self(Box::new(OpenOptions::new().read(true).write(true).open(path)?)))
    }

    fn unix(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(Box::new(stream)))
    }

    fn tcp(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(Box::new(stream)))
    }

    /// Sends a command, and waits for the answer to it.
    pub(super) fn transact(&mut self, command: &[u8]) -> Result<Vec<u8>, DeviceError> {
        self.0.write_all(command).and_then(|()| self.0.flush()).map_err(DeviceError::Io)?;
        let mut answer = Vec::new();
        let mut buffer = [0; MAX_RESPONSE];
        loop {
            let read = self.0.read(&mut buffer).map_err(DeviceError::Io)?;
            let read = buffer.get(..read).filter(|read| !read.is_empty());
            answer.extend_from_slice(read.ok_or(DeviceError::Closed)?);
            let Some(length) = length(&answer) else { continue };
            if !(HEADER..=MAX_RESPONSE).contains(&length) || length < answer.len() {
                return Err(DeviceError::Malformed(Malformed("its length is impossible")));
            }
            if length == answer.len() {
                return Ok(answer);
            }
        }
    }
}

/// How long an answer says it is, once it has said so.
fn length(answer: &[u8]) -> Option<usize> {
    let digits = answer.get(2..6)?;
    let digits = <[u8; 4]>::try_from(digits).ok()?;
    Some(usize::try_from(u32::from_be_bytes(digits)).unwrap_or(usize::MAX))
}

/// Why a TPM does not answer as it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeviceError {
    #[error(
        "it cannot be opened; see that it is there, and that the agent's user may use it (on Linux, \
         members of the group `tss` may use /dev/tpmrm0)"
    )]
    Open(#[source] io::Error),
    #[error("it cannot be talked with")]
    Io(#[source] io::Error),
    #[error("it closed the connection")]
    Closed,
    #[error("it answers what no TPM answers: {0}")]
    Malformed(Malformed),
    #[error("it answers {command} with {code:#x}{}", hint(*code))]
    Refused { command: &'static str, code: u32 },
}

impl From<Malformed> for DeviceError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// What a code means that an operator can do something about (Part 2 §6.6).
const fn hint(code: u32) -> &'static str {
    match code {
        0x100 => ": nobody has started it (TPM2_Startup), which the firmware does",
        0x101 => ": it has failed; a software TPM says so if it can't read its state",
        0x902 => ": it has no room for another key; flush those that were left there",
        0x903 => ": it has no room for another session; flush those that were left there",
        0x921 => ": it is locked after wrong passwords",
        0x9a2 | 0x98e => ": the endorsement hierarchy has a password, which has to be empty",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// What becomes of a command that is answered with these pieces, one after the other.
    fn answered(pieces: &'static [&'static [u8]]) -> Result<Vec<u8>, DeviceError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tpm");
        let listener = UnixListener::bind(&path).unwrap();
        let tpm = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut command = [0; 2];
            stream.read_exact(&mut command).unwrap();
            for piece in pieces {
                stream.write_all(piece).unwrap();
            }
        });
        let answer = Device::open(&Address::Unix(path)).unwrap().transact(b"hi");
        tpm.join().unwrap();
        answer
    }

    #[test]
    fn an_answer_is_read_to_the_end_that_it_names_and_no_further() {
        let whole = [0x80, 1, 0, 0, 0, 12, 0, 0, 0, 0, 7, 8];
        assert_eq!(answered(&[&[0x80], &[1, 0, 0, 0, 12, 0, 0], &[0, 0, 7, 8]]).unwrap(), whole);
        let short = answered(&[&[0x80, 1, 0, 0, 0, 12, 0, 0, 0, 0, 7]]).unwrap_err();
        assert!(matches!(short, DeviceError::Closed), "{short}");
        for length in [[0u8, 0, 0, 9], [0, 0, 0x10, 1], [0xff; 4]] {
            let piece: &'static [u8] = [&[0x80, 1], length.as_slice()].concat().leak();
            let error = answered(vec![piece].leak()).unwrap_err();
            assert!(matches!(error, DeviceError::Malformed(_)), "{length:?}: {error}");
        }
        let more = answered(&[&[0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0, 1]]).unwrap_err();
        assert!(matches!(more, DeviceError::Malformed(_)), "{more}");
    }

    #[test]
    fn an_operator_reads_what_to_do() {
        let missing = Device::open(&Address::Device("/nonexistent/tpm".into())).err().unwrap();
        assert!(missing.to_string().contains("`tss`"), "{missing}");
        let refused = DeviceError::Refused { command: "TPM2_CreatePrimary", code: 0x9a2 };
        assert!(refused.to_string().contains("has a password"), "{refused}");
    }
}
