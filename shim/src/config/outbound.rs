//! `[[outbound]]`.

use std::collections::{BTreeMap, BTreeSet};

use claviger_core::id::SpiffeId;
use claviger_core::psk::Purpose;
use claviger_runtime::place::ServerAddr;
use claviger_runtime::settings::Section;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::{lifetime, mode, name};
use crate::route::{Callers, Destination, Destinations, Door, MAX_KNOWN, Outbound};

/// How many keys are kept in hand where nothing is said: a burst of a few connections.
pub const PREFETCH: usize = 4;

/// The most of them, for each destination.
const MAX_PREFETCH: usize = 64;

/// The most destinations of one door.
const MAX_DESTINATIONS: usize = 1_000;

/// Reads one way out, and takes every setting, so that every problem is found.
pub(super) fn read(route: &mut Section<'_>) -> Option<Outbound> {
    let name = name(route);
    let door = route.required::<Door>(
        "listen",
        "say where programs come in: `127.0.0.1:5432`, `unix:/path`, `socks5:127.0.0.1:1080` or \
         `connect:127.0.0.1:3128`",
    );
    let mode = mode(route);
    let purpose = route.required::<Purpose>("purpose", "say what for, such as `query`");
    let callers = callers(route);
    if let Some(address) = door.as_ref().and_then(Door::address)
        && !address.ip().is_loopback()
        && callers != Callers::Anybody
    {
        let advice = "programs on other machines cannot be told apart; listen on a loopback \
                      address such as 127.0.0.1, or write `callers = \"anybody\"`";
        route.problem("listen", &address, advice);
    }
    let destinations = destinations(route, door.as_ref());
    let prefetch = route.value::<usize>("prefetch").unwrap_or(PREFETCH);
    if MAX_PREFETCH < prefetch {
        route.problem("prefetch", &prefetch, format!("keep at most {MAX_PREFETCH}"));
    }
    let lifetime = lifetime(route);
    Some(Outbound {
        name: name?,
        door: door?,
        callers,
        destinations: destinations?,
        mode: mode?,
        purpose: purpose?,
        prefetch,
        lifetime,
    })
}

/// Who may use a door: a list of SPIFFE IDs, or a word.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "name the SPIFFE IDs of those who may, in a list, or write `anybody`"
)]
enum WrittenCallers {
    Known(Vec<SpiffeId>),
    Word(Anybody),
}

#[derive(Deserialize)]
enum Anybody {
    #[serde(rename = "anybody")]
    Anybody,
}

fn callers(route: &mut Section<'_>) -> Callers {
    match route.value::<WrittenCallers>("callers") {
        // The shim's own identity.
        None => Callers::Known(BTreeSet::new()),
        Some(WrittenCallers::Word(Anybody::Anybody)) => Callers::Anybody,
        Some(WrittenCallers::Known(ids)) => {
            if !(1..=MAX_KNOWN).contains(&ids.len()) {
                let advice = format!("name 1 to {MAX_KNOWN}; leave it out for the shim's own");
                route.problem("callers", &ids.len(), advice);
            }
            Callers::Known(ids.into_iter().collect())
        }
    }
}

/// Where a door leads: `to` and `peer` of a door for one destination, tables of a proxy's.
fn destinations(route: &mut Section<'_>, door: Option<&Door>) -> Option<Destinations> {
    let proxy = match door {
        Some(Door::Socks5(_) | Door::Connect(_)) => true,
        Some(Door::Tcp(_) | Door::Unix(_)) => false,
        // What it was to be shows in what there is.
        None => route.has("destination"),
    };
    let named = route.tables("destination", |table| {
        let host = table.required::<Host>("host", "say what programs ask for: `host:port`");
        Some((host?.0, destination(table)?))
    });
    if proxy {
        for key in ["to", "peer"] {
            if route.value::<String>(key).is_some() {
                let advice =
                    "a proxy's destinations are in [[outbound.destination]]; move it there";
                route.report(key, None, advice.to_owned());
            }
        }
        return Some(Destinations::Named(by_name(route, named)?));
    }
    if !named.is_empty() {
        let advice = "only `socks5:` and `connect:` have several; write `to` and `peer`";
        route.problem("destination", &named.len(), advice);
    }
    destination(route).map(Destinations::One)
}

fn destination(section: &mut Section<'_>) -> Option<Destination> {
    let at = section.required::<ServerAddr>("to", "say where to: `host:port`, or `unix:/path`");
    let peer = section.required("peer", "say who has to be there, by their SPIFFE ID");
    Some(Destination { at: at?, peer: peer? })
}

fn by_name(
    route: &mut Section<'_>,
    named: Vec<Option<(String, Destination)>>,
) -> Option<BTreeMap<String, Destination>> {
    if !(1..=MAX_DESTINATIONS).contains(&named.len()) {
        let advice = format!("describe 1 to {MAX_DESTINATIONS}, in [[outbound.destination]]");
        route.problem("destination", &named.len(), advice);
    }
    let mut destinations = BTreeMap::new();
    for (host, destination) in named.into_iter().collect::<Option<Vec<_>>>()? {
        if destinations.insert(host.clone(), destination).is_some() {
            route.problem("destination.host", &host, "is there twice");
        }
    }
    Some(destinations)
}

/// What a program says to a proxy: a host and a port, in lower case.
struct Host(String);

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let advice = "write `host:port` in lower case, as programs ask for it";
        let (host, port) = text.rsplit_once(':').ok_or_else(|| D::Error::custom(advice))?;
        let port = port.parse::<u16>().ok().filter(|port| *port != 0);
        // RFC 1035 §2.3.4, and what a SOCKS request has room for.
        let sound = (1..=255).contains(&host.len())
            && host.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase());
        if port.is_none() || !sound {
            return Err(D::Error::custom(advice));
        }
        Ok(Self(text))
    }
}
