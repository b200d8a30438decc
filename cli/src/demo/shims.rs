//! Programs that know nothing of TLS, with a shim beside each; a pair that the policies keep apart; and
//! a quarantine, while they talk.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use claviger_proto::claviger::admin::v1::SetStandingRequest;
use claviger_proto::claviger::admin::v1::set_standing_request::Change;
use serde_json::Value;
use tokio::process::Child;
use tokio::time::{Instant, sleep};

use super::cast::id;
use super::mutual::{greeting, listen};
use super::once::GROUP;
use super::orders::{Order, Report};
use super::program::Program;
use super::stage::Stage;
use crate::admin::Server;
use crate::failure::Failure;
use crate::files;

/// Who may not reach whom, of those that `claviger dev` lets reach each other.
pub(super) const POLICY: &str = include_str!("policy.cedar");

/// How soon a shim records a connection that has ended.
const RECORDED: Duration = Duration::from_secs(5);

/// A shim beside each of two programs.
#[derive(Debug)]
pub(super) struct Shims {
    frontend: Shim,
    backend: Shim,
}

/// The shim beside one program, which it ends with.
#[derive(Debug)]
struct Shim {
    /// Where the program gets out to the other one.
    door: SocketAddr,
    /// Where connections are recorded.
    records: PathBuf,
    _process: Child,
}

/// Where the shim of a program listens, and the program itself.
#[derive(Clone, Copy, Debug)]
struct Places {
    door: SocketAddr,
    port: SocketAddr,
    program: SocketAddr,
}

/// Starts a shim beside each program. It runs the program's own binary, and so is who the program is.
pub(super) async fn start(
    stage: &mut Stage,
    folder: &Path,
    frontend: &mut Program,
    backend: &mut Program,
) -> Result<Shims, Failure> {
    let act = async {
        let (one, other) = (places(frontend).await?, places(backend).await?);
        let shims = Shims {
            frontend: Shim::start(folder, frontend, one, backend.name(), other)?,
            backend: Shim::start(folder, backend, other, frontend.name(), one)?,
        };
        Ok((shims, "a shim started beside each of the two: plain in front, TLS 1.3 behind".into()))
    };
    stage.step("shims are started", act).await
}

async fn places(program: &mut Program) -> Result<Places, Failure> {
    Ok(Places { door: free_address()?, port: free_address()?, program: listen(program).await? })
}

/// An address that nobody listens at; its port may be taken by somebody else before we are there.
fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

impl Shim {
    fn start(
        folder: &Path,
        program: &Program,
        own: Places,
        peer: &str,
        others: Places,
    ) -> Result<Self, Failure> {
        let name = program.name();
        let records = folder.join(format!("{name}-connections.jsonl"));
        let config = config(name, own, &id(peer)?.to_string(), others, &records);
        let path = folder.join(format!("{name}-shim.toml"));
        files::replace(&path, config.as_bytes(), files::SECRET)?;
        let path = path.display().to_string();
        let process = program.beside(&["shim", "run", "--config", &path])?;
        Ok(Self { door: own.door, records, _process: process })
    }

