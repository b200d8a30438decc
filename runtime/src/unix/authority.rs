//! What clients call a host that has no name.
//!
//! HTTP/2's `:authority` means nothing on a Unix socket, and clients make one up: gRPC's C core
//! (Python, C++, Ruby, PHP) sends the socket's path with percent-encoding, grpc-java sends the bare
//! path. Neither is an authority (RFC 3986 §3.2), and h2, the library under tonic, resets such a
//! request before anybody sees it (<https://github.com/hyperium/h2/pull/487>).
//!
//! So what a client sends is edited on its way to h2: in the value of an `:authority`, every `%` and
//! `/` becomes a `-`. All three are as long as one another, encoded or not, so no frame changes its
//! length, and the compression tables of both ends stay alike (RFC 7541 §4.1). Nobody looks at the
//! value. A client that does something unusual, such as to cut the field in two frames, is not
//! helped, and is answered by h2 as before.

mod hpack;

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

/// What a client says first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A frame's header (RFC 9113 §4.1).
const HEADER: usize = 9;
/// The longest payload: we do not announce that we take longer ones (RFC 9113 §6.5.2).
const MAX_PAYLOAD: usize = 1 << 14;
/// How much is read at a time.
const CHUNK: usize = 4_096;

/// The bytes of one client, edited as they come.
#[derive(Debug, Default)]
pub(super) struct Edited {
    state: State,
    /// A frame that is not complete yet: its header, and its payload if that may be edited.
    held: Vec<u8>,
    /// What is ready to be read.
    ready: VecDeque<u8>,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// The rest of the preface, after this many bytes of it.
    Preface(usize),
    /// The rest of what is held until it has this many bytes.
    Held(usize),
    /// A payload that is nobody's business; so many bytes are left of it.
    Passing(usize),
    /// Not HTTP/2.
    Foreign,
}

impl Default for State {
    fn default() -> Self {
        Self::Preface(0)
    }
}

impl Edited {
    /// Reads from `stream`, as [`AsyncRead::poll_read`] does.
    pub(super) fn poll_read(
        &mut self,
        mut stream: Pin<&mut impl AsyncRead>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.ready.is_empty() {
            let mut chunk = [0; CHUNK];
            let mut chunk = ReadBuf::new(&mut chunk);
            match stream.as_mut().poll_read(cx, &mut chunk) {
                Poll::Ready(read) => read?,
                // Most connections have nothing to say most of the time.
                Poll::Pending => {
                    self.ready.shrink_to_fit();
                    return Poll::Pending;
                }
            }
            if chunk.filled().is_empty() {
                // The end; h2 sees what we saw.
                self.ready.extend(self.held.drain(..));
                break;
            }
            self.push(chunk.filled());
        }
        let (next, _) = self.ready.as_slices();
        let length = next.len().min(buf.remaining());
        buf.put_slice(next.get(..length).unwrap_or_default());
        self.ready.drain(..length);
        Poll::Ready(Ok(()))
    }

    fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Preface(seen) => self.push_preface(seen, bytes),
                State::Held(needed) => self.push_held(needed, bytes),
                State::Passing(left) => {
                    let (now, later) = split(bytes, left);
                    self.ready.extend(now);
                    self.state = after_payload(left.saturating_sub(now.len()));
                    later
                }
                State::Foreign => {
                    self.ready.extend(bytes);
                    &[]
                }
            }
        }
    }

    fn push_preface<'a>(&mut self, seen: usize, bytes: &'a [u8]) -> &'a [u8] {
        let expected = PREFACE.get(seen..).unwrap_or_default();
        let (now, later) = split(bytes, expected.len());
        self.ready.extend(now);
        self.state = if !expected.starts_with(now) {
            State::Foreign
        } else if now.len() == expected.len() {
            State::Held(HEADER)
        } else {
            State::Preface(seen.saturating_add(now.len()))
        };
        later
    }

    fn push_held<'a>(&mut self, needed: usize, bytes: &'a [u8]) -> &'a [u8] {
        let (now, later) = split(bytes, needed.saturating_sub(self.held.len()));
        self.held.extend_from_slice(now);
        if self.held.len() == needed {
            self.state = self.complete();
            if !matches!(self.state, State::Held(more) if more > HEADER) {
                self.ready.extend(self.held.drain(..));
                self.held.shrink_to(HEADER);
            }
        }
        later
    }

    /// Looks at what is held: a frame's header, or all of a frame.
    fn complete(&mut self) -> State {
        /// The type of the frame that begins a request (RFC 9113 §6.2).
        const HEADERS: u8 = 1;

        let Some(([a, b, c, kind, flags, ..], payload)) =
            self.held.split_first_chunk_mut::<HEADER>()
        else {
            return State::Foreign;
        };
        let length = u32::from_be_bytes([0, *a, *b, *c]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if !payload.is_empty() {
            if let Some(fragment) = fragment(*flags, payload) {
                hpack::edit(fragment);
            }
            return State::Held(HEADER);
        }
        if *kind == HEADERS && (1..=MAX_PAYLOAD).contains(&length) {
            return State::Held(HEADER.saturating_add(length));
        }
        after_payload(length)
    }
}

