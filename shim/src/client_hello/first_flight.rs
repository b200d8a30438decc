//! From the bytes of a connection to the ClientHello in them: TLS's record layer, in plain text.

use super::reader::Reader;
use super::{ClientHello, HelloError};

/// Collects a client's first flight: a ClientHello in one or more records.
///
/// It keeps what it was given, so that the TLS stack can be given the same.
#[derive(Debug, Default)]
pub struct FirstFlight {
    /// All bytes, as they came.
    wire: Vec<u8>,
    /// How many of them are in records that were taken apart.
    unpacked: usize,
    /// The handshake message, as far as it is there.
    message: Vec<u8>,
}

/// The type of a record that carries handshake messages (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
/// The largest plain-text record.
const MAX_RECORD: u16 = 1 << 14;

impl FirstFlight {
    /// The longest first flight, in bytes. One with a post-quantum key share has 1.5 KiB.
    pub const MAX_LEN: usize = 16 << 10;

    /// How many more bytes it takes.
    #[must_use]
    pub fn room(&self) -> usize {
        Self::MAX_LEN.saturating_sub(self.wire.len())
    }

    /// Takes the next bytes of the connection. `None`: the ClientHello is not complete yet.
    ///
    /// # Errors
    ///
    /// [`HelloError`] as soon as it is clear that no acceptable ClientHello can come of it.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<ClientHello>, HelloError> {
        if self.room() < bytes.len() {
            return Err(HelloError::TooLong);
        }
        self.wire.extend_from_slice(bytes);
        while let Some(Record { content, rest }) = split_record(unread(&self.wire, self.unpacked))?
        {
            self.message.extend_from_slice(content);
            self.unpacked = self.wire.len().saturating_sub(rest.len());
            if let Some(length) = announced_length(&self.message)? {
                if length == self.message.len() {
                    return ClientHello::parse(&self.message).map(Some);
                }
                // The keys change after a ClientHello, so nothing may share its last record.
                if length < self.message.len() {
                    return Err(HelloError::Malformed);
                }
            }
        }
        // A full buffer without a ClientHello in it stays without.
        if self.room() == 0 { Err(HelloError::TooLong) } else { Ok(None) }
    }

    /// All bytes it was given.
    #[must_use]
    pub fn into_wire(self) -> Vec<u8> {
        self.wire
    }
}

fn unread(wire: &[u8], unpacked: usize) -> &[u8] {
    wire.get(unpacked..).unwrap_or_default()
}

/// A complete record's content, and what follows it.
struct Record<'a> {
    content: &'a [u8],
    rest: &'a [u8],
}

/// The first record, once it is complete.
fn split_record(bytes: &[u8]) -> Result<Option<Record<'_>>, HelloError> {
    match bytes {
        [HANDSHAKE, 3, 1 | 3, high, low, content @ ..] => {
            let length = u16::from_be_bytes([*high, *low]);
            // §5.1: no empty fragments of handshake messages.
            if length == 0 || MAX_RECORD < length {
                return Err(HelloError::Malformed);
            }
            let split = content.split_at_checked(length.into());
            Ok(split.map(|(content, rest)| Record { content, rest }))
        }
        [] | [HANDSHAKE] | [HANDSHAKE, 3] | [HANDSHAKE, 3, 1 | 3] | [HANDSHAKE, 3, 1 | 3, _] => {
            Ok(None)
        }
        _other => Err(HelloError::NotTls),
    }
}

/// The length of the whole message, header included, once its header is there.
fn announced_length(message: &[u8]) -> Result<Option<usize>, HelloError> {
    let mut reader = Reader::new(message);
    let (Ok(kind), Ok(high), Ok(low)) = (reader.u8(), reader.u8(), reader.u16()) else {
        return Ok(None);
    };
    if kind != 1 {
        return Err(HelloError::NotAClientHello);
    }
    let length = usize::from(low).saturating_add(4);
    if high != 0 || FirstFlight::MAX_LEN < length {
        return Err(HelloError::TooLong);
    }
    Ok(Some(length))
}
