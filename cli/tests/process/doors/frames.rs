//! HTTP/2 (RFC 9113) by hand: frames that a library would not write, and what comes back.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::time::{Instant, timeout, timeout_at};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The types of frames (RFC 9113 §6).
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// A frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// What a client begins with: a preface and its settings.
pub(super) fn hello(settings: &[(u16, u32)]) -> Vec<u8> {
    let settings: Vec<u8> = settings
        .iter()
        .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    [PREFACE, &frame(SETTINGS, 0, 0, &settings)].concat()
}

/// The fields of a gRPC request, with no compression at all (RFC 7541 §6.2.2).
pub(super) fn fields(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let usual = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("workload.spiffe.io", "true"),
    ];
    usual.iter().chain(more).flat_map(|(name, value)| field(name, value)).collect()
}

/// One field.
pub(super) fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&length(text.len()), text.as_bytes()].concat();
    [&[0][..], &text(name), &text(value)].concat()
}

/// A length as an integer with a prefix of seven bits (RFC 7541 §5.1).
fn length(length: usize) -> Vec<u8> {
    let Some(mut rest) = length.checked_sub(127) else {
        return vec![u8::try_from(length).unwrap()];
    };
    let mut bytes = vec![127];
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

/// What a server answered, and how it went on.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// How many frames of each type.
    pub(super) frames: BTreeMap<u8, usize>,
    /// The error with which it ended the connection (RFC 9113 §7).
    pub(super) goaway: Option<u32>,
    /// How many streams it reset, by error.
    pub(super) resets: BTreeMap<u32, usize>,
    /// Whether it closed the connection.
    pub(super) closed: bool,
    /// How many bytes it took.
    pub(super) taken: usize,
}

impl Heard {
    /// Whether it has had enough.
    pub(super) fn is_over(&self) -> bool {
        self.closed || self.goaway.is_some()
    }

    /// Reads what comes from `stream`, until its end.
    pub(super) async fn listen(&mut self, stream: &mut (impl AsyncRead + Unpin)) {
        let mut payload = Vec::new();
        let mut head = [0; 9];
        while stream.read_exact(&mut head).await.is_ok() {
            let [a, b, c, kind, ..] = head;
            let length = u32::from_be_bytes([0, a, b, c]);
            payload.resize(usize::try_from(length).unwrap(), 0);
            if stream.read_exact(&mut payload).await.is_err() {
                break;
            }
            *self.frames.entry(kind).or_default() += 1;
            let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
            match kind {
                GOAWAY => self.goaway = Some(number(4)),
                RST_STREAM => *self.resets.entry(number(0)).or_default() += 1,
                _ => {}
            }
        }
        self.closed = true;
    }
}

/// Writes `before`, and then what `next` says for each number, until it says nothing, `span` is over or the
/// server closes; then listens until the server is silent for a while. `reads` says whether anything is read
/// before that.
pub(super) async fn flood(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    before: &[u8],
    mut next: impl FnMut(u32) -> Option<Vec<u8>>,
    span: Duration,
    reads: bool,
) -> Heard {
    let (mut reader, mut writer) = split(stream);
    let mut heard = Heard::default();
    let mut taken = 0;
    let end = Instant::now() + span;
    let writing = async {
        let mut bytes = before.to_vec();
        for number in 0.. {
            if writer.write_all(&bytes).await.is_err() {
                break;
            }
            taken += bytes.len();
            let Some(more) = next(number) else { break };
            bytes = more;
        }
        writer.flush().await
    };
    let writing = async {
        // Whether the server still took the last of it is not the question.
        drop(timeout_at(end, writing).await);
    };
    if reads {
        let listening = async {
            heard.listen(&mut reader).await;
        };
        tokio::select! {
            () = listening => {}
            () = async { writing.await; tokio::time::sleep(QUIET).await } => {}
        }
    } else {
        writing.await;
        drop(timeout(QUIET, heard.listen(&mut reader)).await);
    }
    heard.taken = taken;
    heard
}

/// A server that says nothing for this long has nothing to say.
pub(super) const QUIET: Duration = Duration::from_millis(150);
