//! HTTP/1.1: heads and bodies without end, two lengths, two requests, and all of it slowly.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, split};
use tokio::time::{Instant, sleep, timeout};

use super::tls::{HTTP, client, dial, shake};
use super::world::{Connection, World, get};

/// A door that speaks HTTP/1.1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Door {
    Public,
    Control,
    Keys,
    Health,
    AgentHealth,
}

impl Door {
    const ALL: [Self; 5] =
        [Self::Public, Self::Control, Self::Keys, Self::Health, Self::AgentHealth];

    fn address(self, world: &World) -> SocketAddr {
        match self {
            Self::Public => world.public,
            Self::Control => world.control,
            Self::Keys => world.keys,
            Self::Health => world.health,
            Self::AgentHealth => world.agent_health,
        }
    }

    async fn connect(self, world: &World) -> Box<dyn Connection> {
        // Nobody else has this address, and so nobody else's handshakes count against it.
        let stream = dial([127, 0, 0, 4], self.address(world)).await;
        let papers = (self != Self::Public).then_some(&world.papers);
        match self {
            Self::Health | Self::AgentHealth => Box::new(stream),
            Self::Public | Self::Control | Self::Keys => {
                Box::new(shake(stream, client(Some(HTTP), papers)).await.unwrap())
            }
        }
    }

    /// A path to which a body may be sent, if there is one.
    const fn path(self) -> &'static str {
        match self {
            Self::Public => "/bundle",
            Self::Control => "/v1/authorize",
            Self::Keys => "/api/v1/keys/alice/enc_keys",
            Self::Health | Self::AgentHealth => "/live",
        }
    }

    /// Whether it waits for bodies.
    const fn has_bodies(self) -> bool {
        matches!(self, Self::Control | Self::Keys)
    }

    /// Whether one request may follow another.
    const fn goes_on(self) -> bool {
        matches!(self, Self::Control | Self::Keys)
    }
}

/// How long a door has for a request; and somewhat more.
const DEADLINE: Duration = Duration::from_secs(14);

