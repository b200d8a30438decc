//! Floods of frames, and frames that are invalid.

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Heard, PING, PRIORITY,
    PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, field, fields, flood, frame, hello,
};
use super::world::{Door, World, span};

/// Errors (RFC 9113 §7).
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 §6.5.2).
const INITIAL_WINDOW: u16 = 4;

/// The stream of the request with this number.
fn stream(number: u32) -> u32 {
    2 * number + 1
}

/// What a flood is to end with.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The connection is ended, for this reason.
    Of(u32),
    /// The connection is ended, for whatever reason.
    Any,
    /// At least so many streams are refused or answered, and the connection lives.
    Refused(usize),
    /// Nothing: it costs its turn.
    None,
}

impl End {
    fn check(self, what: &str, heard: &Heard) {
        match self {
            Self::Of(error) => assert_eq!(heard.goaway, Some(error), "{what}: {heard:?}"),
            Self::Any => assert!(heard.is_over(), "{what}: {heard:?}"),
            Self::Refused(least) => {
                let refused = heard.resets.get(&REFUSED_STREAM).copied().unwrap_or(0);
                let answered = heard.frames.get(&HEADERS).copied().unwrap_or(0);
                assert!(least <= refused + answered && !heard.is_over(), "{what}: {heard:?}");
            }
            Self::None => assert_eq!(heard.goaway, None, "{what}: {heard:?}"),
        }
    }
}

/// A flood: what is written first, what then, whether answers are read, and the end.
struct Flood {
    what: &'static str,
    before: Vec<u8>,
    next: Box<dyn FnMut(u32) -> Option<Vec<u8>>>,
    reads: bool,
    end: End,
}

impl Flood {
    fn new(
        what: &'static str,
        before: Vec<u8>,
        end: End,
        next: impl FnMut(u32) -> Option<Vec<u8>> + 'static,
    ) -> Self {
        Self { what, before, next: Box::new(next), reads: true, end }
    }

    /// The same by somebody who does not listen.
    fn deaf(self) -> Self {
        Self { reads: false, ..self }
    }
}

/// Several times what `part` makes, so that a flood is one.
fn many(times: u32, part: impl Fn(u32) -> Vec<u8> + 'static) -> impl FnMut(u32) -> Option<Vec<u8>> {
    move |number| Some((number * times..(number + 1) * times).flat_map(&part).collect())
}

fn floods(door: Door) -> Vec<Flood> {
    let mut floods = floods_of_calls(&fields(door.method(), &[]));
    floods.extend(floods_of_frames(&fields(door.method(), &[])));
    floods
}

/// The beginning of a call.
fn begin(number: u32, request: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream(number), request)
}

fn floods_of_calls(request: &[u8]) -> Vec<Flood> {
    let (reset, open) = (request.to_vec(), request.to_vec());
    vec![
        Flood::new(
            "rapid reset",
            hello(&[]),
            End::Of(ENHANCE_YOUR_CALM),
            many(200, move |number| {
                let cancel = frame(RST_STREAM, 0, stream(number), &8_u32.to_be_bytes());
                [begin(number, &reset), cancel].concat()
            }),
        ),
        Flood::new("calls that do not end", hello(&[]), End::Refused(800 - 256), move |number| {
            (number < 8).then(|| {
                let numbers = number * 100..(number + 1) * 100;
                numbers.flat_map(|number| begin(number, &open)).collect()
            })
        }),
        Flood::new(
            "fields in CONTINUATION without end",
            [hello(&[]), frame(HEADERS, 0, 1, request)].concat(),
            End::Any,
            many(10, |number| {
                frame(CONTINUATION, 0, 1, &field(&format!("x-{number}"), &"x".repeat(1_000)))
            }),
        ),
        Flood::new(
            "empty CONTINUATION without end",
            [hello(&[]), frame(HEADERS, 0, 1, &[])].concat(),
            End::Any,
            many(1_000, |_| frame(CONTINUATION, 0, 1, &[])),
        ),
    ]
}

