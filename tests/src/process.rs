//! The binary, driven from outside as its users do.

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::entries;

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The `claviger` binary.
#[derive(Clone, Debug)]
pub struct Claviger(PathBuf);

impl Claviger {
    /// The binary at `path`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// A command that ends with the test.
    pub fn command(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(&self.0);
        command.args(args).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    ///
    /// If it cannot be started or takes too long.
    pub async fn run(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        let output = self.command(args).output();
        timeout(PATIENCE, output).await.expect("command hangs").expect("command starts")
    }

    /// Runs a command that must succeed, and reads its JSON answer.
    ///
    /// # Panics
    ///
    /// If it fails or does not answer in JSON.
    pub async fn json(&self, args: &[&str]) -> Value {
        let output = self.run(["--output", "json"].iter().chain(args)).await;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "claviger {args:?}: {errors}");
        serde_json::from_slice(&output.stdout).expect("JSON on stdout")
    }
}

/// The user that the test runs as, as a selector.
///
/// # Panics
///
/// If `/proc` is not mounted.
#[must_use]
pub fn my_uid() -> String {
    format!("unix:uid:{}", fs::metadata("/proc/self").unwrap().uid())
}

/// `claviger dev` in a directory of its own.
#[derive(Debug)]
pub struct Dev {
    child: Child,
    claviger: Claviger,
    parent: TempDir,
    /// The Workload API.
    pub agent_socket: PathBuf,
    /// The operator's API.
    pub server_socket: PathBuf,
}

impl Dev {
    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    ///
    /// If it does not say that it is.
    pub async fn start(claviger: &Claviger) -> Self {
        let parent = TempDir::new().unwrap();
        let dir = parent.path().join("dev");
        let mut child = claviger
            .command([OsStr::new("dev"), OsStr::new("--dir"), dir.as_os_str()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("dev starts");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut exports = Vec::new();
        loop {
            let line = timeout(PATIENCE, lines.next_line()).await.expect("dev hangs").unwrap();
            match line.expect("dev ended before it was ready").as_str() {
                "ready" => break,
                export => exports.push(export.to_owned()),
            }
        }
        let value = |name: &str| {
            let prefix = format!("export {name}='");
            let line = exports.iter().find_map(|line| line.strip_prefix(&prefix));
            line.and_then(|rest| rest.strip_suffix('\'')).expect("export is printed").to_owned()
        };
        let endpoint = value("SPIFFE_ENDPOINT_SOCKET");
        let agent_socket = endpoint.strip_prefix("unix://").expect("unix scheme").into();
        let server_socket = value("CLAVIGER_SERVER_SOCKET").into();
        Self { child, claviger: claviger.clone(), parent, agent_socket, server_socket }
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.parent.path().join("dev")
    }

    /// Runs a command of the operator's that must succeed.
    pub async fn admin(&self, args: &[&str]) -> Value {
        let socket = self.server_socket.to_str().unwrap();
        self.claviger.json(&[args, &["--socket-path", socket]].concat()).await
    }

    /// Asks it to stop, and waits until it has.
    ///
    /// # Panics
    ///
    /// If it does not stop.
    pub async fn stop(mut self) -> (ExitStatus, TempDir) {
        let status = terminate(&mut self.child).await;
        (status, self.parent)
    }
}

/// A port of this machine's that nobody listens on, and that the system gives to nobody who connects: one of
/// those may be taken again before it is used.
///
/// # Panics
///
/// If there is none.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Tests that run at the same time look elsewhere.
    let from = std::process::id().wrapping_mul(211);
    let port =
        |number: u16| 10_000 + u16::try_from(from.wrapping_add(number.into()) % 20_000).unwrap();
    let mut ports = (0..20_000).map(|_| port(NEXT.fetch_add(1, Ordering::Relaxed)));
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a port is free")
}

/// Sends the signal of that name to a process.
///
/// # Panics
///
/// If there is no such process or signal.
pub async fn signal(pid: u32, name: &str) {
    let kill = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().await;
    assert!(kill.unwrap().success());
}

/// Asks a process to stop, and waits until it has.
///
/// # Panics
///
/// If it does not stop.
pub async fn terminate(child: &mut Child) -> ExitStatus {
    signal(child.id().expect("process runs"), "TERM").await;
    timeout(PATIENCE, child.wait()).await.expect("process drains").unwrap()
}

/// Copies a directory with all below it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What server and agent say of themselves, and where.
#[derive(Clone, Copy, Debug)]
enum Log {
    /// What is amiss, where the test says it.
    Inherited,
    /// Everything, in files. Whoever reads them wants to know what gets out, so nothing helps to keep it
    /// in: the umask is 0.
    Everything,
}

impl Log {
    /// The levels of server and agent.
    const fn levels(self) -> [&'static str; 2] {
        match self {
            Self::Inherited => ["warn", "error"],
            Self::Everything => ["trace", "trace"],
        }
    }

