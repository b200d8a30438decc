//! A quarantine takes effect everywhere, within two seconds: one server, three agents with a directory
//! and a socket of their own, and live connections between workloads of all three.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use claviger_core::id::SpiffeId;
use claviger_core::psk::PskTtl;
use claviger_core::time::SystemClock;
use claviger_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use claviger_proto::workload::{JwtsvidRequest, X509svidResponse};
use claviger_runtime::tasks::Tasks;
use claviger_shim::{
    AcceptError, BrokerClient, Denied, Enforcer, Issued, PskAcceptor, PskConnector, Tunnel,
};
use claviger_tests::process::{Deployment, PATIENCE, my_uid};
use claviger_tests::workload::Workload;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::time::{Instant, timeout};
use tonic::{Code, Status, Streaming};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

use crate::claviger;

const BOUND: Duration = Duration::from_secs(2);
const SERVER: &str = "spiffe://example.org/ledger";

/// One machine: an agent, and what decides there.
struct Machine {
    socket: PathBuf,
    client: String,
    enforcer: Enforcer,
}

/// A server and three machines.
struct World {
    deployment: Deployment,
    machines: Vec<Machine>,
    tasks: Tasks,
}

/// The two ends of a connection.
struct Line {
    client: Tunnel,
    server: Tunnel,
}

impl World {
    async fn start() -> Self {
        let mut deployment = Deployment::start(&claviger()).await;
        let mut sockets = vec![deployment.agent_socket()];
        for name in ["second", "third"] {
            sockets.push(deployment.add_agent(name).await);
        }
        let agents = deployment.admin(&["agent", "list"]).await;
        let agents = agents.pointer("/agents").and_then(Value::as_array).unwrap().clone();
        assert_eq!(agents.len(), 3);
        for (at, agent) in agents.iter().enumerate() {
            let parent = agent["spiffe_id"].as_str().unwrap();
            for id in [SERVER.to_owned(), format!("spiffe://example.org/client-{at}")] {
                let (id, uid) = (id.as_str(), my_uid());
                let args = ["entry", "create", "--parent-id", parent, "--spiffe-id", id];
                deployment.admin(&[&args[..], &["--selector", &uid, "--wait"]].concat()).await;
            }
        }
        let tasks = Tasks::default();
        let mut machines = Vec::new();
        for socket in sockets {
            // Which of the agents it is was the server's to say.
            let ids = ids(&Workload::at(&socket).fetch_x509().await.unwrap());
            let client = ids.into_iter().find(|id| id != SERVER).unwrap();
            let (domain, clock) = ("example.org".parse().unwrap(), Arc::new(SystemClock));
            let enforcer = Enforcer::follow(socket.clone(), domain, 64, clock, &tasks).unwrap();
            timeout(PATIENCE, enforcer.ready()).await.unwrap();
            machines.push(Machine { socket, client, enforcer });
        }
        Self { deployment, machines, tasks }
    }

    /// A key of the workload at machine `from` for the server.
    async fn issue(&self, from: usize) -> Result<Issued, Status> {
        let Machine { socket, client, .. } = &self.machines[from];
        let broker = broker(socket, client);
        let issued = broker.issue(&id(SERVER), &"drill".parse().unwrap(), PskTtl::default()).await;
        issued.map_err(|error| match error {
            claviger_shim::broker::IssueError::Broker(status) => status,
            other @ claviger_shim::broker::IssueError::Malformed(_) => panic!("{other}"),
        })
    }

    /// Spends `issued`, between machine `from` and the server, which is at machine 0.
    async fn spend(&self, from: usize, issued: Issued) -> Result<Line, AcceptError> {
        let [first, ..] = &*self.machines else { panic!("no machines") };
        let enforcer = |machine: &Machine| machine.enforcer.clone();
        let acceptor = PskAcceptor::new(broker(&first.socket, SERVER)).unwrap();
        let acceptor = acceptor.enforced_by(enforcer(first));
        let connector = PskConnector::new().unwrap();
        let connector = connector.enforced_by(enforcer(&self.machines[from]));
        let (near, far) = duplex(64 << 10);
        let (server, client) = tokio::join!(acceptor.accept(far), connector.connect(near, issued));
        Ok(Line { server: server?, client: client.unwrap() })
    }

    /// A connection that works.
    async fn connect(&self, from: usize) -> Line {
        let mut line = self.spend(from, self.issue(from).await.unwrap()).await.unwrap();
        line.client.write_all(b"!").await.unwrap();
        assert_eq!(line.server.read_u8().await.unwrap(), b'!');
        line
    }

    /// Streams of every machine's SVIDs, from whose first message the server's SVIDs are known.
    async fn watch(&self) -> (Vec<Streaming<X509svidResponse>>, BTreeSet<Vec<u8>>) {
        let (mut streams, mut serials) = (Vec::new(), BTreeSet::new());
        for machine in &self.machines {
            let mut stream = Workload::at(&machine.socket).watch_x509().await.unwrap();
            let first = next(&mut stream).await.unwrap();
            serials.extend(serials_of(&first, SERVER));
            streams.push(stream);
        }
        (streams, serials)
    }

    async fn say(&self, what: &str, id: &str) -> Value {
        self.deployment.admin(&["quarantine", what, id, "--reason", "a drill"]).await
    }

