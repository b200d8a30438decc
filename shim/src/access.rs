//! Who was connected to whom: one record for each connection, when it has ended. And who was refused, as far
//! as strangers cannot fill the disk with it.
//!
//! Both ends write one. The two of one connection are told by `exporter`, a value that only its two
//! ends can compute (RFC 8446 §7.5) and that says nothing about the keys.

mod file;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use claviger_core::time::UnixTime;
use claviger_runtime::tasks::Tasks;
use humantime_serde::re::humantime::format_rfc3339_seconds;
use serde::Serialize;
use tokio::time::Instant;
use tracing::{debug, info};

use crate::callers::Caller;
use crate::enforcer::Denied;
use crate::relay::{Ended, Moved};
use crate::route::{Inbound, Outbound};
use crate::tunnel::{Ends, Tunnel};
pub(crate) use file::Queue;

/// What both ends of a connection export. RFC 5705 §4 keeps labels that begin like this for those who
/// have registered none.
const LABEL: &[u8] = b"EXPERIMENTAL-claviger-access";

/// Where records go. Clones write to the same place.
#[derive(Clone, Debug)]
pub(crate) enum Access {
    /// To the log.
    Log,
    /// To a file.
    File(Queue),
}

impl Access {
    /// Begins to write records to the file at `path`, or to the log.
    pub(crate) fn open(path: Option<PathBuf>, tasks: &Tasks) -> Self {
        path.map_or(Self::Log, |path| Self::File(Queue::start(path, tasks)))
    }

    /// Writes `record`, without waiting.
    pub(crate) fn write(&self, record: &Record) {
        match self {
            Self::Log => record.log(),
            Self::File(queue) => queue.push(record),
        }
    }

    /// Writes that somebody was `turned` away, without waiting. The log has said that already.
    pub(crate) fn write_turned(&self, turned: &Turned) {
        match self {
            Self::Log => {}
            Self::File(queue) => queue.push(turned),
        }
    }
}

/// What is known of a connection while it lasts.
#[derive(Debug)]
pub(crate) struct Opened {
    begun: Instant,
    record: Record,
}

impl Opened {
    /// A connection of `route` by `caller` to `remote`.
    pub(crate) fn outbound(route: &Outbound, caller: Caller, remote: String) -> Self {
        let Outbound { name, mode, purpose, .. } = route;
        Self::new(Record {
            route: name.clone(),
            direction: "outbound",
            mode: mode.as_str(),
            caller: Some(caller.into()),
            remote,
            purpose: purpose.to_string(),
            ..Record::default()
        })
    }

    /// A connection of `route` from `remote`.
    pub(crate) fn inbound(route: &Inbound, remote: String) -> Self {
        let Inbound { name, mode, purpose, .. } = route;
        Self::new(Record {
            route: name.clone(),
            direction: "inbound",
            mode: mode.as_str(),
            remote,
            purpose: purpose.to_string(),
            ..Record::default()
        })
    }

    fn new(record: Record) -> Self {
        Self { begun: Instant::now(), record }
    }

    /// It goes through `tunnel`.
    pub(crate) fn through(&mut self, tunnel: &Tunnel) {
        let Ends { client, server, purpose, run, group, suite } = tunnel.ends();
        let mut exporter = [0; 32];
        let exported = tunnel.export(LABEL, b"", &mut exporter);
        let record = &mut self.record;
        record.client = Some(client.to_string());
        record.server = Some(server.to_string());
        record.purpose = purpose.to_string();
        record.run = run.as_ref().map(ToString::to_string);
        record.group = Some(group.clone());
        record.suite = Some(suite.clone());
        record.exporter = exported.is_ok().then(|| hex::encode(exporter));
        let Record { route, direction, remote, .. } = record;
        debug!(route, direction, remote, %client, %server, "connected");
    }

