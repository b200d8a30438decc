//! Against a fake systemd at the other end of a bus of two. The real one is in `tests/interop`.

use std::sync::Arc;

use tokio::net::UnixStream;
use zbus::object_server::Interface;
use zbus::zvariant::{ObjectPath, OwnedFd as BusFd};
use zbus::{Guid, interface};

use super::*;
use crate::workload::Caller;

const UNIT: &str = "/org/freedesktop/systemd1/unit/billing_2eservice";

/// A fake manager, as of version 253.
struct Manager {
    knows_the_unit: bool,
}

/// One from before.
struct OldManager {
    knows_the_unit: bool,
}

#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.freedesktop.systemd1")]
enum Refusal {
    #[zbus(error)]
    ZBus(BusError),
    #[zbus(name = "NoUnitForPID")]
    NoUnit(String),
}

fn unit(is_known: bool) -> Result<ObjectPath<'static>, Refusal> {
    let unit = ObjectPath::from_static_str_unchecked(UNIT);
    if is_known { Ok(unit) } else { Err(Refusal::NoUnit("none".to_owned())) }
}

#[interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    #[zbus(name = "GetUnitByPIDFD")]
    fn by_pidfd(&self, _pidfd: BusFd) -> Result<(ObjectPath<'static>, String, Vec<u8>), Refusal> {
        Ok((unit(self.knows_the_unit)?, "billing.service".to_owned(), vec![7; 16]))
    }
}

#[interface(name = "org.freedesktop.systemd1.Manager")]
impl OldManager {
    #[zbus(name = "GetUnitByPID")]
    fn by_pid(&self, pid: u32) -> Result<ObjectPath<'static>, Refusal> {
        assert_eq!(pid, std::process::id());
        unit(self.knows_the_unit)
    }
}

/// A fake unit.
struct Unit {
    id: &'static str,
    fragment: &'static str,
}

#[interface(name = "org.freedesktop.systemd1.Unit")]
impl Unit {
    #[zbus(property)]
    fn id(&self) -> String {
        self.id.to_owned()
    }

    #[zbus(property)]
    fn fragment_path(&self) -> String {
        self.fragment.to_owned()
    }
}

/// An attestor, and a systemd for as long as the connection is kept.
async fn world(manager: impl Interface, fragment: &'static str) -> (Attestor, Connection) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let systemd = Builder::unix_stream(theirs)
        .server(Guid::generate())
        .unwrap()
        .p2p()
        .serve_at("/org/freedesktop/systemd1", manager)
        .unwrap()
        .serve_at(UNIT, Unit { id: "billing.service", fragment })
        .unwrap();
    let client = Builder::unix_stream(ours).p2p();
    let (systemd, client) = tokio::join!(systemd.build(), client.build());
    let attestor =
        Attestor { address: "unix:path=/x".to_owned(), bus: Mutex::new(Some(client.unwrap())) };
    (attestor, systemd.unwrap())
}

fn ourselves() -> Process {
    let caller = Caller { pid: std::process::id(), uid: 0, gid: 0, since: None };
    Process::open(caller, &Arc::default()).unwrap()
}

async fn facts(attestor: &Attestor) -> Vec<String> {
    let facts = attestor.facts(&ourselves()).await.unwrap();
    facts.iter().map(ToString::to_string).collect()
}

const FILE: &str = "/lib/systemd/system/billing.service";

#[tokio::test]
async fn a_unit_has_an_id_and_a_file() {
    let (attestor, _systemd) = world(Manager { knows_the_unit: true }, FILE).await;
    let (old, _old_systemd) = world(OldManager { knows_the_unit: true }, FILE).await;
    for attestor in [attestor, old] {
        let want =
            [format!("systemd:fragment_path:{FILE}"), "systemd:id:billing.service".to_owned()];
        assert_eq!(facts(&attestor).await, want);
    }
}

#[tokio::test]
async fn a_transient_unit_has_no_file() {
    let (attestor, _systemd) = world(Manager { knows_the_unit: true }, "").await;
    assert_eq!(facts(&attestor).await, ["systemd:id:billing.service"]);
}

#[tokio::test]
async fn a_process_of_no_unit_has_no_facts() {
    let (attestor, _systemd) = world(Manager { knows_the_unit: false }, "").await;
    let (old, _old_systemd) = world(OldManager { knows_the_unit: false }, "").await;
    for attestor in [attestor, old] {
        assert_eq!(facts(&attestor).await, [""; 0]);
    }
}

#[tokio::test]
async fn a_process_that_ended_meanwhile_has_no_facts() {
    let (attestor, _systemd) = world(Manager { knows_the_unit: true }, "").await;
    let mut child =
        tokio::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
    let caller = Caller { pid: child.id().unwrap(), uid: 0, gid: 0, since: None };
    let process = Process::open(caller, &Arc::default()).unwrap();
    assert!(pidfd(&process).is_some());
    child.kill().await.unwrap();
    assert!(pidfd(&process).is_none());
    let error = attestor.facts(&process).await.unwrap_err();
    assert!(matches!(error, FactsError::Unknown { .. }), "{error}");
}

#[tokio::test]
async fn a_bus_that_is_away_is_said_so_and_tried_again() {
    let (attestor, systemd) = world(Manager { knows_the_unit: true }, "").await;
    systemd.close().await.unwrap();
    let error = attestor.facts(&ourselves()).await.unwrap_err();
    assert!(matches!(error, FactsError::Unavailable { .. }), "{error}");
    assert!(attestor.bus.lock().await.is_none());
    let error = attestor.facts(&ourselves()).await.unwrap_err().to_string();
    assert!(error.contains("unix:path=/x"), "{error}");
}
