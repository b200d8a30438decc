//! Where events go.

use claviger_attestors::fetch::{Endpoint, Plain};
use claviger_runtime::settings::{AbsolutePath, Section};

use crate::events::EventsConfig;
use crate::events::otlp::Collector;
use crate::events::syslog::Target;

/// Where OTLP takes log records, below a collector's address.
const LOGS: &str = "/v1/logs";

pub(super) fn read(section: &mut Section<'_>) -> EventsConfig {
    let file = section.value::<AbsolutePath>("file").map(|path| path.0);
    let syslog = section.value::<Target>("syslog");
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
