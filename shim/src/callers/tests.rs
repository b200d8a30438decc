//! With real processes and sockets, and an agent that knows processes by their numbers.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use claviger_proto::claviger::caller::v1::IdentifyResponse;
use claviger_proto::claviger::caller::v1::callers_server;
use claviger_proto::claviger::caller::v1::callers_server::CallersServer;
use claviger_runtime::tasks::Tasks;
use claviger_runtime::unix::{Limits, Listener};
use tempfile::{TempDir, tempdir};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::process::{Child, Command};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, async_trait};

use super::*;

const WEB: &str = "spiffe://example.org/web";
const DB: &str = "spiffe://example.org/db";

/// Confirms that the processes with these numbers are `WEB`.
#[derive(Clone, Debug, Default)]
struct Agent(Arc<Mutex<Vec<u32>>>);

#[async_trait]
impl callers_server::Callers for Agent {
    async fn identify(
        &self,
        request: Request<IdentifyRequest>,
    ) -> Result<Response<IdentifyResponse>, Status> {
        assert_eq!(request.metadata().get("workload.spiffe.io").unwrap(), "true");
        let IdentifyRequest { pid, any_of } = request.into_inner();
        let known = self.0.lock().unwrap().iter().any(|known| i64::from(*known) == i64::from(pid));
        match any_of.into_iter().find(|id| known && id == WEB) {
            Some(spiffe_id) => Ok(Response::new(IdentifyResponse { spiffe_id })),
            None => Err(Status::permission_denied("none of these")),
        }
    }
}

struct World {
    agent: Agent,
    desk: CallerDesk,
    dir: TempDir,
    _tasks: Tasks,
}

impl World {
    fn new() -> Self {
        let (agent, dir, tasks) = (Agent::default(), tempdir().unwrap(), Tasks::default());
        let path = dir.path().join("agent.sock");
        let incoming = UnixListenerStream::new(UnixListener::bind(&path).unwrap());
        let server = Server::builder().add_service(CallersServer::new(agent.clone()));
        tasks.spawn("agent", move |stop| async move {
            Ok(server.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await?)
        });
        Self { agent, desk: CallerDesk::new(Some(path)).unwrap(), dir, _tasks: tasks }
    }

    fn know(&self, pids: &[u32]) {
        *self.agent.0.lock().unwrap() = pids.to_vec();
    }

    async fn admit(&self, callers: &Callers, peer: &LocalPeer) -> Result<Caller, String> {
        self.desk.admit(callers, peer).await.map_err(|error| error.label().to_owned())
    }
}

fn known(ids: &[&str]) -> Callers {
    Callers::Known(ids.iter().map(|id| id.parse().unwrap()).collect())
}

fn from(pid: u32) -> Callers {
    Callers::Descendants(NonZeroU32::new(pid).unwrap())
}

fn our_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn refused(label: &str) -> Result<Caller, String> {
    Err(label.to_owned())
}

/// A program that is connected to us: a shell, which does `then` once it is.
struct Program {
    child: Child,
    stream: TcpStream,
    peer: LocalPeer,
}

impl Program {
    async fn connects_to(listener: &TcpListener, host: &str, then: &str) -> Self {
        let port = listener.local_addr().unwrap().port();
        let script = format!("exec 3<>/dev/tcp/{host}/{port}; {then} echo ready; read -r _");
        let mut child = Command::new("bash")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while lines.next_line().await.unwrap().unwrap() != "ready" {}
        let peer = LocalPeer::of_tcp(&stream).unwrap();
        Self { child, stream, peer }
    }

    fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Who it is as a caller.
    fn as_caller(&self, id: Option<&str>) -> Result<Caller, String> {
        let id = id.map(|id| id.parse().unwrap());
        Ok(Caller { pid: Some(self.pid()), uid: Some(our_uid()), id })
    }
}

async fn listener(address: &str) -> TcpListener {
    TcpListener::bind(address).await.unwrap()
}

