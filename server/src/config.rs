//! What an operator writes in `server.toml`.
//!
//! A [`Config`] that exists is a valid one. [`Config::load`] does not stop at the first mistake: it
//! reports all of them, each with its key, its value and what to do. Defaults are the values we
//! would choose for an operator who has not read the manual.
//!
//! ```toml
//! trust-domain = "example.org"          # required
//! data-dir = "/var/lib/claviger/server" # required; made if missing
//! listen = "127.0.0.1:8081"             # where agents connect
//! admin-socket = "/run/claviger/server.sock"
//! x509-svid-ttl = "1h"
//! jwt-svid-ttl = "5m"
//! wit-svid-ttl = "1h"
//! jwt-issuer = "https://oidc.example.org" # the `iss` of JWT-SVIDs; none by default
//! wit-issuer = "example.org"            # the `iss` of WIT-SVIDs; none by default
//! agent-svid-ttl = "1h"
//! admin-ids = ["spiffe://example.org/ops"] # may administrate over the network; none by default
//! policy-dir = "/etc/claviger/policy"   # *.cedar; without it, the built-in policy (see `policy`)
//! policy-ttl = "1h"                     # how long agents decide by it without a word from here
//!
//! [attestors.x509pop]                   # join tokens only by default; see docs/attestors
//! ca-bundle-path = "/etc/claviger/nodes.pem"
//!
//! [ca]
//! ttl = "24h"
//! organization = "Claviger"
//! country = "US"                        # none by default
//!
//! [store]                               # in the data directory by default
//! postgres = "postgresql://claviger:PASSWORD@db.example.org/claviger" # shared by several servers
//! key-file = "/etc/claviger/store.key"  # the same for all of them: openssl rand -hex 32
//! # ca-file = "/etc/claviger/db.pem"    # this machine's authorities by default
//!
//! [control]
//! listen = "0.0.0.0:8444"               # decisions for gateways; nowhere by default
//!
//! [keys]
//! listen = "0.0.0.0:8445"               # keys by ETSI QKD 014 and SKIP; nowhere by default
//! [keys.aliases]                        # SAE IDs beside SPIFFE IDs
//! alice = "spiffe://example.org/alice"
//! [keys.systems]                        # the same for SKIP's system IDs
//! Router-1 = "spiffe://example.org/router-1"
//!
//! [health]
//! listen = "127.0.0.1:8082"             # no endpoint by default
//!
//! [public]                              # nothing is told to strangers by default
//! listen = "0.0.0.0:8443"               # HTTPS, with
//! certificate = "/etc/claviger/web.pem" # certificates, leaf first, and
//! key = "/etc/claviger/web.key"         # its key; or
//! # socket = "/run/claviger/public.sock" # HTTP behind a proxy on this machine
//!                                       # without both, the server's own SVID
//! hosts = ["spiffe.example.org"]        # beside that of `jwt-issuer`
//! direct = false                        # true: credentials for evidence, without an agent
//!
//! [audit]
//! public = false                        # true: strangers read the audit log, which names identities
//! # witness-ca-file = "/etc/claviger/witness.pem" # this machine's authorities by default
//! [audit.witnesses]                     # who signs that there is only one log; nobody by default
//! "https://witness.example.net" = "witness.example.net/w1+0bdd7180+BAEB…"
//!
//! [events]                              # events go nowhere by default; any of
//! file = "/var/log/claviger/events.jsonl" # lines of JSON,
//! syslog = "udp:log.example.org:514"    # RFC 5424; also unix:/dev/log, tcp:HOST:PORT,
//! otlp = "https://otel.example.org:4318" # and log records of OpenTelemetry
//! # otlp-ca-file = "/etc/claviger/otel.pem" # this machine's authorities by default
//!
//! [log]
//! level = "info"                        # error, warn, info, debug, trace
//! format = "text"                       # text, json
//!
//! [limits]
//! entries = 1000000
//! agents = 100000
//! streams-per-connection = 256
//! requests = 1024                       # at a time
//! [limits.rates]                        # per second, for a moment twice as many
//! all = 40000
//! caller = 10000                        # of one agent, other identity or address
//! identity = 2000                       # credentials for one identity
//! [limits.connections]
//! connections = 16384
//! connections-per-ip = 4096
//! handshakes = 1024
//! handshakes-per-ip = 256
//! strangers = 4096                      # those without a certificate
//! strangers-per-ip = 1024
//! ```

