//! A shim on each side of a connection, with keys in memory and no agent.

use std::path::{Path, PathBuf};

use claviger_core::time::SystemClock;
use claviger_runtime::tasks::Drain;
use ppp::v2;
use tempfile::{TempDir, tempdir};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::timeout;

use super::*;
use crate::fixture::{CLIENT, FakeBroker, SERVER};

const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    broker: FakeBroker,
    /// The program behind the way in.
    server: TcpListener,
    tasks: Tasks,
    /// Where strangers come in.
    port: SocketAddr,
    dir: TempDir,
}

impl World {
    /// A way in, with `more` at the end of its route.
    async fn start(more: &str) -> Self {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = server.local_addr().unwrap();
        let (broker, tasks) = (FakeBroker::default(), Tasks::default());
        let inbound = format!(
            "[[inbound]]\nname = \"db\"\nlisten = \"127.0.0.1:0\"\nto = \"{to}\"\nmode = \"psk\"\n\
             purpose = \"test\"\n{more}\n"
        );
        let shim = shim(&broker, &tasks, &inbound).await.unwrap();
        let [Listening { address: Some(port), .. }] = shim.listeners[..] else {
            panic!("{shim:?}")
        };
        assert!(shim.health.report().is_ready());
        Self { broker, server, tasks, port, dir: tempdir().unwrap() }
    }

    /// A way out through `door`, with `rest` of its route.
    async fn door(&self, door: &str, rest: &str) -> Result<Shim, StartError> {
        let outbound = format!(
            "[[outbound]]\nname = \"db\"\nlisten = \"{door}\"\nmode = \"psk\"\npurpose = \"test\"\n\
             callers = \"anybody\"\nprefetch = 0\n{rest}\n"
        );
        shim(&self.broker, &self.tasks, &outbound).await
    }

    /// Where a door leads.
    fn destination(&self) -> String {
        format!("to = \"{}\"\npeer = \"{SERVER}\"", self.port)
    }

    /// A port through which a program gets to the server.
    async fn way(&self) -> SocketAddr {
        let shim = self.door("127.0.0.1:0", &self.destination()).await.unwrap();
        shim.listeners[0].address.unwrap()
    }

    /// The server's end of the next connection.
    async fn accept(&self) -> TcpStream {
        timeout(PATIENCE, self.server.accept()).await.unwrap().unwrap().0
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

async fn shim(broker: &FakeBroker, tasks: &Tasks, routes: &str) -> Result<Shim, StartError> {
    let config = Config::parse(routes).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let broker = Arc::new(broker.clone());
    let keys = Arc::<FakeBroker>::clone(&broker);
    let tunnels = Tunnels::new(keys, config.profile, Arc::clone(&clock), tasks).unwrap();
    let means = Means {
        identity: Some(CLIENT.parse().unwrap()),
        tunnels: tunnels.redeeming(broker),
        callers: CallerDesk::new(None).unwrap(),
        enforcer: None,
    };
    Shim::with(config, means, clock, tasks).await
}

/// Reads what is said until the other end has said everything.
async fn hear(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut heard = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut heard)).await.unwrap()?;
    Ok(heard)
}

/// How a connection to `address` breaks off: it may do so before it is known that there is one.
async fn refused(address: SocketAddr) -> std::io::ErrorKind {
    let connecting = async { hear(&mut TcpStream::connect(address).await?).await };
    connecting.await.unwrap_err().kind()
}

/// Says a question, hears an answer, and each end hears the other's end.
async fn talk(
    mut client: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    world: &World,
) {
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut server = world.accept().await;
    assert_eq!(hear(&mut server).await.unwrap(), b"question");
    server.write_all(b"answer").await.unwrap();
    drop(server);
    assert_eq!(hear(&mut client).await.unwrap(), b"answer");
}