/// What a server answers to `begin` and as much of `rest`, again and again, as it takes; until it closes.
async fn send(world: &World, door: Door, begin: &str, rest: &[u8]) -> String {
    let (mut reader, mut writer) = split(door.connect(world).await);
    let mut answer = Vec::new();
    let writing = async {
        if writer.write_all(begin.as_bytes()).await.is_ok() && !rest.is_empty() {
            while writer.write_all(rest).await.is_ok() {}
        }
        std::future::pending::<()>().await;
    };
    let reading = timeout(DEADLINE, reader.read_to_end(&mut answer));
    tokio::select! {
        // How it is closed is not the question.
        closed = reading => drop(closed.unwrap()),
        () = writing => {}
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// How many answers there are.
fn answers(text: &str) -> usize {
    text.matches("HTTP/1.1 ").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_end_is_cut_off_and_what_is_ambiguous_is_refused() {
    let world = World::start().await;
    for door in Door::ALL {
        let path = door.path();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        );
        let chunk = [b"10000\r\n".to_vec(), vec![b'{'; 0x10000], b"\r\n".to_vec()].concat();
        let attack = async {
            for (what, begin, rest) in [
                ("a path without end", "GET /", &[b'a'; 1 << 14][..]),
                ("a field without end", &format!("{head}x: "), &[b'a'; 1 << 14]),
                ("fields without end", &head, b"x: y\r\n".repeat(1 << 10).as_slice()),
                (
                    "a body without end",
                    &format!("{head}transfer-encoding: chunked\r\n\r\n"),
                    &chunk,
                ),
                (
                    "a body that is too long",
                    &format!("{head}content-length: 18446744073709551615\r\n\r\n"),
                    &[b'{'; 1 << 16],
                ),
            ] {
                let answer = send(&world, door, begin, rest).await;
                assert!(
                    !answer.starts_with("HTTP/1.1 2") || answers(&answer) == 1,
                    "{what}: {answer}"
                );
            }
            for (what, fields) in [
                ("two lengths", "content-length: 2\r\ncontent-length: 3\r\n"),
                ("a length with a sign", "content-length: +2\r\n"),
                ("a length in words", "content-length: two\r\n"),
                (
                    "an encoding that does not end in chunks",
                    "transfer-encoding: chunked, identity\r\n",
                ),
                ("an encoding that nobody knows", "transfer-encoding: xchunked\r\n"),
                ("a name that ends in a space", "transfer-encoding : chunked\r\n"),
                ("a field over two lines", "x: y\r\n transfer-encoding: chunked\r\n"),
                ("a bare carriage return", "x: y\rtransfer-encoding: chunked\r\n"),
                ("a zero byte", "x: \0\r\n"),
            ] {
                let smuggled = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
                let answer =
                    send(&world, door, &format!("{head}{fields}\r\n{smuggled}"), &[]).await;
                assert!(answer.starts_with("HTTP/1.1 400 "), "{what} at {door:?}: {answer}");
                assert_eq!(answers(&answer), 1, "{what} at {door:?}: {answer}");
            }
        };
        world.bears(&format!("heads and bodies without end at {door:?}"), attack).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_smuggled_behind_a_body() {
    let world = World::start().await;
    for door in Door::ALL {
        let path = door.path();
        let next = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
        let head = "HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n";
        for fields in [
            "content-length: 6\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: chunked\r\ncontent-length: 6\r\n",
        ] {
            let both = format!("POST {path} {head}{fields}\r\n0\r\n\r\n{next}");
            let answer = send(&world, door, &both, &[]).await;
            assert_eq!(answers(&answer), 1, "{door:?}: {answer}");
        }
        // Where one request may follow another, each has its answer; elsewhere only the first has.
        let last = next.replacen("host", "connection: close\r\nhost", 1);
        let answer = send(&world, door, &(next.repeat(49) + &last), &[]).await;
        assert_eq!(answers(&answer), if door.goes_on() { 50 } else { 1 }, "{door:?}: {answer}");
    }
}

/// Many who are slow at each door, until the last is sent away. How long that took.
pub(super) async fn slowly(world: &World) -> Duration {
    let begun = Instant::now();
    let mut slow = Vec::new();
    for door in Door::ALL {
        for number in 0..70 {
            // One address has room for fewer at the doors of health.
            let connecting = timeout(Duration::from_secs(2), door.connect(world)).await;
            let Ok(mut stream) = connecting else { break };
            // A supervisor's door reads no body, and answers.
            let begin = match number % 2 {
                _ if !door.has_bodies() => "GET / HTTP/1.1\r\nx: ",
                0 => "GET / HTTP/1.1\r\nx: ",
                _ => {
                    "POST /v1/authorize HTTP/1.1\r\nhost: a\r\ncontent-length: 99\r\n\
                          content-type: application/json\r\n\r\n"
                }
            };
            // Some are closed already.
            drop(stream.write_all(begin.as_bytes()).await);
            slow.push(stream);
        }
    }
    for health in [world.health, world.agent_health] {
        let asked = Instant::now();
        assert!(get(health, "/live").await.starts_with("HTTP/1.1 200 "));
        assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    }
    // A byte now and then does not help.
    while !slow.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(40), "{} are still there", slow.len());
        let mut still = Vec::new();
        for mut stream in slow {
            let mut answer = [0; 512];
            let read = timeout(Duration::from_millis(1), stream.read(&mut answer)).await;
            let written = stream.write_all(b"a").await;
            match read {
                Ok(Ok(0) | Err(_)) => {}
                Ok(Ok(_)) | Err(_) if written.is_ok() => still.push(stream),
                Ok(Ok(_)) | Err(_) => {}
            }
        }
        slow = still;
        sleep(Duration::from_millis(300)).await;
    }
    begun.elapsed()
}