mod admins;
mod attestors;
mod audit;
mod events;
mod keys;
mod public;
mod rates;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use claviger_core::id::{SpiffeId, TrustDomain};
use claviger_core::policies::PolicyTtl;
use claviger_core::svid::SvidTtl;
use claviger_runtime::settings::{self, AbsolutePath, Section, Span};
use claviger_runtime::telemetry::LogConfig;
use claviger_runtime::tls;

pub use attestors::AttestorsConfig;
pub use audit::{AuditConfig, WitnessConfig};
pub use claviger_runtime::settings::{Problem, Problems};
pub use events::{Collector, EventsConfig, ParseSyslogServerError, SyslogServer};
pub use keys::{KeysConfig, Names, NotAName};
pub use public::{Door, IssuerUrl, PublicConfig};
pub use rates::Rates;
pub use store::{DatabaseConfig, DatabaseUrl};

/// A server's settings.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// The trust domain this server signs for.
    pub trust_domain: TrustDomain,
    /// Where agents connect.
    pub listen: SocketAddr,
    /// Where keys and the store are.
    pub data_dir: PathBuf,
    /// The database that this server shares with others; its store is in the data directory if unset.
    pub store: Option<DatabaseConfig>,
    /// The socket for the operator.
    pub admin_socket: PathBuf,
    /// How long the X.509-SVID of a workload lasts if its entry does not say.
    pub x509_svid_ttl: SvidTtl,
    /// How long a JWT-SVID lasts if its entry does not say.
    pub jwt_svid_ttl: SvidTtl,
    /// How long a WIT-SVID lasts.
    pub wit_svid_ttl: SvidTtl,
    /// The `iss` of JWT-SVIDs, for relying parties that know OpenID Connect and not SPIFFE.
    pub jwt_issuer: Option<String>,
    /// The `iss` of WIT-SVIDs. Nobody should discover keys by it (WIT-SVID §3.7).
    pub wit_issuer: Option<String>,
    /// How long the X.509-SVID of an agent lasts.
    pub agent_svid_ttl: SvidTtl,
    /// Who may administrate over the network beyond those whose entries say so.
    pub admin_ids: BTreeSet<SpiffeId>,
    /// Where the policies are; the built-in one applies if unset.
    pub policy_dir: Option<PathBuf>,
    /// How long agents decide by them without a word from this server.
    pub policy_ttl: PolicyTtl,
    /// The kinds of evidence that are judged beside join tokens.
    pub attestors: AttestorsConfig,
    /// The signing authorities.
    pub ca: CaConfig,
    /// Where gateways ask for decisions; nowhere if unset.
    pub control: Option<SocketAddr>,
    /// Where machines draw keys, and what they are called; nowhere if unset.
    pub keys: Option<KeysConfig>,
    /// Where health checks are answered; nowhere if unset.
    pub health: Option<SocketAddr>,
    /// What strangers are told; nothing if unset.
    pub public: Option<PublicConfig>,
    /// What becomes of the audit log beside being kept.
    pub audit: AuditConfig,
    /// Where events go; nowhere by default.
    pub events: EventsConfig,
    /// How to log.
    pub log: LogConfig,
    /// How much of everything there may be.
    pub limits: Limits,
    /// What is allowed, and probably not meant.
    pub warnings: Vec<Problem>,
}

/// How the server's signing authorities are made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CaConfig {
    /// How long each lasts.
    pub ttl: Duration,
    /// The organization in the subject of each, and of every SVID.
    pub organization: String,
    /// The country in the same place: two letters.
    pub country: Option<String>,
}

