//! Against real processes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aws_lc_rs::digest::{SHA256, digest};
use claviger_core::time::SystemClock;
use futures_util::future::join_all;
use tempfile::{TempDir, tempdir};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command as AsyncCommand};

use super::*;

/// Two programs that do the same and are not the same.
struct World {
    dir: TempDir,
    attestor: Attestor,
}

impl World {
    fn new() -> Self {
        let dir = tempdir().unwrap();
        // Other processes write the files: a thread that forks while we hold one open for writing
        // would make it "busy" for exec.
        let script = "cp \"$(command -v cat)\" one && cp one two && printf x >>two";
        let made = Command::new("sh").args(["-ec", script]).current_dir(dir.path()).status();
        assert!(made.unwrap().success());
        Self { dir, attestor: Attestor::new(Config::default(), Arc::new(SystemClock)) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn facts(&self, running: &Running) -> Selectors {
        self.attestor.attest(running.caller(), || false).await.unwrap()
    }
}

struct Running {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    fn start(program: &Path, args: &[&str]) -> Self {
        let mut child = AsyncCommand::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdin, stdout }
    }

    fn caller(&self) -> Caller {
        Caller {
            pid: self.child.id().unwrap(),
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            since: None,
        }
    }

    /// Sends a line, and waits until it comes back.
    async fn echo(&mut self, line: &str) {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        let mut back = String::new();
        self.stdout.read_line(&mut back).await.unwrap();
        assert_eq!(back.trim_end(), line);
    }
}

fn selector(name: &str, value: impl std::fmt::Display) -> Selector {
    fact(name, value).unwrap()
}

fn sha256(path: &Path) -> Selector {
    let bytes = std::fs::read(path).unwrap();
    selector("sha256", hex::encode(digest(&SHA256, &bytes)))
}

fn has(facts: &Selectors, name: &str) -> bool {
    facts.iter().any(|fact| fact.value().starts_with(&format!("{name}:")))
}

#[tokio::test]
async fn two_programs_of_one_user_are_told_apart() {
    let world = World::new();
    for (name, other) in [("one", "two"), ("two", "one")] {
        let mut running = Running::start(&world.path(name), &[]);
        running.echo("started").await;
        let facts = world.facts(&running).await;
        let uid = rustix::process::geteuid();
        let gid = rustix::process::getegid();
        for expected in [
            selector("uid", uid),
            selector("gid", gid),
            selector("path", world.path(name).display()),
            sha256(&world.path(name)),
        ] {
            assert!(facts.contains(&expected), "{expected} not in {facts:?}");
        }
        assert!(!facts.contains(&sha256(&world.path(other))));
        for group in rustix::process::getgroups().unwrap() {
            assert!(facts.contains(&selector("supplementary_gid", group)));
        }
        if uid.is_root() {
            assert!(facts.contains(&selector("user", "root")));
        }
    }
}

#[tokio::test]
async fn another_program_in_the_same_process_has_other_facts() {
    let world = World::new();
    let sh = PathBuf::from("/bin/sh");
    let two = world.path("two");
    let script = format!("echo started; read line; exec '{}'", two.display());
    let mut running = Running::start(&sh, &["-c", &script]);
    let mut line = String::new();
    running.stdout.read_line(&mut line).await.unwrap();

    let before = world.facts(&running).await;
    assert!(!before.contains(&sha256(&two)) && has(&before, "sha256"));

    running.stdin.write_all(b"go\n").await.unwrap();
    running.echo("the other program answers").await;
    let after = world.facts(&running).await;
    assert!(after.contains(&sha256(&two)));
    assert!(after.contains(&selector("path", two.display())));
}

#[tokio::test]
async fn a_removed_program_has_a_digest_and_no_path() {
    let world = World::new();
    let (one, expected) = (world.path("one"), sha256(&world.path("one")));
    let mut running = Running::start(&one, &[]);
    running.echo("started").await;
    std::fs::remove_file(&one).unwrap();
    let facts = world.facts(&running).await;
    assert!(facts.contains(&expected));
    assert!(!has(&facts, "path"), "{facts:?}");

    // Nor when another file is found there.
    std::fs::rename(world.path("two"), &one).unwrap();
    assert!(!has(&world.facts(&running).await, "path"));
}

#[tokio::test]
async fn a_large_program_has_a_path_and_no_digest() {
    let world = World::new();
    let mut running = Running::start(&world.path("one"), &[]);
    running.echo("started").await;
    let config = Config { max_program_size: 9 };
    let attestor = Attestor::new(config, Arc::new(SystemClock));
    let facts = attestor.attest(running.caller(), || false).await.unwrap();
    assert!(has(&facts, "path") && !has(&facts, "sha256"), "{facts:?}");
}

#[tokio::test]
async fn an_ended_process_has_no_facts() {
    let world = World::new();
    let mut running = Running::start(&world.path("one"), &[]);
    running.echo("started").await;
    // Ended, as its pidfd says, but not reaped: /proc still knows it.
    let caller = running.caller();
    let error = world.attestor.attest(caller, || true).await.unwrap_err();
    assert!(matches!(error, AttestError::Exited), "{error}");

    running.child.kill().await.unwrap();
    let error = world.attestor.attest(caller, || false).await.unwrap_err();
    assert!(matches!(error, AttestError::Exited), "{error}");
}

#[tokio::test]
async fn a_process_that_changed_its_user_must_connect_anew() {
    let world = World::new();
    let mut running = Running::start(&world.path("one"), &[]);
    running.echo("started").await;
    let caller = running.caller();
    for other in [Caller { uid: 4_242, ..caller }, Caller { gid: 4_242, ..caller }] {
        let error = world.attestor.attest(other, || false).await.unwrap_err();
        assert!(matches!(error, AttestError::OtherUser), "{error}");
    }
}

#[tokio::test]
async fn many_at_once_are_all_answered() {
    let world = World::new();
    let mut running = Running::start(&world.path("one"), &[]);
    running.echo("started").await;
    let first = world.facts(&running).await;
    let again = (0..100).map(|_| world.attestor.attest(running.caller(), || false));
    for facts in join_all(again).await {
        assert_eq!(facts.unwrap(), first);
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_system_that_hangs_is_given_up() {
    let attestor = Attestor::new(Config::default(), Arc::new(SystemClock));
    let uid = rustix::process::geteuid().as_raw();
    let lane = attestor.lane(uid);
    let _hung = lane.looks.acquire_many(LOOKS.try_into().unwrap()).await.unwrap();
    let _busy = lane.reads.acquire_many(READS.try_into().unwrap()).await.unwrap();
    let gid = rustix::process::getegid().as_raw();
    let caller = Caller { pid: std::process::id(), uid, gid, since: None };
    let error = attestor.attest(caller, || false).await.unwrap_err();
    assert!(matches!(error, AttestError::TimedOut), "{error}");
}

#[test]
fn settings_have_names() {
    let config: Config = toml::from_str("max-program-size = 9").unwrap();
    assert_eq!(config, Config { max_program_size: 9 });
    toml::from_str::<Config>("max_size = 9").unwrap_err();
}