    fn spawn(
        self,
        claviger: &Claviger,
        what: &str,
        dir: &Path,
        recorder: Option<&Recorder>,
    ) -> Child {
        let config = dir.join(format!("{what}.toml"));
        let args = [OsStr::new(what), OsStr::new("run"), OsStr::new("--config"), config.as_ref()];
        let mut command = match self {
            Self::Inherited => claviger.command(args),
            Self::Everything => {
                let file = dir.join(format!("{what}.log"));
                let file = fs::File::options().create(true).append(true).open(file).unwrap();
                let mut shell = Command::new("sh");
                shell.args(["-c", "umask 0 && exec \"$0\" \"$@\""]).arg(&claviger.0).args(args);
                shell.stdin(Stdio::null()).stderr(file).kill_on_drop(true);
                shell
            }
        };
        if let Some(Recorder { library, log }) = recorder {
            command.env("LD_PRELOAD", library).env("CLAVIGER_RECORD_LOG", log);
            command.env("CLAVIGER_RECORD_ROOT", dir.join("server"));
        }
        command.spawn().expect("process starts")
    }
}

/// What a server does to its data is written down (`tests/power`).
#[derive(Clone, Debug)]
pub struct Recorder {
    /// The library that does it.
    pub library: PathBuf,
    /// Where.
    pub log: PathBuf,
}

/// A server and an agent as processes of their own, so that the server can be killed.
#[derive(Debug)]
pub struct Deployment {
    claviger: Claviger,
    /// What the agent is run with.
    agent_program: Claviger,
    dir: TempDir,
    server_address: String,
    log: Log,
    server: Child,
    agent: Option<Child>,
    recorder: Option<Recorder>,
    /// Those that were added.
    others: Vec<Child>,
}

impl Deployment {
    /// Starts both; the agent attests with a join token.
    ///
    /// # Panics
    ///
    /// If either does not become ready.
    pub async fn start(claviger: &Claviger) -> Self {
        Self::start_with(claviger, claviger).await
    }

    /// Starts both, the agent with a program of its own.
    ///
    /// # Panics
    ///
    /// If either does not become ready.
    pub async fn start_with(claviger: &Claviger, agent_program: &Claviger) -> Self {
        Self::start_configured(claviger, agent_program, "").await
    }

    /// Starts both; `more` stands at the end of the server's configuration.
    ///
    /// # Panics
    ///
    /// If either does not become ready.
    pub async fn start_configured(
        claviger: &Claviger,
        agent_program: &Claviger,
        more: &str,
    ) -> Self {
        Self::start_logging(claviger, agent_program, more, Log::Inherited, None).await
    }

    /// Starts both under a umask that takes nothing away, each with a log of everything: `server.log` and
    /// `agent.log` in [`Self::dir`].
    ///
    /// # Panics
    ///
    /// If either does not become ready.
    pub async fn start_talkative(claviger: &Claviger) -> Self {
        Self::start_logging(claviger, claviger, "", Log::Everything, None).await
    }

    /// Starts both; all that the server does to its data is recorded, in all of its lives.
    ///
    /// # Panics
    ///
    /// If either does not become ready.
    pub async fn start_recorded(claviger: &Claviger, recorder: Recorder) -> Self {
        Self::start_logging(claviger, claviger, "", Log::Inherited, Some(recorder)).await
    }

    async fn start_logging(
        claviger: &Claviger,
        agent_program: &Claviger,
        more: &str,
        log: Log,
        recorder: Option<Recorder>,
    ) -> Self {
        let dir = TempDir::new().unwrap();
        if recorder.is_some() {
            let mut private = fs::DirBuilder::new();
            private.mode(0o700).create(dir.path().join("server")).unwrap();
        }
        let [server_level, agent_level] = log.levels();
        let port = free_port();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let server = format!(
            "trust-domain = \"example.org\"\ndata-dir = \"{}\"\nlisten = \"127.0.0.1:{port}\"\n\
             admin-socket = \"{}\"\n[log]\nlevel = \"{server_level}\"\n{more}",
            at("server"),
            at("server.sock"),
        );
        fs::write(dir.path().join("server.toml"), server).unwrap();
        let agent = format!(
            "trust-domain = \"example.org\"\nserver-address = \"127.0.0.1:{port}\"\n\
             data-dir = \"{}\"\nsocket-path = \"{}\"\ntrust-bundle-path = \"{}\"\n\
             join-token-file = \"{}\"\n[log]\nlevel = \"{agent_level}\"\n",
            at("agent"),
            at("agent.sock"),
            at("bundle.pem"),
            at("token"),
        );
        fs::write(dir.path().join("agent.toml"), agent).unwrap();
        let server = log.spawn(claviger, "server", dir.path(), recorder.as_ref());
        let (claviger, agent_program) = (claviger.clone(), agent_program.clone());
        let server_address = format!("127.0.0.1:{port}");
        let mut deployment = Self {
            claviger,
            agent_program,
            dir,
            server_address,
            server,
            log,
            agent: None,
            recorder,
            others: Vec::new(),
        };
        deployment.server_ready().await;
        deployment.start_agent().await;
        deployment
    }