fn floods_of_frames(request: &[u8]) -> Vec<Flood> {
    let first = [hello(&[]), begin(0, request)].concat();
    vec![
        Flood::new(
            "PING, and nothing is read",
            hello(&[]),
            End::None,
            many(1_000, |_| frame(PING, 0, 0, &[7; 8])),
        )
        .deaf(),
        Flood::new(
            "SETTINGS, and nothing is read",
            hello(&[]),
            End::None,
            many(1_000, |number| {
                let window = number.to_be_bytes();
                frame(SETTINGS, 0, 0, &[&INITIAL_WINDOW.to_be_bytes()[..], &window].concat())
            }),
        )
        .deaf(),
        Flood::new("empty DATA", first.clone(), End::Any, many(1_000, |_| frame(DATA, 0, 1, &[]))),
        Flood::new(
            "PRIORITY",
            hello(&[]),
            End::None,
            many(1_000, |number| frame(PRIORITY, 0, stream(number % 1_000_000), &[0, 0, 0, 0, 7])),
        ),
        Flood::new(
            "WINDOW_UPDATE",
            first,
            End::None,
            many(1_000, |number| frame(WINDOW_UPDATE, 0, number % 2, &1_u32.to_be_bytes())),
        ),
        Flood::new(
            "frames that nobody knows",
            hello(&[]),
            End::None,
            many(1_000, |number| frame(200, 255, number % 9, &[7; 64])),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_frames_ends_the_connection_or_costs_its_turn() {
    let world = World::start().await;
    for door in Door::ALL {
        for Flood { what, before, mut next, reads, end } in floods(door) {
            let what = format!("{what} at {door:?}");
            let connection = world.connect(door).await;
            let heard = flood(connection, &before, &mut next, span(), reads);
            let heard = world.bears(&what, heard).await;
            end.check(&what, &heard);
        }
    }
}

/// What is wrong with them, and frames that are.
fn invalid(door: Door) -> Vec<(&'static str, Vec<u8>)> {
    let request =
        |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields(door.method(), &[]));
    let settings = |name: u16, value: u32| {
        frame(SETTINGS, 0, 0, &[&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
    };
    let mut endless = frame(DATA, 0, 1, &[]);
    endless[..3].fill(255);
    vec![
        ("a frame of 16 MiB", [endless, vec![0; 1 << 17]].concat()),
        ("DATA of no stream", frame(DATA, 0, 0, b"x")),
        ("DATA of a stream that was not begun", frame(DATA, 0, 1, b"x")),
        ("a stream of the server's", request(2)),
        ("a stream that comes too late", [request(5), request(3)].concat()),
        ("fields that are none", frame(HEADERS, END_HEADERS, 1, &[0x80])),
        ("fields that are cut off", frame(HEADERS, END_HEADERS, 1, &[0, 127, 255, 255])),
        ("a padding longer than its frame", frame(HEADERS, END_HEADERS | 8, 1, &[255, 0])),
        ("CONTINUATION of nothing", frame(CONTINUATION, END_HEADERS, 1, &[])),
        (
            "fields that are interrupted",
            [frame(HEADERS, 0, 1, &[]), frame(PING, 0, 0, &[0; 8])].concat(),
        ),
        ("a promise by a client", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])),
        ("a window beyond its limit", frame(WINDOW_UPDATE, 0, 0, &i32::MAX.to_be_bytes())),
        ("a window that grows by nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        ("a window of settings beyond its limit", settings(INITIAL_WINDOW, u32::MAX)),
        ("a frame size that is none", settings(5, 1)),
        ("settings that are cut off", frame(SETTINGS, 0, 0, &[0; 5])),
        ("settings of a stream", frame(SETTINGS, 0, 1, &[])),
        ("a reset of no stream", frame(RST_STREAM, 0, 0, &[0; 4])),
        ("a ping that is too short", frame(PING, 0, 0, &[0; 7])),
        ("an end that is cut off", frame(GOAWAY, 0, 0, &[0; 3])),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_is_invalid_ends_its_own_connection_only() {
    let world = World::start().await;
    let mut ended = 0;
    for door in Door::ALL {
        let attack = async {
            for (what, frames) in invalid(door) {
                let connection = world.connect(door).await;
                let heard = flood(connection, &hello(&[]), once(frames), span(), true).await;
                assert!(heard.is_over(), "{what} at {door:?}: {heard:?}");
                ended += 1;
            }
            // What is no HTTP/2 at all is not answered as if it were.
            let connection = world.connect(door).await;
            let text = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec();
            let heard = flood(connection, &text, |_| None, span(), true).await;
            assert!(heard.closed || heard.goaway.is_some(), "HTTP/1.1 at {door:?}: {heard:?}");
        };
        world.bears(&format!("invalid frames at {door:?}"), attack).await;
    }
    println!("survived: {ended} connections with an invalid frame, each ended alone");
}

fn once(bytes: Vec<u8>) -> impl FnMut(u32) -> Option<Vec<u8>> {
    let mut bytes = Some(bytes);
    move |_| bytes.take()
}
