//! What an operator writes in `shim.toml`.
//!
//! A [`Config`] that exists is a valid one. [`Config::load`] does not stop at the first mistake: it
//! reports all of them, each with its key, its value and what to do.
//!
//! ```toml
//! socket = "/run/claviger/agent.sock"         # the agent's; SPIFFE_ENDPOINT_SOCKET by default
//! spiffe-id = "spiffe://example.org/web"      # as whom the shim acts; its first identity by default
//! profile = "modern"                          # or "nist-800-52r2", "cnsa2"
//!
//! [[outbound]]                                # a way out, as many as there are
//! name = "db"                                 # required, once
//! listen = "127.0.0.1:5432"                   # required; or "unix:/path", "socks5:127.0.0.1:1080",
//!                                             # "connect:127.0.0.1:3128"
//! to = "db.internal:8443"                     # the other shim, or a server that knows us; or "unix:/path"
//! peer = "spiffe://example.org/db"            # who has to be there
//! mode = "psk"                                # required; or "mtls", "observe"
//! purpose = "query"                           # required; what policies are asked about
//! callers = ["spiffe://example.org/web"]      # programs with one of these; the shim's own by default;
//!                                             # "anybody" is everybody who reaches the door
//! prefetch = 4                                # keys kept in hand while the route is in use
//! idle = "1h"                                 # connections end after this long without a byte,
//! max-age = "24h"                             # and after this long in all
//!
//! [[outbound]]                                # with a proxy, the program says where to
//! name = "apis"
//! listen = "socks5:127.0.0.1:1080"
//! mode = "mtls"
//! purpose = "call"
//! [[outbound.destination]]                    # instead of `to` and `peer`
//! host = "api.internal:443"                   # what the program says
//! to = "api.internal:8443"                    # where that is
//! peer = "spiffe://example.org/api"
//!
//! [[inbound]]                                 # a way in, as many as there are
//! name = "db"                                 # required, once
//! listen = "0.0.0.0:8443"                     # required
//! to = "unix:/run/postgresql/.s.PGSQL.5432"   # required; the program, here or at "host:port"
//! mode = "psk"                                # required; or "mtls", "observe"
//! purpose = "query"                           # required
//! peers = ["spiffe://example.org/web"]        # everybody whom the policies permit by default
//! proxy-header = "v2"                         # or "v1"; tells the program who calls; none by default
//! idle = "1h"
//! max-age = "24h"
//!
//! [limits]
//! connections = 10000                         # at a time; beyond, the shim refuses
//! handshakes = 1024                           # by strangers, at a time
//! handshakes-per-address = 64                 # of which by one address
//! grace = "10s"                               # what is open may go on for when the shim stops
//!
//! [health]
//! listen = "127.0.0.1:9901"                   # /live, /ready, /metrics; nowhere by default
//!
//! [access]
//! file = "/var/log/claviger/access.jsonl"     # one line for each connection; in the log by default
//!
//! [log]
//! level = "info"                              # error, warn, info, debug, trace
//! format = "text"                             # text, json
//! ```
//!
//! A door for programs is on a loopback address or a Unix socket: the kernel says who is at the other
//! end of those, and of no others.

mod inbound;
mod outbound;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use claviger_core::id::SpiffeId;
use claviger_runtime::settings::{self, AbsolutePath, Problem, Problems, Section, Span};
use claviger_runtime::telemetry::LogConfig;
use claviger_runtime::unix::check_path;
use serde::Deserialize;

pub use outbound::PREFETCH;

use crate::route::{Callers, Inbound, Lifetime, Mode, Outbound, Profile};

/// A shim's settings.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Config {
    /// The agent's socket, if it is not said elsewhere.
    pub socket: Option<PathBuf>,
    /// As whom the shim acts; the first identity that its agent gives it if unset.
    pub identity: Option<SpiffeId>,
    /// What TLS may use.
    pub profile: Profile,
    /// The ways out. Callers who are [`Known`](crate::route::Callers::Known) by nothing are those with
    /// the shim's own identity.
    pub outbound: Vec<Outbound>,
    /// The ways in.
    pub inbound: Vec<Inbound>,
    /// How much of everything there may be.
    pub limits: Limits,
    /// Where health checks are answered; nowhere if unset.
    pub health: Option<SocketAddr>,
    /// The file that records of connections go to; they are in the log if unset.
    pub access: Option<PathBuf>,
    /// How to log.
    pub log: LogConfig,
    /// What is allowed, and has to be meant.
    pub warnings: Vec<Problem>,
}