    async fn start_agent(&mut self) {
        let token = self.admin(&["token", "generate"]).await;
        let token = token.get("value").and_then(Value::as_str).expect("a token");
        fs::write(self.dir.path().join("token"), token).unwrap();
        let socket = self.admin_socket();
        let args = ["bundle", "show", "--format", "pem", "--socket-path", socket.to_str().unwrap()];
        let bundle = self.claviger.run(args).await;
        assert!(bundle.status.success());
        fs::write(self.dir.path().join("bundle.pem"), bundle.stdout).unwrap();
        self.agent = Some(self.log.spawn(&self.agent_program, "agent", self.dir.path(), None));
        self.agent_ready().await;
    }

    /// Where everything is that the two keep.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts another agent, with a directory, a socket and a join token of its own, and waits until
    /// it is ready. Its socket.
    ///
    /// # Panics
    ///
    /// If it does not become ready.
    pub async fn add_agent(&mut self, name: &str) -> PathBuf {
        let token = self.admin(&["token", "generate"]).await;
        let token = token.get("value").and_then(Value::as_str).expect("a token");
        let at = |file: &str| self.dir.path().join(file).display().to_string();
        fs::write(at(&format!("{name}.token")), token).unwrap();
        let first = fs::read_to_string(at("agent.toml")).unwrap();
        let (socket, data, file) = (at("agent.sock"), at("agent"), at("token"));
        let config = first
            .replace(&socket, &at(&format!("{name}.sock")))
            .replace(&format!("\"{data}\""), &format!("\"{}\"", at(name)))
            .replace(&format!("\"{file}\""), &format!("\"{}\"", at(&format!("{name}.token"))));
        fs::write(at(&format!("{name}.toml")), config).unwrap();
        let config = self.dir.path().join(format!("{name}.toml"));
        let args =
            [OsStr::new("agent"), OsStr::new("run"), OsStr::new("--config"), config.as_ref()];
        self.others.push(self.agent_program.command(args).spawn().expect("process starts"));
        let socket = self.dir.path().join(format!("{name}.sock"));
        self.until_healthy(["--agent", "--socket-path", socket.to_str().unwrap()]).await;
        socket
    }

    async fn agent_ready(&self) {
        let socket = self.agent_socket();
        self.until_healthy(["--agent", "--socket-path", socket.to_str().unwrap()]).await;
    }

    /// The socket of the Workload API.
    #[must_use]
    pub fn agent_socket(&self) -> PathBuf {
        self.dir.path().join("agent.sock")
    }

    /// The agent's process id.
    ///
    /// # Panics
    ///
    /// If it has ended.
    #[must_use]
    pub fn agent_pid(&self) -> u32 {
        self.agent.as_ref().and_then(Child::id).expect("the agent runs")
    }

    /// The server's process id.
    ///
    /// # Panics
    ///
    /// If it has ended.
    #[must_use]
    pub fn server_pid(&self) -> u32 {
        self.server.id().expect("the server runs")
    }

    /// Where agents connect to the server, as `ADDRESS:PORT`.
    #[must_use]
    pub fn server_address(&self) -> &str {
        &self.server_address
    }

    /// The authorities that agents began with, as PEM.
    ///
    /// # Panics
    ///
    /// If there are none yet.
    #[must_use]
    pub fn bundle(&self) -> String {
        fs::read_to_string(self.dir.path().join("bundle.pem")).expect("a bundle")
    }

    /// Registers `count` identities for whoever has `selector`, under the one agent, and waits until
    /// it has their SVIDs.
    ///
    /// # Panics
    ///
    /// If the server refuses.
    pub async fn register(&self, selector: &str, name: &str, count: usize) {
        let agents = self.admin(&["agent", "list"]).await;
        let parent = agents.pointer("/agents/0/spiffe_id").and_then(Value::as_str);
        let parent = parent.expect("an agent").to_owned();
        let file = self.dir.path().join("entries.json");
        fs::write(&file, entries::file(&parent, selector, name, count)).unwrap();
        self.admin(&["entry", "create", "--data", file.to_str().unwrap(), "--wait"]).await;
    }

    /// The operator's socket.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.dir.path().join("server.sock")
    }

    /// Runs a command of the operator's that must succeed.
    pub async fn admin(&self, args: &[&str]) -> Value {
        let socket = self.admin_socket();
        self.claviger.json(&[args, &["--socket-path", socket.to_str().unwrap()][..]].concat()).await
    }

