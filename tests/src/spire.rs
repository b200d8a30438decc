//! A real SPIRE server and agent, to measure beside ours.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Duration, Instant, sleep};

use crate::entries;
use crate::process::PATIENCE;

/// A SPIRE server and agent, with keys in memory, a join token and the `unix` attestor.
#[derive(Debug)]
pub struct Spire {
    programs: PathBuf,
    dir: TempDir,
    _server: Child,
    agent: Child,
}

impl Spire {
    /// Starts both; `spire-server` and `spire-agent` are in the folder `programs`.
    ///
    /// # Panics
    ///
    /// If either does not become ready.
    pub async fn start(programs: &Path) -> Self {
        let dir = TempDir::new().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        fs::write(dir.path().join("server.conf"), server_conf(dir.path(), port)).unwrap();
        fs::write(dir.path().join("agent.conf"), agent_conf(dir.path(), port)).unwrap();
        let server = spawn(programs, "spire-server", dir.path(), "server.conf", &[]);
        let server_socket = dir.path().join("server.sock").display().to_string();
        until_healthy(programs, "spire-server", &server_socket).await;
        let generate = ["token", "generate", "-output", "json", "-socketPath", &server_socket];
        let token = run(&programs.join("spire-server"), &generate).await;
        let token: Value = serde_json::from_str(&token).expect("a token in JSON");
        let token = token.get("value").and_then(Value::as_str).expect("a token");
        let agent =
            spawn(programs, "spire-agent", dir.path(), "agent.conf", &["-joinToken", token]);
        let spire = Self { programs: programs.to_owned(), dir, _server: server, agent };
        until_healthy(programs, "spire-agent", spire.agent_socket().to_str().unwrap()).await;
        spire
    }

    /// The Workload API.
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
        self.agent.id().expect("the agent runs")
    }

    /// Registers `count` identities for whoever has `selector`, under the one agent.
    ///
    /// # Panics
    ///
    /// If the server refuses.
    pub async fn register(&self, selector: &str, name: &str, count: usize) {
        let server = self.programs.join("spire-server");
        let socket = self.dir.path().join("server.sock").display().to_string();
        let list = ["agent", "list", "-output", "json", "-socketPath", &socket];
        let agents: Value =
            serde_json::from_str(&run(&server, &list).await).expect("agents in JSON");
        let path = agents.pointer("/agents/0/id/path").and_then(Value::as_str).expect("an agent");
        let parent = format!("spiffe://example.org{path}");
        let file = self.dir.path().join("entries.json");
        fs::write(&file, entries::file(&parent, selector, name, count)).unwrap();
        let file = file.display().to_string();
        run(&server, &["entry", "create", "-data", &file, "-socketPath", &socket]).await;
    }
}

fn server_conf(dir: &Path, port: u16) -> String {
    let dir = dir.display();
    format!(
        r#"server {{
    bind_address = "127.0.0.1"
    bind_port = "{port}"
    socket_path = "{dir}/server.sock"
    trust_domain = "example.org"
    data_dir = "{dir}/server"
    log_level = "WARN"
    ratelimit {{ attestation = false signing = false }}
}}
plugins {{
    DataStore "sql" {{ plugin_data {{ database_type = "sqlite3" connection_string = "{dir}/server.db" }} }}
    NodeAttestor "join_token" {{ plugin_data {{}} }}
    KeyManager "memory" {{ plugin_data {{}} }}
}}
"#
    )
}

fn agent_conf(dir: &Path, port: u16) -> String {
    let dir = dir.display();
    format!(
        r#"agent {{
    data_dir = "{dir}/agent"
    server_address = "127.0.0.1"
    server_port = "{port}"
    socket_path = "{dir}/agent.sock"
    trust_domain = "example.org"
    insecure_bootstrap = true
    log_level = "ERROR"
}}
plugins {{
    NodeAttestor "join_token" {{ plugin_data {{}} }}
    KeyManager "memory" {{ plugin_data {{}} }}
    WorkloadAttestor "unix" {{ plugin_data {{}} }}
}}
"#
    )
}

fn spawn(programs: &Path, program: &str, dir: &Path, config: &str, more: &[&str]) -> Child {
    let config = dir.join(config);
    let mut command = Command::new(programs.join(program));
    command.args(["run", "-config"]).arg(config).args(more);
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    command.spawn().expect("SPIRE starts")
}

async fn until_healthy(programs: &Path, program: &str, socket: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut command = Command::new(programs.join(program));
        command.args(["healthcheck", "-socketPath", socket]);
        let output = command.output().await.expect("SPIRE's command starts");
        if output.status.success() {
            return;
        }
        assert!(Instant::now() < deadline, "{program} does not become healthy");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn run(program: &Path, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().await.expect("SPIRE's command starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}
