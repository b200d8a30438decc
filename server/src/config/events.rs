//! Where events go.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use claviger_attestors::fetch::{Endpoint, Plain};
use claviger_runtime::settings::{AbsolutePath, Section};
use serde::Deserialize;

/// Where OTLP takes log records, below a collector's address.
const LOGS: &str = "/v1/logs";

/// Where events go.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EventsConfig {
    /// A file that they are appended to, as lines of JSON.
    pub file: Option<PathBuf>,
    /// A syslog server.
    pub syslog: Option<SyslogServer>,
    /// A collector of OpenTelemetry.
    pub otlp: Option<Collector>,
}

/// Where a collector is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Collector {
    /// Where it takes log records: its address and `/v1/logs`.
    pub endpoint: Endpoint,
    /// Who vouches for it, in PEM; the machine's authorities if unset.
    pub ca_file: Option<PathBuf>,
}

/// A syslog server, such as `unix:/dev/log`, `udp:log.example.org:514` or `tcp:[::1]:601`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub enum SyslogServer {
    /// A datagram socket of this machine's.
    Unix(PathBuf),
    /// A host and a port.
    Udp(String),
    /// A host and a port.
    Tcp(String),
}

/// A text names no syslog server.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("name a syslog server: `unix:/dev/log`, `udp:HOST:PORT` or `tcp:HOST:PORT`")]
pub struct ParseSyslogServerError;

impl FromStr for SyslogServer {
    type Err = ParseSyslogServerError;

    fn from_str(text: &str) -> Result<Self, ParseSyslogServerError> {
        let (kind, place) = text.split_once(':').ok_or(ParseSyslogServerError)?;
        let remote = || {
            let (host, port) = place.rsplit_once(':').ok_or(ParseSyslogServerError)?;
            let port: u16 = port.parse().map_err(|_no_number| ParseSyslogServerError)?;
            let sound = !host.is_empty() && 0 < port && !host.contains(['/', ' ']);
            sound.then(|| place.to_owned()).ok_or(ParseSyslogServerError)
        };
        match kind {
            "unix" if place.starts_with('/') => Ok(Self::Unix(place.into())),
            "udp" => remote().map(Self::Udp),
            "tcp" => remote().map(Self::Tcp),
            _ => Err(ParseSyslogServerError),
        }
    }
}

impl TryFrom<String> for SyslogServer {
    type Error = ParseSyslogServerError;

    fn try_from(text: String) -> Result<Self, ParseSyslogServerError> {
        text.parse()
    }
}

impl fmt::Display for SyslogServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Udp(place) => write!(f, "udp:{place}"),
            Self::Tcp(place) => write!(f, "tcp:{place}"),
        }
    }
}

pub(super) fn read(section: &mut Section<'_>) -> EventsConfig {
    let file = section.value::<AbsolutePath>("file").map(|path| path.0);
    let syslog = section.value::<SyslogServer>("syslog");
    let collector = section.value::<String>("otlp");
    let ca_file = section.value::<AbsolutePath>("otlp-ca-file").map(|path| path.0);
    if let (None, Some(ca_file)) = (&collector, &ca_file) {
        section.problem("otlp-ca-file", &ca_file.display(), "vouches for nobody without `otlp`");
    }
    let otlp = collector.and_then(|text| match endpoint(&text) {
        Ok(endpoint) => Some(Collector { endpoint, ca_file }),
        Err(why) => {
            section.problem("otlp", &text, why);
            None
        }
    });
    EventsConfig { file, syslog, otlp }
}

/// The address that was named, with [`LOGS`] behind it unless it is there.
fn endpoint(text: &str) -> Result<Endpoint, String> {
    let base = text.trim_end_matches('/');
    let address = if base.ends_with(LOGS) { base.to_owned() } else { format!("{base}{LOGS}") };
    let endpoint = Endpoint::parse(&address, Plain::Loopback).map_err(|error| error.to_string())?;
    if endpoint.has_query() { Err("leave the query out".to_owned()) } else { Ok(endpoint) }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn parse(events: &str) -> Result<Config, String> {
        let text = format!(
            "trust-domain = \"example.org\"\ndata-dir = \"/var/lib/x\"\n[events]\n{events}\n"
        );
        Config::parse(&text).map_err(|problems| problems.to_string())
    }

    #[test]
    fn events_go_where_they_are_told_to() {
        assert_eq!(parse("").unwrap().events, super::EventsConfig::default());
        let all = "file = \"/var/log/claviger/events.jsonl\"\nsyslog = \"udp:[::1]:514\"\n\
                   otlp = \"https://collector.example.org:4318/\"\notlp-ca-file = \"/etc/ca.pem\"";
        let events = parse(all).unwrap().events;
        assert_eq!(events.syslog.unwrap().to_string(), "udp:[::1]:514");
        let collector = events.otlp.unwrap().endpoint.to_string();
        assert_eq!(collector, "https://collector.example.org:4318/v1/logs");
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        for (text, why) in [
            ("file = \"events.jsonl\"", "events.file"),
            ("syslog = \"/dev/log\"", "udp:HOST:PORT"),
            ("syslog = \"udp:host\"", "udp:HOST:PORT"),
            ("syslog = \"tcp::514\"", "udp:HOST:PORT"),
            ("syslog = \"unix:log\"", "udp:HOST:PORT"),
            ("otlp = \"http://collector.example.org\"", "events.otlp"),
            ("otlp = \"https://collector.example.org?a=b\"", "events.otlp"),
            ("otlp-ca-file = \"/etc/ca.pem\"", "without `otlp`"),
            ("kafka = \"host\"", "events.kafka"),
        ] {
            let told = parse(text).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
    }
}
