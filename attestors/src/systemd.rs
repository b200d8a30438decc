//! The unit of a local process, as systemd tells it.
//!
//! systemd is asked over the system bus, each time: it knows the unit by the control groups that it
//! made itself, and a unit can be changed while it runs.

mod config;

use std::os::fd::OwnedFd;
use std::time::Duration;

use async_trait::async_trait;
use claviger_core::selector::Selectors;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::sync::Mutex;
use zbus::connection::Builder;
use zbus::zvariant::{Fd, OwnedObjectPath, OwnedValue};
use zbus::{Connection, Error as BusError};

use crate::workload::{FactsError, Process, WorkloadAttestor, fact};

pub use config::Config;

/// The kind of these facts.
pub const KIND: &str = "systemd";

/// How long one question may take.
const DEADLINE: Duration = Duration::from_secs(5);

const SYSTEMD: &str = "org.freedesktop.systemd1";

/// Finds out about units.
#[derive(Debug)]
pub struct Attestor {
    address: String,
    bus: Mutex<Option<Connection>>,
}

/// What systemd answers to the question for a unit by its process: the unit, its id, and the id of
/// this run of it.
type ByPidfd = (OwnedObjectPath, String, Vec<u8>);

impl Attestor {
    /// An attestor that has asked nothing yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let address = format!("unix:path={}", config.bus_socket_path.display());
        Self { address, bus: Mutex::default() }
    }

    async fn bus(&self) -> Result<Connection, BusError> {
        let mut bus = self.bus.lock().await;
        if let Some(bus) = &*bus {
            return Ok(bus.clone());
        }
        let connection =
            Builder::address(self.address.as_str())?.method_timeout(DEADLINE).build().await?;
        *bus = Some(connection.clone());
        Ok(connection)
    }

    async fn ask(&self, process: &Process) -> Result<Selectors, BusError> {
        let bus = self.bus().await?;
        let Some(unit) = unit_of(&bus, process).await? else { return Ok(Selectors::new()) };
        let mut facts = Selectors::new();
        for (name, property) in [("id", "Id"), ("fragment_path", "FragmentPath")] {
            let value = text(&bus, &unit, property).await?;
            // A unit that somebody made at run time has no file.
            if !value.is_empty() {
                facts.extend(fact(KIND, name, value));
            }
        }
        Ok(facts)
    }
}

/// The unit that a process belongs to, if to one.
async fn unit_of(bus: &Connection, process: &Process) -> Result<Option<OwnedObjectPath>, BusError> {
    let by_pidfd = match pidfd(process) {
        Some(pidfd) => manager::<ByPidfd>(bus, "GetUnitByPIDFD", &(Fd::from(pidfd),)).await,
        None => return Ok(None),
    };
    match by_pidfd {
        Ok(unit) => Ok(unit.map(|(unit, ..)| unit)),
        // systemd before 253. Whoever asked makes sure that the number was still the process's.
        Err(BusError::MethodError(name, ..))
            if name == "org.freedesktop.DBus.Error.UnknownMethod" =>
        {
            manager(bus, "GetUnitByPID", &(process.caller().pid,)).await
        }
        Err(error) => Err(error),
    }
}

/// A descriptor of the process, if it is still there.
fn pidfd(process: &Process) -> Option<OwnedFd> {
    let pid = i32::try_from(process.caller().pid).ok().and_then(Pid::from_raw)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    process.is_there().then_some(pidfd)
}

/// What the manager answers; nothing if it knows no unit.
async fn manager<A>(
    bus: &Connection,
    method: &str,
    question: &(impl serde::Serialize + zbus::zvariant::DynamicType),
) -> Result<Option<A>, BusError>
where
    A: serde::de::DeserializeOwned + zbus::zvariant::Type,
{
    const PATH: &str = "/org/freedesktop/systemd1";
    const MANAGER: &str = "org.freedesktop.systemd1.Manager";
    const NO_UNIT: &str = "org.freedesktop.systemd1.NoUnitForPID";

    match bus.call_method(Some(SYSTEMD), PATH, Some(MANAGER), method, question).await {
        Ok(answer) => Ok(Some(answer.body().deserialize::<A>()?)),
        Err(BusError::MethodError(name, ..)) if name == NO_UNIT => Ok(None),
        Err(error) => Err(error),
    }
}

async fn text(
    bus: &Connection,
    unit: &OwnedObjectPath,
    property: &str,
) -> Result<String, BusError> {
    const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
    const UNIT: &str = "org.freedesktop.systemd1.Unit";

    let question = &(UNIT, property);
    let answer = bus.call_method(Some(SYSTEMD), unit, Some(PROPERTIES), "Get", question).await?;
    let value: OwnedValue = answer.body().deserialize()?;
    Ok(String::try_from(value)?)
}

#[async_trait]
impl WorkloadAttestor for Attestor {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn facts(&self, process: &Process) -> Result<Selectors, FactsError> {
        match self.ask(process).await {
            Ok(facts) if process.is_there() => Ok(facts),
            Ok(_) => Err(FactsError::unknown("the process ended while systemd was asked")),
            Err(error) => {
                // The bus may have been started anew.
                drop(self.bus.lock().await.take());
                let what = format!("systemd does not answer on the system bus, {}", self.address);
                Err(FactsError::unavailable(what, error))
            }
        }
    }
}

#[cfg(test)]
mod tests;