    /// What was recorded of the last connection that came to anything.
    async fn last_record(&self) -> Result<Value, Failure> {
        let patience = Instant::now() + RECORDED;
        loop {
            // It is there once the first connection has ended.
            let text = std::fs::read_to_string(&self.records).unwrap_or_default();
            let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            let records: Result<Vec<Value>, _> = whole.map(serde_json::from_str).collect();
            let records = records.map_err(|error| Failure::because(&error))?;
            // Whoever was refused has a record, too.
            if let Some(last) = records.into_iter().rfind(|record| record.get("refused").is_none())
            {
                return Ok(last);
            }
            if patience < Instant::now() {
                return Err(Failure::failed("a shim did not record a connection that has ended"));
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A way out to `peer`, and a way in.
fn config(name: &str, own: Places, peer: &str, others: Places, records: &Path) -> String {
    let Places { door, port, program } = own;
    let to = others.port;
    let records = records.display();
    format!(
        r#"
[[outbound]]
name = "out"
listen = "{door}"
to = "{to}"
peer = "{peer}"
mode = "psk"
purpose = "orders"

[[inbound]]
name = "{name}"
listen = "{port}"
to = "{program}"
mode = "psk"
purpose = "orders"

[access]
file = "{records}"

[log]
level = "error"
"#
    )
}

impl Shims {
    /// The two talk in the clear, each with its own machine, and stay connected.
    pub(super) async fn meet(
        &self,
        stage: &mut Stage,
        frontend: &mut Program,
        backend: &mut Program,
    ) -> Result<(), Failure> {
        let act = async {
            let call = Order::CallInClear(self.frontend.door);
            let (answered, called) =
                tokio::join!(backend.order(&Order::AnswerInClear), frontend.order(&call));
            heard(backend, &answered?, frontend)?;
            heard(frontend, &called?, backend)?;
            let line = "two programs without TLS talked through their shims, by a one-time key";
            Ok(((), line.into()))
        };
        stage.step("programs without TLS talk through their shims", act).await
    }

    /// The policies permit it in one direction only; and whoever is nobody gets through no door.
    pub(super) async fn keep_apart(
        &self,
        stage: &mut Stage,
        backend: &mut Program,
        stranger: &mut Program,
    ) -> Result<(), Failure> {
        let act = async {
            cut_off(backend, &Order::CallInClear(self.backend.door)).await?;
            Ok((
                (),
                "backend to frontend, which a policy forbids: its shim does not let it out".into(),
            ))
        };
        stage.step("a pair that the policies forbid is kept apart", act).await?;
        let act = async {
            cut_off(stranger, &Order::CallInClear(self.frontend.door)).await?;
            Ok(((), "the stranger at frontend's own door: not let out either".into()))
        };
        stage.step("a stranger gets through no door", act).await
    }

    /// Frontend comes into quarantine while it talks.
    pub(super) async fn quarantine(
        &self,
        stage: &mut Stage,
        server: &Server,
        frontend: &mut Program,
        backend: &mut Program,
    ) -> Result<(), Failure> {
        let act = async {
            let begun = Instant::now();
            let request = SetStandingRequest {
                spiffe_id: id(frontend.name())?.to_string(),
                change: Change::Quarantine.into(),
                risk: 0,
                reason: "the demo says so".to_owned(),
                timeout_ms: 0,
            };
            let mut control = server.control();
            server.ask("quarantine frontend", control.set_standing(request)).await?;
            let (near, far) =
                tokio::join!(frontend.order(&Order::AwaitEnd), backend.order(&Order::AwaitEnd));
            let millis = begun.elapsed().as_millis();
            silent(frontend, &near?)?;
            silent(backend, &far?)?;
            Ok((
                (),
                format!(
                    "frontend in quarantine: its open connection cut at both ends, {millis} ms"
                ),
            ))
        };
        stage.step("a quarantine cuts an open connection", act).await?;
        let act = async {
            cut_off(frontend, &Order::CallInClear(self.frontend.door)).await?;
            let [one, other] = [self.frontend.last_record(), self.backend.last_record()];
            agreed(&one.await?, &other.await?)?;
            Ok((
                (),
                "a new one refused; both shims recorded the old one, bound by TLS' exporter".into(),
            ))
        };
        stage.step("frontend is refused, and the records agree", act).await
    }
}

/// `program` heard the other one, and not itself.
fn heard(program: &Program, report: &Report, other: &Program) -> Result<(), Failure> {
    if *report == Report::Heard(greeting(other.name())) {
        return Ok(());
    }
    Err(program.unexpected(&format!("a talk with {}", other.name()), report))
}

/// `program` does not get to hear anything.
async fn cut_off(program: &mut Program, order: &Order) -> Result<(), Failure> {
    let report = program.order(order).await?;
    silent(program, &report)
}

fn silent(program: &Program, report: &Report) -> Result<(), Failure> {
    if *report == Report::HungUp(String::new()) {
        return Ok(());
    }
    Err(program.unexpected("a connection that ends without a word", report))
}

/// Both ends recorded one and the same connection, and how it was protected; and who was first to end
/// it, that it was denied.
fn agreed(one: &Value, other: &Value) -> Result<(), Failure> {
    let (client, server) = (id("frontend")?.to_string(), id("backend")?.to_string());
    let due = [
        ("mode", "psk"),
        ("client", client.as_str()),
        ("server", server.as_str()),
        ("group", GROUP),
    ];
    let text =
        |record: &Value, field: &str| record.get(field).and_then(Value::as_str).map(str::to_owned);
    for record in [one, other] {
        for (field, value) in due {
            if text(record, field).as_deref() != Some(value) {
                return Err(Failure::failed(format_args!(
                    "a shim did not record {field} {value}: {record}"
                )));
            }
        }
    }
    if ![one, other].iter().any(|record| text(record, "ended").as_deref() == Some("denied")) {
        return Err(Failure::failed("no shim recorded that the connection was denied"));
    }
    match [one, other].map(|record| text(record, "exporter")) {
        [Some(one), Some(other)] if one == other => Ok(()),
        _ => Err(Failure::failed("the shims' records are not of one connection")),
    }
}
