//! `claviger exec`: a program with its routes around it.

use std::process::{Output, Stdio};
use std::time::Duration;

use claviger_shim::{BrokerClient, PskAcceptor};
use claviger_tests::process::{Deployment, PATIENCE, my_uid};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::claviger;

/// A machine on which the program `claviger` is `web` and this one is `db`, to which there is a route.
struct World {
    deployment: Deployment,
    db: TcpListener,
    route: String,
}

impl World {
    async fn start() -> Self {
        let deployment = Deployment::start(&claviger()).await;
        let us = std::env::current_exe().unwrap();
        let programs = [("web", env!("CARGO_BIN_EXE_claviger").into()), ("db", us)];
        for (name, path) in programs {
            let (id, path) = (format!("spiffe://example.org/{name}"), path.canonicalize().unwrap());
            let path = format!("unix:path:{}", path.display());
            let entry = ["entry", "create", "--spiffe-id", &id, "--selector", &path, "--wait"];
            deployment.admin(&[&entry[..], &["--selector", &my_uid()]].concat()).await;
        }
        let db = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let route = format!(
            "name=db,listen=127.0.0.1:0,to={},peer=spiffe://example.org/db,mode=psk,purpose=query",
            db.local_addr().unwrap()
        );
        Self { deployment, db, route }
    }