/// How much of everything there may be; beyond it, the shim refuses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Connections at a time, of all routes together. Each takes two file descriptors.
    pub connections: usize,
    /// Handshakes with strangers at a time, of all ways in together.
    pub handshakes: usize,
    /// Of any one address.
    pub handshakes_per_address: usize,
    /// How long connections may go on when the shim is told to stop.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            handshakes: 1_024,
            handshakes_per_address: 64,
            grace: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// The longest grace: supervisors kill what does not stop within half a minute.
    pub const MAX_GRACE: Duration = Duration::from_secs(15);
}

/// How long connections last where nothing is said.
pub const LIFETIME: Lifetime =
    Lifetime { idle: Duration::from_secs(3_600), max_age: Duration::from_secs(86_400) };

/// The longest of anything: a year.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// The most ways out, and the most ways in.
const MAX_ROUTES: usize = 1_000;

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    ///
    /// [`Problems`]: every mistake in it.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        Self::parse(&settings::read(path)?)
    }

    /// Reads the text of a configuration file.
    ///
    /// # Errors
    ///
    /// [`Problems`]: every mistake in it.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        settings::parse(text, read)
    }
}

/// Reads everything, so that every problem is found; `None` if something required is missing.
fn read(root: &mut Section<'_>) -> Option<Config> {
    let socket = root.value::<AbsolutePath>("socket").map(|path| path.0);
    if let Some(path) = &socket
        && let Err(error) = check_path(path)
    {
        root.problem("socket", &path.display(), error);
    }
    let identity = root.value("spiffe-id");
    let profile = root.value::<WrittenProfile>("profile").unwrap_or_default().into();
    let outbound = root.tables("outbound", outbound::read);
    let inbound = root.tables("inbound", inbound::read);
    let limits = root.table("limits", limits);
    let health = root.table("health", |health| health.value("listen"));
    let file = root.table("access", |access| access.value::<AbsolutePath>("file"));
    let log = root.value("log").unwrap_or_default();

    let outbound = outbound.into_iter().collect::<Option<Vec<_>>>();
    let inbound = inbound.into_iter().collect::<Option<Vec<_>>>();
    // Where a route is missing, somebody was told already what is wrong with it.
    let (outbound, inbound) = outbound.zip(inbound)?;
    check_together(root, &outbound, &inbound, health);
    let warnings = warnings(&outbound, &inbound);
    let access = file.map(|path| path.0);
    Some(Config {
        socket,
        identity,
        profile,
        outbound,
        inbound,
        limits,
        health,
        access,
        log,
        warnings,
    })
}

/// How a profile is written.
#[derive(Clone, Copy, Default, Deserialize)]
enum WrittenProfile {
    #[default]
    #[serde(rename = "modern")]
    Modern,
    #[serde(rename = "nist-800-52r2")]
    Nist80052r2,
    #[serde(rename = "cnsa2")]
    Cnsa2,
}

impl From<WrittenProfile> for Profile {
    fn from(written: WrittenProfile) -> Self {
        match written {
            WrittenProfile::Modern => Self::Modern,
            WrittenProfile::Nist80052r2 => Self::Nist80052r2,
            WrittenProfile::Cnsa2 => Self::Cnsa2,
        }
    }
}

/// How a mode is written.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenMode {
    Psk,
    Mtls,
    Observe,
}

/// The setting `mode`, which nobody should have without having chosen it.
fn mode(route: &mut Section<'_>) -> Option<Mode> {
    let advice = "choose `psk`, `mtls`, or `observe`, which protects nothing";
    Some(match route.required::<WrittenMode>("mode", advice)? {
        WrittenMode::Psk => Mode::Psk,
        WrittenMode::Mtls => Mode::Mtls,
        WrittenMode::Observe => Mode::Observe,
    })
}

/// The setting `name`.
fn name(route: &mut Section<'_>) -> Option<String> {
    let name = route.required::<String>("name", "name the route, such as `db`")?;
    let sound = (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if !sound {
        let advice = format!("a name has 1 to {MAX_NAME} characters of `A-Z a-z 0-9 . _ -`");
        route.problem("name", &name, advice);
    }
    Some(name)
}

/// The longest name: it is in every record and every metric.
const MAX_NAME: usize = 64;

/// The settings `idle` and `max-age`.
fn lifetime(route: &mut Section<'_>) -> Lifetime {
    let mut span = |key: &'static str, default: Duration| {
        let Some(span) = route.value::<Span>(key) else { return default };
        if span.0.is_zero() || LONGEST < span.0 {
            route.problem(key, &span, format!("choose from 1 ms to {}", Span(LONGEST)));
        }
        span.0
    };
    Lifetime { idle: span("idle", LIFETIME.idle), max_age: span("max-age", LIFETIME.max_age) }
}