    /// It goes through no tunnel; this is what the policies say of that, if it is known who is who.
    pub(crate) fn observed(&mut self, said: Option<&Result<(), Denied>>) {
        self.record.observed = said.map(|said| match said {
            Ok(()) => "permitted".to_owned(),
            Err(denied) => format!("denied: {denied}"),
        });
    }

    /// It ended `now`.
    pub(crate) fn ended(self, ended: &Ended, moved: Moved, now: UnixTime) -> Record {
        let Moved { sent, received } = moved;
        let lasted = self.begun.elapsed().as_millis();
        let reason = match ended {
            Ended::Broken(_, error) => Some(error.to_string()),
            Ended::Denied(denied) => Some(denied.to_string()),
            Ended::Done(_) | Ended::Idle | Ended::Aged | Ended::Stopped => None,
        };
        Record {
            time: rfc3339(now),
            sent,
            received,
            duration_ms: u64::try_from(lasted).unwrap_or(u64::MAX),
            ended: ended.label(),
            reason,
            ..self.record
        }
    }
}

fn rfc3339(now: UnixTime) -> String {
    let now = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(now.as_secs()));
    format_rfc3339_seconds(now.unwrap_or(SystemTime::UNIX_EPOCH)).to_string()
}

/// Somebody who was refused, and how many others were of whom nothing is written.
#[derive(Debug, Serialize)]
pub(crate) struct Turned {
    /// When, by RFC 3339.
    time: String,
    route: String,
    direction: &'static str,
    mode: &'static str,
    /// Who came: an address, or the door that a program of this machine came to.
    remote: String,
    /// The label of the metric.
    refused: &'static str,
    /// Why, in words.
    reason: String,
    /// How many others were refused at the same door since the last record that says so.
    withheld: u64,
}

impl Turned {
    /// Somebody at `remote` was refused `now` by a route.
    pub(crate) fn away(
        (route, direction, mode): (&str, &'static str, &'static str),
        remote: String,
        (refused, reason): (&'static str, String),
        withheld: u64,
        now: UnixTime,
    ) -> Self {
        let (time, route) = (rfc3339(now), route.to_owned());
        Self { time, route, direction, mode, remote, refused, reason, withheld }
    }
}

/// One connection, from the side of the program on this machine.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Record {
    /// When it ended, by RFC 3339.
    time: String,
    route: String,
    direction: &'static str,
    mode: &'static str,
    /// The program that dialled, on the way out.
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<Program>,
    /// The other machine: whom was dialled, or who did.
    remote: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    purpose: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suite: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exporter: Option<String>,
    /// What the policies say of a connection that is only observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    observed: Option<String>,
    /// Bytes from the program on this machine.
    sent: u64,
    /// Bytes to it.
    received: u64,
    duration_ms: u64,
    /// How it ended: the label of the metric.
    ended: &'static str,
    /// Why, where that does not say it all.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// A program on this machine, as far as it is known.
#[derive(Debug, Serialize)]
struct Program {
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spiffe_id: Option<String>,
}

impl From<Caller> for Program {
    fn from(caller: Caller) -> Self {
        let Caller { pid, uid, id } = caller;
        Self { pid, uid, spiffe_id: id.map(|id| id.to_string()) }
    }
}

impl Record {
    fn log(&self) {
        let caller = self.caller.as_ref();
        info!(
            route = self.route,
            direction = self.direction,
            mode = self.mode,
            pid = caller.and_then(|caller| caller.pid),
            uid = caller.and_then(|caller| caller.uid),
            caller = caller.and_then(|caller| caller.spiffe_id.as_deref()),
            remote = self.remote,
            client = self.client,
            server = self.server,
            purpose = self.purpose,
            run = self.run,
            group = self.group,
            suite = self.suite,
            exporter = self.exporter,
            observed = self.observed,
            sent = self.sent,
            received = self.received,
            duration_ms = self.duration_ms,
            ended = self.ended,
            reason = self.reason,
            "connection"
        );
    }
}