impl CaConfig {
    /// The lifetimes allowed.
    const TTL: std::ops::RangeInclusive<Duration> =
        Duration::from_secs(60)..=Duration::from_secs(10 * 365 * 86_400);

    /// The longest SVID that an authority can always give in full. A new authority begins to sign
    /// when a sixth of the old one's life is left, at most seven days (see
    /// `claviger_core::svid::Validity`).
    #[must_use]
    pub fn longest_full_svid(&self) -> Duration {
        (self.ttl / 6).min(Duration::from_secs(7 * 86_400))
    }

    /// How long a new authority is published before it signs: at least from half life until a sixth
    /// is left (see `claviger_core::svid::Validity`).
    #[must_use]
    pub fn publication(&self) -> Duration {
        (self.ttl / 3).min(Duration::from_secs(23 * 86_400))
    }
}

impl Default for CaConfig {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(86_400),
            organization: "Claviger".to_owned(),
            country: None,
        }
    }
}

/// How much of everything there may be; beyond it, the server refuses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Registration entries; each takes about half a kilobyte of memory.
    pub entries: usize,
    /// Agents, banned and absent ones included; each takes about a kilobyte.
    pub agents: usize,
    /// gRPC calls at a time on one connection.
    pub streams_per_connection: u32,
    /// TLS connections.
    pub connections: tls::Limits,
    /// How often may be asked.
    pub rates: Rates,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 1_000_000,
            agents: 100_000,
            streams_per_connection: 256,
            connections: tls::Limits::default(),
            rates: Rates::default(),
        }
    }
}

impl Config {
    /// Where agents connect by default: SPIRE's port, on this machine only.
    pub const LISTEN: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8_081);
    /// The default socket for the operator.
    pub const ADMIN_SOCKET: &str = "/run/claviger/server.sock";

    /// A server of `trust_domain` that keeps its state in `data_dir` and is otherwise left at its
    /// defaults.
    #[must_use]
    pub fn new(trust_domain: TrustDomain, data_dir: PathBuf) -> Self {
        Self {
            trust_domain,
            listen: Self::LISTEN,
            data_dir,
            store: None,
            admin_socket: Self::ADMIN_SOCKET.into(),
            x509_svid_ttl: SvidTtl::HOUR,
            jwt_svid_ttl: SvidTtl::FIVE_MINUTES,
            wit_svid_ttl: SvidTtl::HOUR,
            jwt_issuer: None,
            wit_issuer: None,
            agent_svid_ttl: SvidTtl::HOUR,
            admin_ids: BTreeSet::new(),
            policy_dir: None,
            policy_ttl: PolicyTtl::HOUR,
            attestors: AttestorsConfig::default(),
            ca: CaConfig::default(),
            control: None,
            keys: None,
            health: None,
            public: None,
            audit: AuditConfig::default(),
            events: EventsConfig::default(),
            log: LogConfig::default(),
            limits: Limits::default(),
            warnings: Vec::new(),
        }
    }

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
    let trust_domain = root.required("trust-domain", "name it, such as `example.org`");
    let data_dir =
        root.required::<AbsolutePath>("data-dir", "say where to keep keys and the store");
    let listen = root.value("listen").unwrap_or(Config::LISTEN);
    let admin_socket = root
        .value::<AbsolutePath>("admin-socket")
        .map_or_else(|| Config::ADMIN_SOCKET.into(), |path| path.0);
    check_socket(root, &admin_socket);
    let x509_svid_ttl = svid_ttl(root, "x509-svid-ttl", SvidTtl::HOUR);
    let jwt_svid_ttl = svid_ttl(root, "jwt-svid-ttl", SvidTtl::FIVE_MINUTES);
    let wit_svid_ttl = svid_ttl(root, "wit-svid-ttl", SvidTtl::HOUR);
    let agent_svid_ttl = svid_ttl(root, "agent-svid-ttl", SvidTtl::HOUR);
    let jwt_issuer = issuer(root, "jwt-issuer");
    let wit_issuer = issuer(root, "wit-issuer");
    let admin_ids = admins::read(root, trust_domain.as_ref());
    let policy_dir = root.value::<AbsolutePath>("policy-dir").map(|path| path.0);
    let policy_ttl = policy_ttl(root);
    let log = root.value("log").unwrap_or_default();
    let attestors = root.table("attestors", attestors::read);
    let ca = root.table("ca", ca);
    let store = root.table("store", store::read);
    let control = root.table("control", address);
    let keys = root.table("keys", |section| keys::read(section, trust_domain.as_ref()));
    let health = root.table("health", address);
    let public = root.table("public", |section| public::read(section, jwt_issuer.as_deref()));
    let audit = root.table("audit", audit::read);
    check_public(root, public.as_ref(), &attestors, &audit);
    let events = root.table("events", events::read);
    let limits = root.table("limits", limits);
    let lifetimes = [
        ("x509-svid-ttl", x509_svid_ttl),
        ("jwt-svid-ttl", jwt_svid_ttl),
        ("wit-svid-ttl", wit_svid_ttl),
        ("agent-svid-ttl", agent_svid_ttl),
    ];
    let cut = lifetimes.into_iter().filter_map(|(key, ttl)| cut_short(key, ttl, &ca));
    let shared = shared_issuer(jwt_issuer.as_deref(), wit_issuer.as_deref());
    let warnings = cut.chain(shared).collect();
    if trust_domain.is_some() {
        let keys = keys.as_ref().map(|keys| keys.listen);
        one_port_each(root, listen, [("health", health), ("control", control), ("keys", keys)]);
    }
    Some(Config {
        trust_domain: trust_domain?,
        listen,
        data_dir: data_dir?.0,
        store,
        admin_socket,
        x509_svid_ttl,
        jwt_svid_ttl,
        wit_svid_ttl,
        jwt_issuer,
        wit_issuer,
        agent_svid_ttl,
        admin_ids,
        policy_dir,
        policy_ttl,
        attestors,
        ca,
        control,
        keys,
        health,
        public,
        audit,
        events,
        log,
        limits,
        warnings,
    })
}

