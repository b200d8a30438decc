//! Tunnels between two workloads of a real agent, by one-time keys and by SVIDs: what happens to them when
//! SVIDs are renewed, revoked and withdrawn, and who does not get one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use claviger_core::id::SpiffeId;
use claviger_core::psk::PskTtl;
use claviger_core::time::SystemClock;
use claviger_runtime::tasks::Tasks;
use claviger_runtime::tls::{Identity, Mutual, Svid, Trust, TrustBundle};
use claviger_shim::route::{
    Callers, Destination, Destinations, Door, Inbound, Lifetime, Mode, Outbound, Profile,
};
use claviger_shim::svid::Svids;
use claviger_shim::{
    AnswerError, BrokerClient, DialError, Enforcer, PskAcceptor, PskConnector, Tunnel, Tunnels,
};
use claviger_tests::process::{Dev, PATIENCE, my_uid};
use claviger_tests::workload::Workload;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::claviger;

const WEB: &str = "spiffe://example.org/web";
const DB: &str = "spiffe://example.org/db";
const OTHER: &str = "spiffe://example.org/other";
const LIFETIME: Lifetime =
    Lifetime { idle: Duration::from_secs(600), max_age: Duration::from_secs(28_800) };

/// One server, one agent, and workloads of it that all are this process.
struct World {
    dev: Dev,
    tasks: Tasks,
    enforcer: Enforcer,
}

impl World {
    async fn start(more: &[&str]) -> Self {
        let dev = Dev::start(&claviger()).await;
        for id in [WEB, DB, OTHER] {
            let uid = my_uid();
            let args = ["entry", "create", "--spiffe-id", id, "--selector", &uid, "--wait"];
            dev.admin(&[&args[..], more].concat()).await;
        }
        let (tasks, clock) = (Tasks::default(), Arc::new(SystemClock));
        let (agent, domain) = (dev.agent_socket.clone(), "example.org".parse().unwrap());
        let enforcer = Enforcer::follow(agent, domain, 256, clock, &tasks).unwrap();
        timeout(PATIENCE, enforcer.ready()).await.unwrap();
        Self { dev, tasks, enforcer }
    }

    fn broker(&self, identity: &str) -> BrokerClient {
        BrokerClient::new(self.dev.agent_socket.clone()).unwrap().acting_as(id(identity))
    }

    async fn tunnels(&self, identity: &str) -> Tunnels {
        let svids = svids(&self.dev.agent_socket, identity, &self.tasks).await;
        let broker = Arc::new(self.broker(identity));
        let keys = Arc::<BrokerClient>::clone(&broker);
        Tunnels::new(keys, Profile::default(), Arc::new(SystemClock), &self.tasks)
            .unwrap()
            .redeeming(broker)
            .presenting(svids)
            .enforced_by(self.enforcer.clone())
    }
}

async fn svids(agent: &Path, identity: &str, tasks: &Tasks) -> Svids {
    let (profile, clock) = (Profile::default(), Arc::new(SystemClock));
    let svids = Svids::follow(agent.to_owned(), Some(id(identity)), profile, clock, tasks).unwrap();
    timeout(PATIENCE, svids.ready()).await.unwrap();
    svids
}

fn id(id: &str) -> SpiffeId {
    id.parse().unwrap()
}

fn destination(peer: &str) -> Destination {
    Destination { at: "db.internal:8443".parse().unwrap(), peer: id(peer) }
}

fn outbound(mode: Mode) -> Outbound {
    Outbound {
        name: "db".to_owned(),
        door: Door::Unix("/run/db.sock".into()),
        callers: Callers::Anybody,
        destinations: Destinations::One(destination(DB)),
        mode,
        purpose: "query".parse().unwrap(),
        prefetch: 2,
        lifetime: LIFETIME,
    }
}

fn inbound(mode: Mode) -> Inbound {
    Inbound {
        name: "db".to_owned(),
        listen: "127.0.0.1:8443".parse().unwrap(),
        to: "127.0.0.1:5432".parse().unwrap(),
        mode,
        purpose: "query".parse().unwrap(),
        peers: None,
        proxy_header: None,
        lifetime: LIFETIME,
    }
}

