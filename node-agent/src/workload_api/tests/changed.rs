//! Callers that end, become others, or hand their connection on. They are processes of their own:
//! this test binary again, running [`be_a_caller`].

use std::io::{IoSlice, IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream as Socket;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};

use super::*;
use crate::world::within;

const AGENT: &str = "CLAVIGER_TEST_AGENT";
const MEETING: &str = "CLAVIGER_TEST_MEETING";
const OPENS: &str = "CLAVIGER_TEST_OPENS";

/// A caller, what we talk to it over, and its connection to the agent, which it shares with us.
struct Caller {
    process: Child,
    meeting: UnixStream,
    connection: UnixStream,
}

impl Caller {
    /// A caller that connects and, if it `opens`, has a stream and its first message.
    async fn new(world: &World, opens: bool) -> Self {
        let meeting = world.socket().with_file_name("meeting.sock");
        let listener = UnixListener::bind(&meeting).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        if opens {
            command.env(OPENS, "");
        }
        let process = command
            .args(["--exact", "--ignored", "workload_api::tests::changed::be_a_caller"])
            .envs([(AGENT, world.socket()), (MEETING, meeting)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (meeting, _) = within(listener.accept()).await.unwrap();
        let connection = within(receive(&meeting)).await;
        Self { process, meeting, connection }
    }

    /// It begins another program.
    async fn exec(&mut self) {
        let program = format!("/proc/{}/exe", self.process.id().unwrap());
        let before = std::fs::read_link(&program).unwrap();
        self.meeting.write_all(b"x").await.unwrap();
        within(async {
            // While the threads of the old program end, there is none.
            while std::fs::read_link(&program).map_or(true, |now| now == before) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// What the agent sends next on its streams: the type and the flags of the frame (RFC 9113 §4.1).
    async fn frame(&mut self) -> (u8, u8) {
        loop {
            let mut header = [0; 9];
            self.connection.read_exact(&mut header).await.unwrap();
            let [a, b, c, kind, flags, ..] = header;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]).try_into().unwrap()];
            self.connection.read_exact(&mut payload).await.unwrap();
            if [DATA, HEADERS].contains(&kind) {
                return (kind, flags);
            }
        }
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_OF_STREAM: u8 = 1;

#[tokio::test]
#[ignore = "run by another test, as a process of its own"]
async fn be_a_caller() {
    let connection = UnixStream::connect(std::env::var_os(AGENT).unwrap()).await.unwrap();
    let shared = connection.as_fd().try_clone_to_owned().unwrap();
    let mut stream = None;
    if std::env::var_os(OPENS).is_some() {
        let opened = Client::adopt(connection).await.x509().await.unwrap();
        assert_eq!(ids(&stream.insert(opened).next().await.unwrap()), ["spiffe://example.org/a"]);
    }

    let mut meeting = Socket::connect(std::env::var_os(MEETING).unwrap()).unwrap();
    let fds = [shared.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(&meeting, &[IoSlice::new(b"x")], &mut ancillary, SendFlags::empty()).unwrap();

    meeting.read_exact(&mut [0]).unwrap();
    panic!("{}", std::process::Command::new("sleep").arg("60").exec());
}

/// The connection that the other process hands over.
async fn receive(meeting: &UnixStream) -> UnixStream {
    loop {
        meeting.readable().await.unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let mut parts = [IoSliceMut::new(&mut byte)];
        match recvmsg(meeting, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Ok(_) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => continue,
            Err(errno) => panic!("{errno}"),
        }
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(mut fds) = message {
                let stream = Socket::from(fds.next().unwrap());
                return UnixStream::from_std(stream).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_connection_that_was_handed_on_is_worth_nothing() {
    let (world, _agent, _client) = World::with(vec![ours("a")]).await;
    let caller = Caller::new(&world, false).await;
    // We have an identity, and so has the process that connected.
    let client = Client::adopt(caller.connection).await;
    let ended = client.x509().await.err().unwrap();
    assert!(ended.message().contains("transport error"), "{ended}");
}

#[tokio::test]
async fn a_stream_ends_with_the_process_that_opened_it() {
    let (world, _agent, _client) = World::with(vec![ours("a")]).await;
    let mut caller = Caller::new(&world, true).await;
    caller.process.kill().await.unwrap();
    let (kind, flags) = within(caller.frame()).await;
    assert_eq!((kind, flags & END_OF_STREAM), (HEADERS, END_OF_STREAM));
}

#[tokio::test]
async fn a_stream_tells_nothing_to_the_program_that_its_process_begins() {
    let (world, _agent, client) = World::with(vec![ours("a")]).await;
    let mut caller = Caller::new(&world, true).await;
    caller.exec().await;
    // An identity for every program of the user: the caller's new one would get it, too.
    let everybody = Entry { created_at: UnixTime::from_secs(9), ..user("everybody") };
    world.server.put(everybody);
    let (kind, flags) = within(caller.frame()).await;
    assert_eq!((kind, flags & END_OF_STREAM), (HEADERS, END_OF_STREAM));
    assert_eq!(client.ids().await.unwrap().len(), 2, "others have it");
}

/// An entry for all that our user runs.
fn user(id: &str) -> Entry {
    let uid = rustix::process::geteuid().as_raw();
    crate::world::entry(id, &[&format!("unix:uid:{uid}")])
}
