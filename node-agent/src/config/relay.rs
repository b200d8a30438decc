//! How enclaves on this machine reach the server.

use std::time::Duration;

use claviger_runtime::place::LocalDoor;
use claviger_runtime::settings::Section;

use crate::relay::{Limits, Settings};

/// The table `[relay]`; no relay without it.
pub(super) fn read(root: &mut Section<'_>) -> Option<Settings> {
    root.has("relay").then(|| root.table("relay", settings)).flatten()
}

fn settings(section: &mut Section<'_>) -> Option<Settings> {
    let listen = section.required::<LocalDoor>(
        "listen",
        "say where enclaves connect: `vsock:8081`, or `unix:/path`",
    );
    let default = Limits::default();
    let mut at_least_one = |key: &'static str, default: usize| {
        let limit = section.value::<usize>(key).unwrap_or(default);
        if limit == 0 {
            section.problem(key, &limit, "allow at least one");
        }
        limit
    };
    let connections = at_least_one("connections", default.connections);
    let connections_per_peer =
        at_least_one("connections-per-peer", default.connections_per_peer.min(connections));
    let idle = section.value("idle-seconds").map_or(default.idle, Duration::from_secs);
    if idle < SHORTEST_IDLE {
        let advice = format!("allow at least {} s", SHORTEST_IDLE.as_secs());
        section.problem("idle-seconds", &idle.as_secs(), advice);
    }
    let limits = Limits { connections, connections_per_peer, idle };
    Some(Settings { listen: listen?, limits })
}

/// Agents ping their server every 20 s, and one ping may be lost.
const SHORTEST_IDLE: Duration = Duration::from_secs(45);