fn limits(section: &mut Section<'_>) -> Limits {
    let default = Limits::default();
    let mut at_least_one = |key: &'static str, default: usize| {
        let limit = section.value::<usize>(key).unwrap_or(default);
        if limit == 0 {
            section.problem(key, &limit, "allow at least one");
        }
        limit
    };
    let connections = at_least_one("connections", default.connections);
    let handshakes = at_least_one("handshakes", default.handshakes);
    let handshakes_per_address =
        at_least_one("handshakes-per-address", default.handshakes_per_address.min(handshakes));
    let grace = section.value::<Span>("grace").map_or(default.grace, |span| span.0);
    if Limits::MAX_GRACE < grace {
        section.problem(
            "grace",
            &Span(grace),
            format!("allow at most {}", Span(Limits::MAX_GRACE)),
        );
    }
    Limits { connections, handshakes, handshakes_per_address, grace }
}

/// Checks what no route can see by itself: that there is one, and that no two are confused.
fn check_together(
    root: &mut Section<'_>,
    outbound: &[Outbound],
    inbound: &[Inbound],
    health: Option<SocketAddr>,
) {
    let count = outbound.len().max(inbound.len());
    if outbound.is_empty() && inbound.is_empty() {
        let advice = "is missing, and `[[inbound]]`, too; describe at least one route";
        root.report("[[outbound]]", None, advice.to_owned());
    } else if MAX_ROUTES < count {
        root.problem("[[outbound]] or [[inbound]]", &count, format!("at most {MAX_ROUTES}"));
    }
    let mut names = BTreeSet::new();
    let ways_out = outbound.iter().map(|route| ("outbound", &route.name));
    let ways_in = inbound.iter().map(|route| ("inbound", &route.name));
    for (table, name) in ways_out.chain(ways_in) {
        // The two shims of a connection may call it the same, and so may one its two directions.
        if !names.insert((table, name)) {
            root.problem(&format!("{table}.{name}.name"), name, "is there twice; choose another");
        }
    }
    let mut taken = BTreeSet::new();
    let doors = outbound.iter().map(|route| ("outbound", &route.name, route.door.to_string()));
    let ways_in = inbound.iter().map(|route| ("inbound", &route.name, route.listen.to_string()));
    for (table, name, place) in doors.chain(ways_in) {
        let address = place.trim_start_matches("socks5:").trim_start_matches("connect:");
        // The kernel chooses another port for each that asks for 0.
        if !address.ends_with(":0") && !taken.insert(address.to_owned()) {
            let advice = "is where another route listens; choose another";
            root.problem(&format!("{table}.{name}.listen"), &place, advice);
        }
    }
    if let Some(health) = health.filter(|health| health.port() != 0)
        && taken.contains(&health.to_string())
    {
        root.problem("health.listen", &health, "is where a route listens; choose another port");
    }
}

/// What an operator is told loudly, because it has to be meant.
fn warnings(outbound: &[Outbound], inbound: &[Inbound]) -> Vec<Problem> {
    let warning = |key: String, value: &str, advice: &str| Problem {
        key,
        value: Some(value.to_owned()),
        advice: advice.to_owned(),
    };
    let observed = |table: &str, name: &str, mode: Mode| {
        let advice = "nothing is protected, and nobody is asked who they are; once you know who \
                      talks to whom, choose `psk` or `mtls`";
        (mode == Mode::Observe)
            .then(|| warning(format!("{table}.{name}.mode"), mode.as_str(), advice))
    };
    let anybody = |route: &Outbound| {
        let advice = "every program that reaches this door acts as the shim; name those who may";
        (route.callers == Callers::Anybody)
            .then(|| warning(format!("outbound.{}.callers", route.name), "anybody", advice))
    };
    let out = outbound.iter().flat_map(|route| {
        [observed("outbound", &route.name, route.mode), anybody(route)].into_iter().flatten()
    });
    let ways_in = inbound.iter().filter_map(|route| observed("inbound", &route.name, route.mode));
    out.chain(ways_in).collect()
}