#[tokio::test]
async fn the_program_behind_a_port_is_found_over_ipv4_and_ipv6() {
    let world = World::new();
    for (listens, host) in
        [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1")]
    {
        let listener = listener(listens).await;
        let program = Program::connects_to(&listener, host, "").await;
        world.know(&[]);
        let us = known(&[DB, WEB]);
        assert_eq!(world.admit(&us, &program.peer).await, refused("not-permitted"), "{listens}");
        world.know(&[program.pid()]);
        assert_eq!(world.admit(&us, &program.peer).await, program.as_caller(Some(WEB)));
        let others = known(&[DB]);
        assert_eq!(world.admit(&others, &program.peer).await, refused("not-permitted"));
        let anybody = world.admit(&Callers::Anybody, &program.peer).await.unwrap();
        assert_eq!(anybody, Caller { uid: Some(our_uid()), ..Caller::default() });
    }
}

#[tokio::test]
async fn an_identity_that_was_lost_is_lost_for_the_next_connection() {
    let (world, listener) = (World::new(), listener("127.0.0.1:0").await);
    let program = Program::connects_to(&listener, "127.0.0.1", "").await;
    let us = known(&[WEB]);
    world.know(&[program.pid()]);
    assert_eq!(world.admit(&us, &program.peer).await, program.as_caller(Some(WEB)));
    world.know(&[]);
    assert_eq!(world.admit(&us, &program.peer).await, refused("not-permitted"));
}

#[tokio::test]
async fn everybody_who_holds_a_connection_has_to_qualify() {
    let (world, listener) = (World::new(), listener("127.0.0.1:0").await);
    let program = Program::connects_to(&listener, "127.0.0.1", "sleep 60 & echo $!;").await;
    let children = format!("/proc/{0}/task/{0}/children", program.pid());
    let child = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();
    let us = known(&[WEB]);
    for (who, admitted) in [
        ([program.pid(), child].as_slice(), program.as_caller(Some(WEB))),
        (&[program.pid()], refused("not-permitted")),
        (&[child], refused("not-permitted")),
        (&[], refused("not-permitted")),
    ] {
        world.know(who);
        assert_eq!(world.admit(&us, &program.peer).await, admitted, "{who:?}");
    }
    let sleeper = rustix::process::Pid::from_raw(child.try_into().unwrap()).unwrap();
    rustix::process::kill_process(sleeper, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn descendants_are_those_who_come_from_a_process() {
    let (world, listener) = (World::new(), listener("127.0.0.1:0").await);
    let program = Program::connects_to(&listener, "127.0.0.1", "").await;
    let other = Program::connects_to(&listener, "127.0.0.1", "").await;
    let us = from(std::process::id());
    assert_eq!(world.admit(&us, &program.peer).await, program.as_caller(None));
    assert_eq!(world.admit(&from(program.pid()), &program.peer).await, program.as_caller(None));
    let not = refused("not-permitted");
    assert_eq!(world.admit(&from(other.pid()), &program.peer).await, not);

    // The number of a process that has ended may pass to another one, which is not meant.
    let number = other.pid();
    let mut child = other.child;
    child.kill().await.unwrap();
    assert_eq!(world.admit(&from(number), &program.peer).await, not);
}

#[tokio::test]
async fn who_is_gone_is_refused() {
    let (world, listener) = (World::new(), listener("127.0.0.1:0").await);
    let us = from(std::process::id());
    let mut program = Program::connects_to(&listener, "127.0.0.1", "").await;
    program.child.kill().await.unwrap();
    assert_eq!(world.admit(&us, &program.peer).await, refused("gone"));

    let mut program = Program::connects_to(&listener, "127.0.0.1", "").await;
    assert_eq!(world.admit(&us, &program.peer).await, program.as_caller(None));
    program.stream.shutdown().await.unwrap();
    assert_eq!(world.admit(&us, &program.peer).await, program.as_caller(None), "one half is open");
    drop(program.stream);
    assert_eq!(world.admit(&us, &program.peer).await, refused("gone"));
}

#[tokio::test]
async fn many_who_come_at_once_are_all_found() {
    let (world, listener) = (World::new(), listener("127.0.0.1:0").await);
    let more = "for _ in $(seq 40); do exec {fd}<>/dev/tcp/127.0.0.1/$PORT; done;";
    let more = more.replace("$PORT", &listener.local_addr().unwrap().port().to_string());
    let program = Program::connects_to(&listener, "127.0.0.1", &more).await;
    let mut streams = Vec::new();
    for _ in 0..40 {
        streams.push(listener.accept().await.unwrap().0);
    }
    let mut admissions = tokio::task::JoinSet::new();
    for stream in &streams {
        let (desk, peer) = (world.desk.clone(), LocalPeer::of_tcp(stream).unwrap());
        let us = from(std::process::id());
        admissions.spawn(async move { desk.admit(&us, &peer).await });
    }
    while let Some(admitted) = admissions.join_next().await {
        assert_eq!(admitted.unwrap().map_err(|error| error.to_string()), program.as_caller(None));
    }
}

#[tokio::test]
async fn a_connection_of_our_own_is_ours() {
    let (world, listener) = (World::new(), listener("127.0.0.1:0").await);
    let address: SocketAddr = listener.local_addr().unwrap();
    let (out, into) = tokio::join!(TcpStream::connect(address), listener.accept());
    let peer = LocalPeer::of_tcp(&into.unwrap().0);
    drop(out);
    // The stream that was accepted is closed, and so is the other one.
    assert_eq!(world.admit(&known(&[WEB]), &peer.unwrap()).await, refused("gone"));
    let (out, into) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (out, into) = (out.unwrap(), into.unwrap().0);
    world.know(&[std::process::id()]);
    let admitted = world.admit(&known(&[WEB]), &LocalPeer::of_tcp(&into).unwrap()).await;
    assert_eq!(admitted.unwrap().pid, Some(std::process::id()));
    drop(out);
}

async fn over_unix(dir: &Path) -> (PeerStream, UnixStream) {
    let path = dir.join("door.sock");
    let mut listener = Listener::bind(&path, 0o700, Limits::default()).unwrap();
    let (into, out) = tokio::join!(listener.accept(), UnixStream::connect(&path));
    (into, out.unwrap())
}

#[tokio::test]
async fn of_a_unix_socket_the_kernel_says_who_connected_it() {
    let world = World::new();
    let (into, _out) = over_unix(world.dir.path()).await;
    let (peer, pid) = (LocalPeer::from(&into), std::process::id());
    let caller = |id: Option<&str>| {
        let id = id.map(|id| id.parse().unwrap());
        Ok(Caller { pid: Some(pid), uid: Some(our_uid()), id })
    };
    assert_eq!(world.admit(&Callers::Anybody, &peer).await, caller(None));
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let paired = LocalPeer::of_unix(&ours).unwrap();
    assert_eq!(world.admit(&Callers::Anybody, &paired).await, caller(None));
    assert_eq!(world.admit(&from(pid), &peer).await, caller(None));
    assert_eq!(world.admit(&known(&[WEB]), &peer).await, refused("not-permitted"));
    world.know(&[pid]);
    assert_eq!(world.admit(&known(&[WEB]), &peer).await, caller(Some(WEB)));
    let mut child = Command::new("cat").stdin(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let other = world.admit(&from(child.id().unwrap()), &peer).await;
    assert_eq!(other, refused("not-permitted"));
    child.kill().await.unwrap();
}

#[tokio::test]
async fn without_an_agent_nobody_is_known() {
    let dir = tempdir().unwrap();
    let (into, _out) = over_unix(dir.path()).await;
    let peer = LocalPeer::from(&into);
    let desk = CallerDesk::new(None).unwrap();
    let error = desk.admit(&known(&[WEB]), &peer).await.unwrap_err();
    assert!(matches!(error, NotACaller::NoAgent), "{error}");
    let desk = CallerDesk::new(Some(dir.path().join("away.sock"))).unwrap();
    let error = desk.admit(&known(&[WEB]), &peer).await.unwrap_err();
    assert!(matches!(error, NotACaller::Agent(_)) && error.label() == "unavailable", "{error}");
}