/// Programs without an agent are given credentials for evidence, so somebody has to judge some; and what
/// strangers read, they read at their door.
fn check_public(
    root: &mut Section<'_>,
    public: Option<&PublicConfig>,
    attestors: &AttestorsConfig,
    audit: &AuditConfig,
) {
    if public.is_some_and(|public| public.direct) && *attestors == AttestorsConfig::default() {
        let advice = "judges no evidence yet; configure a kind, such as `[attestors.oidc]`";
        root.problem("public.direct", &true, advice);
    }
    if audit.public && public.is_none() {
        root.problem("audit.public", &true, "is served nowhere; configure `[public]`");
    }
}

/// Every door has an address of its own. The kernel chooses another port for each that asks for 0.
fn one_port_each(
    root: &mut Section<'_>,
    listen: SocketAddr,
    doors: [(&str, Option<SocketAddr>); 3],
) {
    let mut taken = vec![("listen".to_owned(), listen)];
    for (section, address) in doors {
        let Some(address) = address else { continue };
        let key = format!("{section}.listen");
        let same = taken.iter().find(|(_, at)| *at == address && address.port() != 0);
        if let Some((other, _)) = same {
            let advice = format!("is taken by `{other}`; choose another port");
            root.problem(&key, &address, advice);
        }
        taken.push((key, address));
    }
}

fn svid_ttl(root: &mut Section<'_>, key: &'static str, default: SvidTtl) -> SvidTtl {
    let Some(span) = root.value::<Span>(key) else { return default };
    let secs = u32::try_from(span.0.as_secs()).unwrap_or(u32::MAX);
    SvidTtl::try_from(secs).unwrap_or_else(|error| {
        root.problem(key, &span, error);
        default
    })
}

fn policy_ttl(root: &mut Section<'_>) -> PolicyTtl {
    const KEY: &str = "policy-ttl";
    let Some(span) = root.value::<Span>(KEY) else { return PolicyTtl::HOUR };
    let secs = u32::try_from(span.0.as_secs()).unwrap_or(u32::MAX);
    PolicyTtl::try_from(secs).unwrap_or_else(|error| {
        root.problem(KEY, &span, error);
        PolicyTtl::HOUR
    })
}