type Ends = (Result<Tunnel, DialError>, Result<Tunnel, AnswerError>);

async fn connect(client: &Tunnels, peer: &str, server: &Tunnels, mode: Mode) -> Ends {
    let (near, far) = duplex(64 << 10);
    let (route, to, way_in) = (outbound(mode), destination(peer), inbound(mode));
    tokio::join!(client.dial(near, &route, &to), server.answer(far, &way_in))
}

/// A byte there and one back.
async fn works(client: &mut Tunnel, server: &mut Tunnel) {
    client.write_all(b"?").await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), b'?');
    server.write_all(b"!").await.unwrap();
    server.flush().await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'!');
}

/// Until `renewed` renewals, both modes are used all the time, by connections that last and by new ones.
#[tokio::test]
async fn svids_are_renewed_under_load_without_a_connection_lost() {
    // Renewed after two to four seconds.
    let world = World::start(&["--x509-svid-ttl", "6"]).await;
    let (web, db) = (world.tunnels(WEB).await, world.tunnels(DB).await);
    let (renewals, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let watch = async {
        let mut stream = Workload::at(&world.dev.agent_socket).watch_x509().await.unwrap();
        // Each of three SVIDs, twice.
        for _message in 0..7 {
            let message = timeout(PATIENCE, stream.message()).await.unwrap();
            message.unwrap().unwrap();
            renewals.fetch_add(1, Ordering::Relaxed);
        }
        over.store(true, Ordering::Relaxed);
    };
    let load = async |mode: Mode| {
        let (client, server) = connect(&web, DB, &db, mode).await;
        let (mut client, mut server) = (client.unwrap(), server.unwrap());
        let mut opened = 0_usize;
        while !over.load(Ordering::Relaxed) {
            works(&mut client, &mut server).await;
            let (near, far) = connect(&web, DB, &db, mode).await;
            works(&mut near.unwrap(), &mut far.unwrap()).await;
            opened += 1;
            sleep(Duration::from_millis(5)).await;
        }
        opened
    };
    let ((), by_key, by_svid) = tokio::join!(watch, load(Mode::Psk), load(Mode::Mtls));
    println!("renewed {}×: {by_key} by key, {by_svid} by SVID", renewals.into_inner());
    assert!(50 < by_key.min(by_svid));
    world.tasks.stop();
}

#[tokio::test]
async fn nobody_but_the_peer_will_do() {
    let world = World::start(&[]).await;
    let (web, db) = (world.tunnels(WEB).await, world.tunnels(DB).await);
    let other = world.tunnels(OTHER).await;
    for mode in [Mode::Psk, Mode::Mtls] {
        let (client, server) = connect(&web, DB, &other, mode).await;
        client.unwrap_err();
        server.unwrap_err();
        // Nor the client itself, to whom its own key would come back (RFC 9257 §4.1).
        let (client, server) = connect(&web, DB, &web, mode).await;
        client.unwrap_err();
        server.unwrap_err();
        let (client, server) = connect(&web, DB, &db, mode).await;
        works(&mut client.unwrap(), &mut server.unwrap()).await;
    }
    world.tasks.stop();
}

#[tokio::test]
async fn a_key_that_is_over_or_was_never_issued_opens_nothing() {
    let world = World::start(&[]).await;
    let acceptor = PskAcceptor::new(world.broker(DB)).unwrap();
    let connector = PskConnector::new().unwrap();
    let issue = async || {
        let ttl = PskTtl::try_from(1).unwrap();
        world.broker(WEB).issue(&id(DB), &"query".parse().unwrap(), ttl).await.unwrap()
    };
    let spend = async |issued| {
        let (near, far) = duplex(64 << 10);
        let ends = tokio::join!(acceptor.accept(far), connector.connect(near, issued));
        assert_eq!(ends.0.is_ok(), ends.1.is_ok());
        ends.0.is_ok()
    };
    assert!(spend(issue().await).await);
    let mut forged = issue().await;
    // Of a later minute, as far as anybody can tell.
    let mut bytes = *forged.identity.as_bytes();
    bytes[0] ^= 1;
    forged.identity = claviger_core::psk::identity::WireIdentity::from_bytes(bytes);
    assert!(!spend(forged).await);
    let late = issue().await;
    sleep(Duration::from_millis(2_100)).await;
    assert!(!spend(late).await);
    world.tasks.stop();
}

#[tokio::test]
async fn who_is_withdrawn_opens_and_answers_nothing() {
    let world = World::start(&[]).await;
    let (web, db) = (world.tunnels(WEB).await, world.tunnels(DB).await);
    let entries = world.dev.admin(&["entry", "show", "--spiffe-id", WEB]).await;
    let entry = entries.pointer("/entries/0/entry_id").unwrap().as_str().unwrap().to_owned();
    for mode in [Mode::Psk, Mode::Mtls] {
        let (client, server) = connect(&web, DB, &db, mode).await;
        works(&mut client.unwrap(), &mut server.unwrap()).await;
    }
    world.dev.admin(&["entry", "delete", "--entry-id", &entry]).await;
    let deadline = Instant::now() + PATIENCE;
    for mode in [Mode::Psk, Mode::Mtls] {
        // Until the agent knows.
        while connect(&web, DB, &db, mode).await.1.is_ok() {
            assert!(Instant::now() < deadline, "it still works");
            sleep(Duration::from_millis(20)).await;
        }
        connect(&db, WEB, &web, mode).await.1.unwrap_err();
    }
    world.tasks.stop();
}

/// One end that keeps what it was given once, whatever the agent says since.
async fn stubborn(world: &World) -> Mutual {
    let message = Workload::at(&world.dev.agent_socket).fetch_x509().await.unwrap();
    let svid = message.svids.into_iter().find(|svid| svid.spiffe_id == WEB).unwrap();
    let der = |bytes: &[u8]| CertificateDer::from(bytes.to_vec());
    let bundle = TrustBundle::new("example.org".parse().unwrap(), &[der(&svid.bundle)]).unwrap();
    let own = Svid::new(vec![der(&svid.x509_svid)], &svid.x509_svid_key).unwrap();
    Mutual {
        identity: Identity::new(own),
        trust: Trust::from(bundle),
        provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
        clock: Arc::new(SystemClock),
    }
}

/// Whether the server takes it for a peer.
async fn taken(client: &Mutual, server: &Tunnels) -> Result<Tunnel, AnswerError> {
    let (near, far) = duplex(64 << 10);
    let connector = TlsConnector::from(client.client_config(id(DB)).unwrap());
    let name = ServerName::try_from("db.internal").unwrap();
    let way_in = inbound(Mode::Mtls);
    tokio::join!(server.answer(far, &way_in), connector.connect(name, near)).0
}

#[tokio::test]
async fn an_svid_that_was_revoked_or_is_of_another_authority_opens_nothing() {
    let (world, elsewhere) = (World::start(&[]).await, World::start(&[]).await);
    let db = world.tunnels(DB).await;
    let (thief, stranger) = (stubborn(&world).await, stubborn(&elsewhere).await);
    taken(&stranger, &db).await.unwrap_err();
    taken(&thief, &db).await.unwrap();

    let stolen = world.dev.dir().join("stolen.pem");
    let chain = thief.identity.current();
    let pem = pem::Pem::new("CERTIFICATE", chain.chain()[0].to_vec());
    std::fs::write(&stolen, pem::encode(&pem)).unwrap();
    world.dev.admin(&["svid", "revoke", stolen.to_str().unwrap()]).await;
    let deadline = Instant::now() + PATIENCE;
    let why = loop {
        match taken(&thief, &db).await {
            Ok(_still) => assert!(Instant::now() < deadline, "it still counts"),
            Err(error) => break claviger_runtime::telemetry::Chain(&error).to_string(),
        }
        sleep(Duration::from_millis(20)).await;
    };
    assert!(why.contains("CertRevoked"), "{why}");
    // Whoever asks the agent has another already.
    let web = world.tunnels(WEB).await;
    let (client, server) = connect(&web, DB, &db, Mode::Mtls).await;
    works(&mut client.unwrap(), &mut server.unwrap()).await;
    world.tasks.stop();
    elsewhere.tasks.stop();
}