    /// Kills the server, which has no chance to clean up, and starts another on its data.
    ///
    /// # Panics
    ///
    /// If the new one does not become ready.
    pub async fn kill_and_restart_server(&mut self) {
        self.server.kill().await.expect("server was running");
        self.start_server().await;
    }

    /// Asks the server to stop, and waits until it has.
    ///
    /// # Panics
    ///
    /// If it does not stop.
    pub async fn stop_server(&mut self) {
        terminate(&mut self.server).await;
    }

    /// Starts the server on its data.
    ///
    /// # Panics
    ///
    /// If it does not become ready.
    pub async fn start_server(&mut self) {
        let recorder = self.recorder.as_ref();
        self.server = self.log.spawn(&self.claviger, "server", self.dir.path(), recorder);
        self.server_ready().await;
    }

    /// Stops the agent and starts it again, with no token that would still work.
    ///
    /// # Panics
    ///
    /// If it does not become ready.
    pub async fn restart_agent(&mut self) {
        terminate(self.agent.as_mut().expect("agent runs")).await;
        self.agent = Some(self.log.spawn(&self.agent_program, "agent", self.dir.path(), None));
        self.agent_ready().await;
    }

    /// Kills the agent, which has no chance to clean up, and starts another in its place.
    ///
    /// # Panics
    ///
    /// If the new one does not become ready.
    pub async fn kill_and_restart_agent(&mut self) {
        self.agent.as_mut().expect("agent runs").kill().await.expect("agent was running");
        self.agent = Some(self.log.spawn(&self.agent_program, "agent", self.dir.path(), None));
        self.agent_ready().await;
    }

    /// A copy of the stopped server's data.
    ///
    /// # Panics
    ///
    /// If it cannot be copied.
    #[must_use]
    pub fn back_up_server(&self) -> TempDir {
        let backup = TempDir::new().unwrap();
        copy(&self.dir.path().join("server"), &backup.path().join("server"));
        backup
    }

    /// Puts a copy back in place of the stopped server's data.
    ///
    /// # Panics
    ///
    /// If it cannot be copied.
    pub fn restore_server(&self, backup: &TempDir) {
        fs::remove_dir_all(self.dir.path().join("server")).unwrap();
        copy(&backup.path().join("server"), &self.dir.path().join("server"));
    }

    /// Starts a second server with the same settings but another port and socket, and waits for
    /// its end: its exit code, and what it says.
    pub async fn run_second_server(&self) -> (Option<i32>, String) {
        let first = fs::read_to_string(self.dir.path().join("server.toml")).unwrap();
        let second = first
            .lines()
            .filter(|line| !line.starts_with("listen"))
            .map(|line| line.replace("server.sock", "second.sock") + "\n")
            .collect::<String>();
        let second = second.replacen('\n', "\nlisten = \"127.0.0.1:0\"\n", 1);
        let config = self.dir.path().join("second.toml");
        fs::write(&config, second).unwrap();
        let args = ["server", "run", "--config", config.to_str().unwrap()];
        let output = self.claviger.run(args).await;
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Starts a second agent with the token of the first, and waits for its end: what it says.
    ///
    /// # Panics
    ///
    /// If it is admitted.
    pub async fn join_again_with_the_same_token(&self) -> String {
        let first = fs::read_to_string(self.dir.path().join("agent.toml")).unwrap();
        let dir = self.dir.path().display().to_string();
        let second = first
            .replace(&format!("{dir}/agent\""), &format!("{dir}/agent2\""))
            .replace("agent.sock", "agent2.sock");
        let config = self.dir.path().join("agent2.toml");
        fs::write(&config, second).unwrap();
        let output =
            self.claviger.run(["agent", "run", "--config", config.to_str().unwrap()]).await;
        assert!(!output.status.success(), "the second agent was admitted");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// The audit log as JSON lines, which `audit export` has verified.
    ///
    /// # Panics
    ///
    /// If it cannot be had.
    pub async fn export_audit(&self) -> String {
        let socket = self.admin_socket();
        let args = ["audit", "export", "--socket-path", socket.to_str().unwrap()];
        let output = self.claviger.run(args).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    async fn server_ready(&mut self) {
        let socket = self.admin_socket();
        self.until_healthy(["--server", "--socket-path", socket.to_str().unwrap()]).await;
        assert!(self.server.try_wait().unwrap().is_none(), "the server ended");
    }

    async fn until_healthy(&self, of: [&str; 3]) {
        let deadline = Instant::now() + PATIENCE;
        let args = ["healthcheck"].into_iter().chain(of);
        while !self.claviger.run(args.clone()).await.status.success() {
            assert!(Instant::now() < deadline, "{of:?} does not become healthy");
            sleep(Duration::from_millis(5)).await;
        }
    }
}