/// The longest issuer, in bytes: it is in every token.
const MAX_ISSUER: usize = 255;

fn issuer(root: &mut Section<'_>, key: &'static str) -> Option<String> {
    let issuer = root.value::<String>(key)?;
    let printable = issuer.bytes().all(|byte| byte.is_ascii_graphic());
    if !printable || !(1..=MAX_ISSUER).contains(&issuer.len()) {
        let advice = format!("an issuer has 1 to {MAX_ISSUER} printable ASCII characters");
        root.problem(key, &issuer, advice);
    }
    Some(issuer)
}

/// A WIT-SVID is no bearer token, and whoever finds keys by the issuer would take it for one
/// (WIT-SVID §3.7).
fn shared_issuer(jwt: Option<&str>, wit: Option<&str>) -> Option<Problem> {
    wit.filter(|wit| jwt == Some(wit)).map(|wit| Problem {
        key: "wit-issuer".to_owned(),
        value: Some(wit.to_owned()),
        advice: "is also the issuer of JWT-SVIDs, by which their keys are found; choose another, \
                 or none"
            .to_owned(),
    })
}

/// SPIRE's rule, and a warning as there: such SVIDs are issued, but end with their authority.
fn cut_short(key: &str, ttl: SvidTtl, ca: &CaConfig) -> Option<Problem> {
    let longest = ca.longest_full_svid();
    (longest < ttl.duration()).then(|| Problem {
        key: key.to_owned(),
        value: Some(Span(ttl.duration()).to_string()),
        advice: format!(
            "some SVIDs will last shorter, because they end with the authority that signed them; \
             choose at most {} or a `ca.ttl` of at least {}",
            Span(longest),
            Span(ttl.duration().saturating_mul(6)),
        ),
    })
}

/// A socket's path has room for 107 bytes (unix(7)).
fn check_socket(root: &mut Section<'_>, path: &Path) {
    const MAX: usize = 107;
    let length = path.as_os_str().len();
    if MAX < length {
        let advice =
            format!("is {length} bytes long, the limit is {MAX}; choose a shorter directory");
        root.problem("admin-socket", &path.display(), advice);
    }
}

fn ca(section: &mut Section<'_>) -> CaConfig {
    let default = CaConfig::default();
    let ttl = section.value::<Span>("ttl").map_or(default.ttl, |span| {
        if !CaConfig::TTL.contains(&span.0) {
            let advice = format!(
                "an authority lasts {} to {}",
                Span(*CaConfig::TTL.start()),
                Span(*CaConfig::TTL.end())
            );
            section.problem("ttl", &span, advice);
        }
        span.0
    });
    let organization = section.value("organization").unwrap_or(default.organization);
    if !(1..=64).contains(&organization.chars().count()) {
        // The upper bound of RFC 5280 §A.1, ub-organization-name.
        section.problem("organization", &organization, "give it 1 to 64 characters");
    }
    let country = section.value::<String>("country");
    if let Some(country) = &country
        && !(country.len() == 2 && country.bytes().all(|b| b.is_ascii_uppercase()))
    {
        section.problem("country", country, "give it two capital letters (ISO 3166), or none");
    }
    CaConfig { ttl, organization, country }
}

/// Where something listens.
fn address(section: &mut Section<'_>) -> Option<SocketAddr> {
    section.value("listen")
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
    let entries = at_least_one("entries", default.entries);
    let agents = at_least_one("agents", default.agents);
    let streams = at_least_one("streams-per-connection", 256);
    let requests = at_least_one("requests", default.rates.requests);
    let connections = section.value("connections").unwrap_or(default.connections);
    let rates = section.table("rates", |section| rates::read(section, requests));
    Limits {
        entries,
        agents,
        streams_per_connection: u32::try_from(streams).unwrap_or(u32::MAX),
        connections,
        rates,
    }
}
