//! SVIDs in files, for programs that speak no Workload API.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use claviger_tests::process::{Dev, PATIENCE, my_uid, terminate};
use rcgen::KeyPair;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;
use x509_parser::prelude::Pem;

use crate::claviger;

const WEB: &str = "spiffe://example.org/web";

/// `claviger svid watch --write`, and what it says.
struct Watch {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watch {
    fn start(dev: &Dev, folder: &Path, rest: &[&str]) -> Self {
        let socket = dev.agent_socket.to_str().unwrap();
        let watch = ["--output", "json", "svid", "watch", "--socket-path", socket, "--write"];
        let folder = [folder.to_str().unwrap()];
        let mut child = claviger()
            .command([&watch, &folder[..], rest].concat())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = lines(&mut child);
        Self { child, lines }
    }

    async fn update(&mut self) -> Value {
        serde_json::from_str(&next(&mut self.lines).await).unwrap()
    }
}

fn lines(child: &mut Child) -> Lines<BufReader<ChildStdout>> {
    BufReader::new(child.stdout.take().unwrap()).lines()
}

async fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap()
}

/// An entry whose SVIDs are renewed every few seconds, and one that is nobody's business here.
async fn dev() -> Dev {
    let dev = Dev::start(&claviger()).await;
    let uid = my_uid();
    let create = ["entry", "create", "--selector", &uid, "--wait", "--spiffe-id"];
    dev.admin(&[&create[..], &["spiffe://example.org/db"]].concat()).await;
    dev.admin(&[&create[..], &[WEB, "--x509-svid-ttl", "5"]].concat()).await;
    dev
}

/// The serial number of a certificate whose key follows, and fits.
fn serial_number(pair: &[Pem]) -> String {
    let [certificate, key] = pair else { panic!("{pair:?}") };
    let leaf = certificate.parse_x509().unwrap();
    let key = KeyPair::try_from(key.contents.as_slice()).unwrap();
    assert_eq!(key.public_key_raw(), &*leaf.public_key().subject_public_key.data);
    hex::encode(leaf.raw_serial())
}

#[tokio::test]
async fn files_follow_the_svid_and_a_program_is_told_of_each() {
    let dev = dev().await;
    let dir = TempDir::new().unwrap();
    let reads = r#"cat "$1/web.combined.pem" >> "$1/read""#;
    let folder = dir.path().to_str().unwrap();
    let web = ["--spiffe-id", WEB, "--name", "web", "--combined"];
    let exec = ["--exec", "sh", "-c", reads, "sh", folder];
    let mut watch = Watch::start(&dev, dir.path(), &[&web[..], &exec].concat());

    let mut serials = Vec::new();
    for n in 1..=3 {
        let update = watch.update().await;
        assert_eq!((&update["update"], &update["svids"][0]["spiffe_id"]), (&n.into(), &WEB.into()));
        assert_eq!(update["svids"].as_array().unwrap().len(), 1);
        serials.push(update["svids"][0]["serial_number"].as_str().unwrap().to_owned());
    }
    // The program has ended twice before the third line, and may be at its third run now.
    let read = fs::read(dir.path().join("read")).unwrap();
    let parts: Vec<_> = Pem::iter_from_buffer(&read).take(4).map(Result::unwrap).collect();
    let read: Vec<_> = parts.chunks(2).map(serial_number).collect();
    assert_eq!(read, serials[..2]);
    assert_ne!(read[0], read[1], "an update is another SVID");
    let files = ["web.bundle.pem", "web.combined.pem", "web.key", "web.pem"];
    assert!(files.iter().all(|name| dir.path().join(name).exists()));
    assert!(terminate(&mut watch.child).await.success());
}

#[tokio::test]
async fn a_process_gets_the_signal_it_waits_for() {
    let dev = dev().await;
    let dir = TempDir::new().unwrap();
    let waits = "trap 'echo told' USR2; echo ready; while :; do sleep 0.05; done";
    let mut server = Command::new("sh");
    server.args(["-c", waits]).stdout(Stdio::piped()).kill_on_drop(true);
    let mut server = server.spawn().unwrap();
    let mut said = lines(&mut server);
    assert_eq!(next(&mut said).await, "ready");

    let pid_file = dir.path().join("server.pid");
    let signal = ["--pid-file", pid_file.to_str().unwrap(), "--signal", "usr2"];
    let mut watch = Watch::start(&dev, dir.path(), &signal);
    watch.update().await;
    // It was told of a process that was not there yet; that is repeated.
    fs::write(&pid_file, format!("{}\n", server.id().unwrap())).unwrap();
    assert_eq!(next(&mut said).await, "told");
}

#[tokio::test]
async fn no_files_are_written_of_an_identity_that_is_not_there() {
    let dev = dev().await;
    let dir = TempDir::new().unwrap();
    let (folder, socket) = (dir.path().to_str().unwrap(), dev.agent_socket.to_str().unwrap());
    let other = ["--spiffe-id", "spiffe://example.org/other", "--write", folder];
    let fetch = ["svid", "fetch", "--socket-path", socket];
    let output = claviger().run([&fetch[..], &other].concat()).await;
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains(WEB) && told.contains("none of this process's identities"), "{told}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