    fn exec(&self, program: &[&str]) -> Command {
        let socket = self.deployment.agent_socket().display().to_string();
        let ours = ["exec", "--socket-path", &socket, "--route", &self.route, "--"];
        let mut command = claviger().command(ours.iter().chain(program));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The same with the usual signals, which whoever runs this test may have it ignore: `nohup`, or a shell that
    /// has it in the background.
    fn exec_by_usual_signals(&self, program: &[&str]) -> Command {
        let exec = self.exec(program);
        let mut command = Command::new("env");
        command.arg("--default-signal=HUP,INT,TERM");
        command.arg(exec.as_std().get_program()).args(exec.as_std().get_args());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    async fn run(&self, program: &[&str]) -> Output {
        let output = self.exec(program).output();
        timeout(PATIENCE, output).await.unwrap().unwrap()
    }

    /// Answers one client of `db`; what it said, and as whom.
    async fn answer(&self, answer: &str) -> (String, String) {
        let (stream, _) = timeout(PATIENCE, self.db.accept()).await.unwrap().unwrap();
        let broker = BrokerClient::new(self.deployment.agent_socket()).unwrap();
        let mut stream = PskAcceptor::new(broker).unwrap().accept(stream).await.unwrap();
        let mut line = String::new();
        BufReader::new(&mut stream).read_line(&mut line).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        (line, stream.ends().client.to_string())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Says `hello` to the database, prints what that says, and ends with 7.
const CLIENT: &str = "exec 3<>/dev/tcp/${CLAVIGER_ROUTE_DB/:/\\/}; echo hello >&3; cat <&3; exit 7";

#[tokio::test]
async fn a_program_and_what_comes_from_it_use_the_route_and_nobody_else() {
    let world = World::start().await;
    let (done, heard) = tokio::join!(world.run(&["bash", "-c", CLIENT]), world.answer("welcome\n"));
    assert_eq!((done.status.code(), text(&done.stdout).as_str()), (Some(7), "welcome\n"));
    assert_eq!(heard, ("hello\n".to_owned(), "spiffe://example.org/web".to_owned()));
    assert!(done.stderr.is_empty(), "{}", text(&done.stderr));

    // One that has left its parents behind, while the program waits for it.
    let dir = tempfile::tempdir().unwrap();
    let (script, out) = (dir.path().join("client"), dir.path().join("out"));
    std::fs::write(&script, CLIENT).unwrap();
    let orphan = format!(
        "(setsid bash {} > {out} &) ; until grep -q again {out} 2> /dev/null; do sleep 0.05; done",
        script.display(),
        out = out.display()
    );
    let orphan = ["bash", "-c", &orphan];
    let (done, _) = tokio::join!(world.run(&orphan), world.answer("again\n"));
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));

    // Somebody else is cut off, and the database never hears of it.
    let mut waits = world.exec(&["sh", "-c", "echo $CLAVIGER_ROUTE_DB; read -r _; exit 3"]);
    let mut waits = waits.stdin(Stdio::piped()).spawn().unwrap();
    let mut address = String::new();
    let mut out = BufReader::new(waits.stdout.take().unwrap());
    timeout(PATIENCE, out.read_line(&mut address)).await.unwrap().unwrap();
    let mut stranger = TcpStream::connect(address.trim()).await.unwrap();
    let mut heard = Vec::new();
    let cut_off = timeout(PATIENCE, stranger.read_to_end(&mut heard)).await.unwrap();
    assert!(cut_off.is_err() && heard.is_empty(), "{heard:?}");
    drop(waits.stdin.take());
    let told = timeout(PATIENCE, waits.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(told.status.code(), Some(3), "its standard input is its own");
    assert!(text(&told.stderr).contains("does not come from"), "{}", text(&told.stderr));
    let nobody = timeout(Duration::from_millis(100), world.db.accept()).await;
    assert!(nobody.is_err(), "the database was connected to");
}

#[tokio::test]
async fn a_program_ends_as_it_would_without_routes() {
    let world = World::start().await;
    for (program, code) in [
        (&["true"][..], 0),
        (&["sh", "-c", "exit 255"], 255),
        (&["sh", "-c", "kill -KILL $$"], 137),
        (&["/nonexistent"], 127),
        (&["/"], 126),
    ] {
        let done = world.run(program).await;
        assert_eq!(done.status.code(), Some(code), "{program:?}: {}", text(&done.stderr));
    }
    let mut env = world.exec(&["env"]);
    let env = env.env_clear().env("A", "b").env("PATH", "/usr/bin:/bin").output().await.unwrap();
    let mut variables: Vec<_> = text(&env.stdout).lines().map(str::to_owned).collect();
    variables.sort_unstable();
    let [a, route, path] = variables.try_into().unwrap();
    assert!(a == "A=b" && path == "PATH=/usr/bin:/bin", "{a} {path}");
    assert!(route.starts_with("CLAVIGER_ROUTE_DB=127.0.0.1:"), "{route}");

    let trap = "trap 'echo told; exit 5' HUP TERM; echo ready; while :; do sleep 0.02; done";
    for (signal, program, code, said) in [
        ("TERM", &["bash", "-c", trap][..], 5, "told\n"),
        ("HUP", &["bash", "-c", trap], 5, "told\n"),
        // No shell, which could lose a signal while it makes way for another program.
        ("INT", &["cat"], 130, ""),
        ("TERM", &["cat"], 143, ""),
        ("TERM", &["bash", "-c", "trap '' TERM; echo ready; sleep 0.5; exit 6"], 6, ""),
    ] {
        let mut child = world.exec_by_usual_signals(program).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"ready\n").await.unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        timeout(PATIENCE, out.read_line(&mut line)).await.unwrap().unwrap();
        send(signal, &child).await;
        let mut rest = String::new();
        timeout(PATIENCE, out.read_to_string(&mut rest)).await.unwrap().unwrap();
        let status = timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
        assert_eq!((status.code(), rest.as_str()), (Some(code), said), "{signal}: {program:?}");
        drop(stdin);
    }
    // What is ignored from the beginning is left to the program to mind.
    let ignoring = "trap '' HUP; exec \"$@\"";
    let exec = world.exec(&["sh", "-c", "echo ready; sleep 0.5; exit 4"]);
    let exec = exec.as_std();
    let mut nohup = Command::new("bash");
    nohup.args(["-c", ignoring, "-"]).arg(exec.get_program()).args(exec.get_args());
    let mut child = nohup.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    timeout(PATIENCE, out.read_line(&mut String::new())).await.unwrap().unwrap();
    send("HUP", &child).await;
    assert_eq!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().code(), Some(4));
}

async fn send(signal: &str, to: &Child) {
    let pid = to.id().unwrap().to_string();
    let sent = Command::new("kill").args([format!("-{signal}"), pid]).status().await.unwrap();
    assert!(sent.success());
}

#[tokio::test]
async fn nothing_is_run_without_its_routes() {
    let dir = tempfile::tempdir().unwrap();
    let (ran, socket) = (dir.path().join("ran"), dir.path().join("agent.sock"));
    let (ran, socket) = (ran.display().to_string(), socket.display().to_string());
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let route = |listen: &str| {
        format!("name=db,listen={listen},to=a:1,peer=spiffe://a.org/a,mode=psk,purpose=p")
    };
    let taken = route(&taken.local_addr().unwrap().to_string());
    for (route, why) in [
        (route("127.0.0.1:0"), "not open after 1 s"),
        (taken, "cannot listen"),
        (route("127.0.0.1:0,mode=psk"), "twice"),
        (route("somewhere"), "somewhere"),
    ] {
        let args = ["exec", "--wait", "1", "--socket-path", &socket, "--route", &route, "--"];
        let done = claviger().run(args.iter().chain(&["touch", ran.as_str()])).await;
        let error = text(&done.stderr);
        assert_eq!(done.status.code(), Some(125), "{error}");
        assert!(error.contains(why), "{error}");
    }
    assert!(!std::path::Path::new(&ran).exists());
}
