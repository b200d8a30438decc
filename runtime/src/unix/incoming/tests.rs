//! Who writes, and what it runs. The other processes are real ones.

use std::io::{IoSlice, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream as Socket;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tempfile::{TempDir, tempdir};
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::*;
use crate::unix::{Limits, Listener, PeerStream};

const PATIENCE: Duration = Duration::from_secs(10);

fn listener() -> (TempDir, Listener) {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.sock");
    let listener = Listener::bind(&path, 0o600, Limits::default()).unwrap();
    (dir, listener)
}

/// A connection from this process, and where it comes from.
async fn connected() -> (Socket, PeerStream) {
    let (_dir, mut listener) = listener();
    let client = Socket::connect(listener.path()).unwrap();
    (client, listener.accept().await)
}

async fn read(stream: &mut PeerStream) -> io::Result<Vec<u8>> {
    let mut bytes = [0; 64];
    let count = timeout(PATIENCE, stream.read(&mut bytes)).await.expect("nothing comes")?;
    Ok(bytes[..count].to_vec())
}

/// Has a child write to the connection of `client`.
fn child_writes(client: &Socket, text: &str) {
    let socket = OwnedFd::from(client.try_clone().unwrap());
    let script = format!("printf {text} >&0");
    let status = Command::new("sh").args(["-c", &script]).stdin(Stdio::from(socket)).status();
    assert!(status.unwrap().success());
}

#[tokio::test]
async fn what_the_caller_wrote_before_it_was_accepted_is_its_own() {
    let (_dir, mut listener) = listener();
    let mut client = Socket::connect(listener.path()).unwrap();
    client.write_all(b"early").unwrap();
    let mut stream = listener.accept().await;
    assert_eq!(read(&mut stream).await.unwrap(), b"early");
}

#[tokio::test]
async fn all_threads_of_the_caller_may_write() {
    let (mut client, mut stream) = connected().await;
    let thread = std::thread::spawn(move || client.write_all(b"thread"));
    assert_eq!(read(&mut stream).await.unwrap(), b"thread");
    thread.join().unwrap().unwrap();
    assert_eq!(read(&mut stream).await.unwrap(), b"", "the caller hung up");
}

#[tokio::test]
async fn what_another_process_writes_ends_the_connection_at_once() {
    let (mut client, mut stream) = connected().await;
    child_writes(&client, "x");
    let error = read(&mut stream).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    // The other end hears of it even while this one is still held.
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    assert_eq!(client.write(b"y").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert!(stream.write_all(b"a secret").await.is_err());
}

#[tokio::test]
async fn what_two_processes_write_is_not_mixed_up() {
    let (_dir, mut listener) = listener();
    let mut client = Socket::connect(listener.path()).unwrap();
    client.write_all(b"mine").unwrap();
    child_writes(&client, "theirs");
    client.write_all(b"mine").unwrap();
    let mut stream = listener.accept().await;
    assert_eq!(read(&mut stream).await.unwrap(), b"mine");
    assert_eq!(read(&mut stream).await.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn descriptors_are_not_taken() {
    let (client, mut stream) = connected().await;
    let stdin = io::stdin();
    let descriptors = [stdin.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    sendmsg(&client, &[IoSlice::new(b"x")], &mut control, SendFlags::empty()).unwrap();
    assert_eq!(read(&mut stream).await.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn only_what_comes_after_the_look_at_the_program_counts() {
    let (_dir, mut listener) = listener();
    let mut client = Socket::connect(listener.path()).unwrap();
    client.write_all(b"early").unwrap();
    let mut stream = listener.accept().await;
    let peer = stream.peer().clone();
    assert_eq!(read(&mut stream).await.unwrap(), b"early");
    assert!(timeout(Duration::ZERO, peer.spoken()).await.is_err());
    client.write_all(b"l").unwrap();
    assert_eq!(read(&mut stream).await.unwrap(), b"l");
    timeout(Duration::ZERO, peer.spoken()).await.unwrap();
}

/// This test binary again, running [`be_a_caller`], which begins `program` when it is told to.
async fn caller(listener: &mut Listener, program: &str) -> (Caller, PeerStream) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "unix::incoming::tests::be_a_caller"])
        .env(CALLER, listener.path())
        .env(PROGRAM, program)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let caller = Caller(child);
    let mut stream = timeout(PATIENCE, listener.accept()).await.unwrap();
    assert_eq!(read(&mut stream).await.unwrap(), b"1");
    assert!(!stream.peer().has_changed());
    stream.write_all(b"go").await.unwrap();
    (caller, stream)
}

/// Killed when it is dropped.
struct Caller(Child);

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

const CALLER: &str = "CLAVIGER_TEST_CALLER";
const PROGRAM: &str = "CLAVIGER_TEST_PROGRAM";

#[test]
#[ignore = "run by another test, as a process of its own"]
fn be_a_caller() {
    let mut stream = Socket::connect(std::env::var_os(CALLER).unwrap()).unwrap();
    stream.write_all(b"1").unwrap();
    stream.read_exact(&mut [0; 2]).unwrap();
    let mut command = if std::env::var_os(PROGRAM).unwrap() == "itself" {
        let mut itself = Command::new(std::env::current_exe().unwrap());
        itself.args(["--exact", "--ignored", "unix::incoming::tests::be_the_caller_again"]);
        itself
    } else {
        let mut other = Command::new("sh");
        other.args(["-c", "printf 2 >&0; read line <&0"]);
        other
    };
    let error = command.stdin(Stdio::from(OwnedFd::from(stream))).exec();
    panic!("{error}");
}

#[test]
#[ignore = "run by another test, as a process of its own"]
fn be_the_caller_again() {
    let mut stream = Socket::from(io::stdin().as_fd().try_clone_to_owned().unwrap());
    stream.write_all(b"2").unwrap();
    stream.read_exact(&mut [0]).unwrap_err();
}

#[tokio::test]
async fn a_caller_that_begins_another_program_has_changed() {
    let (_dir, mut listener) = listener();
    let (_caller, mut stream) = caller(&mut listener, "another").await;
    // It is the same process still, and may write.
    assert_eq!(read(&mut stream).await.unwrap(), b"2");
    assert!(stream.peer().has_changed() && !stream.peer().has_exited());
}

#[tokio::test]
async fn a_caller_that_begins_its_own_program_anew_has_not() {
    let (_dir, mut listener) = listener();
    let (_caller, mut stream) = caller(&mut listener, "itself").await;
    assert_eq!(read(&mut stream).await.unwrap(), b"2");
    assert!(!stream.peer().has_changed());
}

#[tokio::test]
async fn a_caller_that_ends_has_changed() {
    let (_dir, mut listener) = listener();
    let (caller, stream) = caller(&mut listener, "itself").await;
    drop(caller);
    assert!(stream.peer().has_changed());
}