    /// Tries until a new connection from machine `from` works.
    async fn works_again(&self, from: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(issued) = self.issue(from).await
                && let Ok(_line) = self.spend(from, issued).await
            {
                return;
            }
            assert!(Instant::now() < deadline, "it does not work again");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn id(id: &str) -> SpiffeId {
    id.parse().unwrap()
}

fn broker(socket: &Path, identity: &str) -> BrokerClient {
    BrokerClient::new(socket.to_owned()).unwrap().acting_as(id(identity))
}

fn ids(message: &X509svidResponse) -> Vec<String> {
    message.svids.iter().map(|svid| svid.spiffe_id.clone()).collect()
}

fn serials_of(message: &X509svidResponse, id: &str) -> Vec<Vec<u8>> {
    let svids = message.svids.iter().filter(|svid| svid.spiffe_id == id);
    svids
        .map(|svid| X509Certificate::from_der(&svid.x509_svid).unwrap().1.raw_serial().to_vec())
        .collect()
}

/// What the lists in a message revoke.
fn revoked(message: &X509svidResponse) -> BTreeSet<Vec<u8>> {
    let mut serials = BTreeSet::new();
    for list in &message.crl {
        let (_, list) = CertificateRevocationList::from_der(list).unwrap();
        serials.extend(list.iter_revoked_certificates().map(|one| one.raw_serial().to_vec()));
    }
    serials
}

async fn next(stream: &mut Streaming<X509svidResponse>) -> Option<X509svidResponse> {
    timeout(PATIENCE, stream.message()).await.unwrap().unwrap()
}

/// Reads until the stream is without `id` and its lists have all of `serials`.
async fn withdrawn(
    stream: &mut Streaming<X509svidResponse>,
    id: &str,
    serials: &BTreeSet<Vec<u8>>,
) {
    loop {
        let message = next(stream).await.unwrap();
        if !ids(&message).iter().any(|one| one == id) && revoked(&message).is_superset(serials) {
            return;
        }
    }
}

/// Waits until both ends are cut. Who is told first closes, and the other may see that before its own
/// agent says why.
async fn cut(line: &mut Line) {
    let both = async { tokio::join!(line.client.read_u8(), line.server.read_u8()) };
    let (client, server) = timeout(PATIENCE, both).await.unwrap();
    let errors = [client.unwrap_err(), server.unwrap_err()];
    let told = |error: &&std::io::Error| error.kind() == std::io::ErrorKind::ConnectionAborted;
    let why = errors.iter().find(told).unwrap().to_string();
    assert!(why.contains("is in quarantine"), "{why}");
}

/// What an agent answers who wants a new token for `id`.
async fn renew(machine: &Machine, id: &str) -> Code {
    let endpoint = tonic::transport::Endpoint::from_static("http://localhost");
    let connector = claviger_runtime::unix::connector(machine.socket.clone()).unwrap();
    let mut api = SpiffeWorkloadApiClient::new(endpoint.connect_with_connector_lazy(connector));
    let request = JwtsvidRequest { audience: vec!["drill".to_owned()], spiffe_id: id.to_owned() };
    let answer = api.fetch_jwtsvid(Workload::request(request)).await;
    answer.err().map_or(Code::Ok, |status| status.code())
}

#[tokio::test]
async fn a_servers_quarantine_is_effective_on_every_agent_within_two_seconds() {
    let world = World::start().await;
    let (mut streams, serials) = world.watch().await;
    assert_eq!(serials.len(), 3, "one SVID of the server on each machine");
    let mut lines = Vec::new();
    for from in [0, 1, 2, 1, 2] {
        lines.push(world.connect(from).await);
    }
    let unspent = world.issue(1).await.unwrap();

    let began = Instant::now();
    let said = world.say("add", SERVER);
    let withdrawn = async {
        for stream in &mut streams {
            withdrawn(stream, SERVER, &serials).await;
        }
        began.elapsed()
    };
    let closed = async {
        for line in &mut lines {
            cut(line).await;
        }
        began.elapsed()
    };
    let (said, withdrawn, closed) = tokio::join!(said, withdrawn, closed);
    let refused = world.spend(1, unspent).await.err().unwrap();
    assert!(matches!(refused, AcceptError::Redeem(_) | AcceptError::Denied(_)), "{refused}");
    assert_eq!(world.issue(2).await.unwrap_err().code(), Code::PermissionDenied);
    for machine in &world.machines {
        assert_eq!(renew(machine, SERVER).await, Code::PermissionDenied);
        assert_eq!(renew(machine, &machine.client).await, Code::Ok);
    }
    let all = began.elapsed();
    println!(
        "quarantine: SVIDs withdrawn and revoked on 3 agents after {withdrawn:.1?}, 5 connections \
         closed after {closed:.1?}, keys and renewals refused after {all:.1?}"
    );
    assert!(all < BOUND, "{all:?}");
    assert_eq!(said["reached"].as_array().unwrap().len(), 3, "{said}");

    world.say("lift", SERVER).await;
    world.works_again(1).await;
    world.tasks.stop();
}

#[tokio::test]
async fn a_clients_quarantine_ends_its_connections_and_no_others() {
    let world = World::start().await;
    let (mut mine, mut others) = (world.connect(1).await, world.connect(2).await);
    let unspent = world.issue(1).await.unwrap();
    let client = world.machines[1].client.clone();

    let began = Instant::now();
    let (_said, ()) = tokio::join!(world.say("add", &client), cut(&mut mine));
    let closed = began.elapsed();
    let refused = world.spend(1, unspent).await;
    assert!(refused.is_err(), "the key was spent");
    assert_eq!(world.issue(1).await.unwrap_err().code(), Code::PermissionDenied);
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    println!("quarantine of a client: its connection closed after {closed:.1?}");

    others.client.write_all(b"?").await.unwrap();
    assert_eq!(others.server.read_u8().await.unwrap(), b'?');
    let enforcer = &world.machines[0].enforcer;
    let denied = enforcer.admit(id(&client), id(SERVER), "drill".parse().unwrap(), None);
    assert!(matches!(denied, Err(Denied::Undecided(_))), "{denied:?}");

    world.say("lift", &client).await;
    world.works_again(1).await;
    world.tasks.stop();
}