#[tokio::test]
async fn a_program_gets_through_by_every_kind_of_door() {
    let world = World::start("").await;
    talk(TcpStream::connect(world.way().await).await.unwrap(), &world).await;

    let path = world.path("door.sock");
    let door = format!("unix:{}", path.display());
    let shim = world.door(&door, &world.destination()).await.unwrap();
    assert_eq!(shim.listeners[0].address, None);
    talk(UnixStream::connect(&path).await.unwrap(), &world).await;

    let named = format!("[[outbound.destination]]\nhost = \"db.test:1\"\n{}", world.destination());
    let shim = world.door("connect:127.0.0.1:0", &named).await.unwrap();
    let mut client = TcpStream::connect(shim.listeners[0].address.unwrap()).await.unwrap();
    client.write_all(b"CONNECT db.test:1 HTTP/1.1\r\nhost: db.test:1\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    while !answer.ends_with(b"\r\n\r\n") {
        answer.rotate_left(1);
        answer[11] = client.read_u8().await.unwrap();
    }
    talk(client, &world).await;

    let shim = world.door("socks5:127.0.0.1:0", &named).await.unwrap();
    let mut client = TcpStream::connect(shim.listeners[0].address.unwrap()).await.unwrap();
    client.write_all(b"\x05\x01\x00\x05\x01\x00\x03\x07db.test\x00\x01").await.unwrap();
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[..4], [5, 0, 5, 0]);
    talk(client, &world).await;
    assert_eq!(world.broker.issued(), 4);
}

#[tokio::test]
async fn a_proxy_leads_nowhere_but_where_it_is_said_to() {
    let world = World::start("").await;
    let named = format!("[[outbound.destination]]\nhost = \"db.test:1\"\n{}", world.destination());
    let shim = world.door("socks5:127.0.0.1:0", &named).await.unwrap();
    let mut client = TcpStream::connect(shim.listeners[0].address.unwrap()).await.unwrap();
    client.write_all(b"\x05\x01\x00\x05\x01\x00\x03\x07db.test\x00\x02").await.unwrap();
    let answer = hear(&mut client).await.unwrap();
    assert_eq!(answer[..4], [5, 0, 5, 2], "not allowed by the rules");
    assert_eq!(world.broker.issued(), 0);
}

#[tokio::test]
async fn who_cannot_be_asked_about_is_nobody() {
    let world = World::start("").await;
    let rest = world.destination().replace("to =", "callers = [\"spiffe://example.org/x\"]\nto =");
    let outbound = format!(
        "[[outbound]]\nname = \"db\"\nlisten = \"127.0.0.1:0\"\nmode = \"psk\"\npurpose = \"test\"\n{rest}"
    );
    let shim = shim(&world.broker, &world.tasks, &outbound).await.unwrap();
    let address = shim.listeners[0].address.unwrap();
    assert_eq!(refused(address).await, std::io::ErrorKind::ConnectionReset);
    assert_eq!(world.broker.issued(), 0);
}

#[tokio::test]
async fn a_program_is_told_who_calls() {
    let world = World::start("proxy-header = \"v2\"").await;
    let mut client = TcpStream::connect(world.way().await).await.unwrap();
    client.write_all(b"hello").await.unwrap();
    client.shutdown().await.unwrap();
    let said = hear(&mut world.accept().await).await.unwrap();
    let header = v2::Header::try_from(&said[..]).unwrap();
    assert_eq!(said[header.len()..], *b"hello");
    let v2::Addresses::IPv4(addresses) = header.addresses else { panic!("{header:?}") };
    assert_eq!(addresses.destination_port, world.port.port());
    let [ssl] = header.tlvs().map(Result::unwrap).collect::<Vec<_>>().try_into().unwrap();
    assert!(String::from_utf8_lossy(&ssl.value).contains(CLIENT), "{ssl:?}");
}

#[tokio::test]
async fn who_is_not_among_the_peers_stays_out() {
    let world = World::start("peers = [\"spiffe://example.org/other\"]").await;
    assert_eq!(refused(world.way().await).await, std::io::ErrorKind::ConnectionReset);
    assert_eq!(world.broker.issued(), 1);
}