/// What follows when `left` bytes of a payload are still to come.
const fn after_payload(left: usize) -> State {
    if left == 0 { State::Held(HEADER) } else { State::Passing(left) }
}

fn split(bytes: &[u8], at: usize) -> (&[u8], &[u8]) {
    bytes.split_at_checked(at).unwrap_or((bytes, &[]))
}

/// The field block fragment in the payload of a HEADERS frame (RFC 9113 §6.2).
fn fragment(flags: u8, payload: &mut [u8]) -> Option<&mut [u8]> {
    const PADDED: u8 = 0x8;
    const PRIORITY: u8 = 0x20;

    let mut fragment = payload;
    if flags & PADDED != 0 {
        let (padding, rest) = fragment.split_first_mut()?;
        let end = rest.len().checked_sub(usize::from(*padding))?;
        fragment = rest.get_mut(..end)?;
    }
    if flags & PRIORITY != 0 { fragment.get_mut(5..) } else { Some(fragment) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame that begins a request.
    fn headers(flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, 1, flags, 0, 0, 0, 1], payload].concat()
    }

    /// What comes out if `bytes` come in `at` a time.
    fn edited(bytes: &[u8], at: usize) -> Vec<u8> {
        let mut edited = Edited::default();
        bytes.chunks(at).for_each(|chunk| edited.push(chunk));
        edited.ready.into_iter().chain(edited.held).collect()
    }

    const PATH: &[u8] = b"\x41\x06%2Fa/b";
    const PLAIN: &[u8] = b"\x41\x06-2Fa-b";

    #[test]
    fn the_authority_is_edited_wherever_the_frame_has_it() {
        let padded = |block: &[u8]| [b"\x03\0\0\0\0\x10".as_slice(), block, b"%%%"].concat();
        let data = b"\0\0\x03\0\0\0\0\0\x01%2F";
        let ping = b"\0\0\0\x06\0\0\0\0\0";
        let connection = |block: &[u8]| {
            let plain = headers(4, block);
            let padded = headers(0x2c, &padded(block));
            [PREFACE, &plain, data, ping, &padded].concat()
        };
        for at in [1, 2, 7, 1_000] {
            assert_eq!(edited(&connection(PATH), at), connection(PLAIN));
        }
    }

    #[test]
    fn what_is_not_http_2_passes() {
        let foreign = [b"PRI * HTTP/1.1\r\n".as_slice(), &headers(4, PATH)].concat();
        assert_eq!(edited(&foreign, 5), foreign);
    }

    #[test]
    fn malformed_frames_pass() {
        let more_padding_than_payload = headers(8, &[&[200], PATH].concat());
        let no_room_for_priority = headers(0x20, b"\x41");
        let too_long = [b"\xff\xff\xff\x01\x04\0\0\0\x01".as_slice(), PATH].concat();
        for frame in [more_padding_than_payload, no_room_for_priority, too_long] {
            let bytes = [PREFACE, &frame].concat();
            assert_eq!(edited(&bytes, 3), bytes);
        }
    }

    #[tokio::test]
    async fn a_reader_gets_everything_and_then_the_end() {
        struct Reader<'a>(Edited, &'a [u8]);
        impl AsyncRead for Reader<'_> {
            fn poll_read(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                let Self(edited, bytes) = &mut *self;
                edited.poll_read(Pin::new(bytes), cx, buf)
            }
        }

        let cut = [PREFACE, &headers(4, PATH), b"\0\0"].concat();
        let mut read = Vec::new();
        let mut reader = Reader(Edited::default(), &cut);
        tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut read).await.unwrap();
        assert_eq!(read, [PREFACE, &headers(4, PLAIN), b"\0\0"].concat());
    }
}
