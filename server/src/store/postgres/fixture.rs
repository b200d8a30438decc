//! A real PostgreSQL in a temporary directory.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::PostgresStore;

/// A server of a database. Nobody else uses it, and it ends with the test.
pub(crate) struct Postgres {
    dir: TempDir,
    server: Child,
    port: u16,
}

/// The port whose number is in the name of its socket, too.
const PORT: u16 = 5432;

impl Postgres {
    /// Starts one with nothing in it.
    pub(crate) async fn start() -> Self {
        Self::begin("", PORT).await
    }

    /// Starts one with nothing in it that listens at `port` of 127.0.0.1, too; without TLS.
    pub(crate) async fn at(port: u16) -> Self {
        Self::begin("127.0.0.1", port).await
    }

    async fn begin(addresses: &str, port: u16) -> Self {
        let dir = directory();
        run("initdb", &["-N", "-U", "postgres", "-A", "trust", "-D", &data(&dir)]);
        let postgres = Self::run(dir, addresses, port);
        postgres.answers().await;
        postgres
    }

    /// From now on it shows `certificate` to those who connect; both in PEM.
    pub(crate) async fn shows(&self, certificate: &str, key: &str) {
        let number = std::fs::read_dir(self.dir.path()).unwrap().count();
        let name = |ending: &str| {
            let path = self.dir.path().join(format!("{number}.{ending}"));
            path.to_str().unwrap().to_owned()
        };
        let files = [(name("crt"), certificate), (name("key"), key)];
        for (path, text) in &files {
            std::fs::write(path, text).unwrap();
            std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
            owned_by_postgres(Path::new(path));
        }
        let [(certificate, _), (key, _)] = files;
        self.sql(&format!("ALTER SYSTEM SET ssl_cert_file = '{certificate}'"));
        self.sql(&format!("ALTER SYSTEM SET ssl_key_file = '{key}'"));
        self.sql("ALTER SYSTEM SET ssl = on");
        self.sql("SELECT pg_reload_conf()");
        for _attempt in 0..200 {
            if self.sql("SELECT current_setting('ssl') || current_setting('ssl_cert_file')")
                == format!("on{certificate}")
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{}", self.log());
    }

    /// Starts a standby of this one, which takes over when it is promoted.
    pub(crate) async fn standby(&self, name: &str) -> Self {
        let dir = directory();
        let source =
            format!("host={} user=postgres application_name={name}", self.socket().display());
        run("pg_basebackup", &["-R", "-N", "-c", "fast", "-d", &source, "-D", &data(&dir)]);
        let standby = Self::run(dir, "", PORT);
        standby.answers().await;
        standby
    }

    /// Every commit waits until `standby` has it.
    pub(crate) async fn wait_for(&self, standby: &str) {
        self.sql(&format!("ALTER SYSTEM SET synchronous_standby_names = '{standby}'"));
        self.sql("SELECT pg_reload_conf()");
        for _attempt in 0..200 {
            if self.sql("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1"
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no standby");
    }

    fn run(dir: TempDir, addresses: &str, port: u16) -> Self {
        let conf = Path::new(&data(&dir)).join("postgresql.auto.conf");
        let base = format!(
            "listen_addresses = '{addresses}'\nport = {port}\n\
             unix_socket_directories = '{}'\nfsync = off\n\
             hot_standby = on\nshared_buffers = 32MB\nmax_connections = 60\n",
            dir.path().display()
        );
        let before = std::fs::read_to_string(&conf).unwrap();
        std::fs::write(&conf, before + &base).unwrap();
        let mut command = as_postgres("postgres", &["-D", &data(&dir)]);
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let server = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Self { dir, server, port }
    }

    async fn answers(&self) {
        for _attempt in 0..200 {
            if self.try_sql("SELECT 1").is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{}", self.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    fn socket(&self) -> &Path {
        self.dir.path()
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("postgresql:///postgres?user=postgres&host={}", self.socket().display())
    }

    /// Where it or `other` is, whichever takes writes.
    pub(crate) fn url_with(&self, other: &Self) -> String {
        format!("{}&host={}", self.url(), other.socket().display())
    }

    /// A store in it.
    pub(crate) async fn store(&self) -> PostgresStore {
        PostgresStore::open(&self.url(), None).await.unwrap()
    }

    /// What it answers.
    pub(crate) fn sql(&self, statement: &str) -> String {
        self.try_sql(statement).unwrap()
    }

    fn try_sql(&self, statement: &str) -> Option<String> {
        let socket = self.socket().to_str().unwrap();
        let port = self.port.to_string();
        let at = ["-U", "postgres", "-h", socket, "-p", &port];
        let mut psql = as_postgres("psql", &[&at[..], &["-XAtc", statement]].concat());
        let said = psql.stderr(Stdio::null()).output().unwrap();
        said.status.success().then(|| String::from_utf8(said.stdout).unwrap().trim().to_owned())
    }

    /// It is gone, as if the machine were.
    pub(crate) fn kill(&mut self) {
        // Its children notice by themselves that it is gone, but not at once.
        let pid = self.server.id().to_string();
        drop(Command::new("pkill").args(["-KILL", "-P", &pid]).status());
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    /// It takes over.
    pub(crate) fn promote(&self) {
        run("pg_ctl", &["promote", "-w", "-D", &data(&self.dir)]);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.server.try_wait().is_ok_and(|ended| ended.is_none()) {
            run("pg_ctl", &["stop", "-m", "immediate", "-D", &data(&self.dir)]);
            drop(self.server.wait());
        }
    }
}

fn data(dir: &TempDir) -> String {
    dir.path().join("data").to_str().unwrap().to_owned()
}

fn directory() -> TempDir {
    let dir = tempfile::Builder::new().prefix("pg").tempdir_in("/tmp").unwrap();
    owned_by_postgres(dir.path());
    dir
}

fn owned_by_postgres(path: &Path) {
    if is_root() {
        assert!(Command::new("chown").arg("postgres").arg(path).status().unwrap().success());
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn run(program: &str, arguments: &[&str]) {
    let done = as_postgres(program, arguments).output().unwrap();
    assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
}

/// PostgreSQL does not run as root.
fn as_postgres(program: &str, arguments: &[&str]) -> Command {
    let program = binaries().join(program);
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.args(arguments).current_dir("/tmp");
    command
}

/// The programs of the newest PostgreSQL here.
fn binaries() -> PathBuf {
    let all = std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is not installed");
    let newest = all.map(|version| version.unwrap().path()).max().expect("PostgreSQL");
    newest.join("bin")
}