#[tokio::test]
async fn what_is_only_observed_goes_through_as_it_is() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (broker, tasks) = (FakeBroker::default(), Tasks::default());
    let outbound = format!(
        "[[outbound]]\nname = \"db\"\nlisten = \"127.0.0.1:0\"\nmode = \"observe\"\n\
         purpose = \"test\"\ncallers = \"anybody\"\npeer = \"{SERVER}\"\nto = \"{}\"\n",
        server.local_addr().unwrap()
    );
    let shim = shim(&broker, &tasks, &outbound).await.unwrap();
    let mut client = TcpStream::connect(shim.listeners[0].address.unwrap()).await.unwrap();
    client.write_all(b"GET /").await.unwrap();
    client.shutdown().await.unwrap();
    let (mut heard, _) = server.accept().await.unwrap();
    assert_eq!(hear(&mut heard).await.unwrap(), b"GET /");
    assert_eq!(broker.issued(), 0);
}

#[tokio::test]
async fn connections_and_handshakes_have_bounds() {
    let world = World::start("[limits]\nhandshakes = 2\nhandshakes-per-address = 1\n").await;
    let mut first = TcpStream::connect(world.port).await.unwrap();
    first.write_all(&[22]).await.unwrap();
    // By the time that the second is refused, the first is being waited for.
    assert_eq!(refused(world.port).await, std::io::ErrorKind::ConnectionReset);
    drop(first);
    // Its place is free once it was told that it is refused.
    let way = world.way().await;
    let through = async {
        loop {
            let Ok(mut client) = TcpStream::connect(way).await else { continue };
            tokio::select! {
                _accepted = world.server.accept() => break,
                _closed = client.read_u8() => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(PATIENCE, through).await.unwrap();
}

#[tokio::test]
async fn a_program_that_is_away_ends_the_connection_and_not_the_shim() {
    let world = World::start("").await;
    let way = world.way().await;
    let to = world.server.local_addr().unwrap();
    let World { server, .. } = world;
    drop(server);
    assert_eq!(refused(way).await, std::io::ErrorKind::ConnectionReset);
    let server = TcpListener::bind(to).await.unwrap();
    let mut client = TcpStream::connect(way).await.unwrap();
    client.write_all(b"!").await.unwrap();
    let (mut heard, _) = timeout(PATIENCE, server.accept()).await.unwrap().unwrap();
    assert_eq!(heard.read_u8().await.unwrap(), b'!');
}

#[tokio::test]
async fn every_route_opens_or_none_does() {
    let world = World::start("").await;
    let path = world.path("door.sock");
    let taken = format!(
        "[[outbound]]\nname = \"a\"\nlisten = \"unix:{}\"\nmode = \"psk\"\npurpose = \"test\"\n{}\n\
         [[inbound]]\nname = \"b\"\nlisten = \"{}\"\nto = \"a:1\"\nmode = \"psk\"\npurpose = \"test\"\n",
        path.display(),
        world.destination(),
        world.port,
    );
    let error = shim(&world.broker, &world.tasks, &taken).await.unwrap_err();
    assert!(matches!(&error, StartError::Listen { route, .. } if route == "b"), "{error}");
    assert!(!Path::new(&path).exists(), "the other door is closed again");
}

#[tokio::test]
async fn a_stop_waits_for_what_is_open_and_lets_nobody_in() {
    let world = World::start("").await;
    let way = world.way().await;
    let mut client = TcpStream::connect(way).await.unwrap();
    client.write_all(b"!").await.unwrap();
    let mut server = world.accept().await;
    world.tasks.stop();
    let drained = world.tasks.drained(PATIENCE);
    let rest = async {
        assert_eq!(server.read_u8().await.unwrap(), b'!');
        server.write_all(b"?").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'?');
        TcpStream::connect(way).await.unwrap_err();
        drop((client, server));
    };
    let (drained, ()) = tokio::join!(drained, rest);
    assert_eq!(drained, Drain::Clean);
}
