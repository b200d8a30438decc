//! `[[inbound]]`.

use std::collections::BTreeSet;

use claviger_core::id::SpiffeId;
use claviger_core::psk::Purpose;
use claviger_runtime::place::ServerAddr;
use claviger_runtime::settings::Section;
use serde::Deserialize;

use super::{lifetime, mode, name};
use crate::route::{Inbound, ProxyHeader};

/// The most peers of one way in.
const MAX_PEERS: usize = 1_000;

/// Reads one way in, and takes every setting, so that every problem is found.
pub(super) fn read(route: &mut Section<'_>) -> Option<Inbound> {
    let name = name(route);
    let listen = route.required("listen", "say where strangers come in, such as `0.0.0.0:8443`");
    let to = route.required::<ServerAddr>(
        "to",
        "say where the program is: `127.0.0.1:5432`, or `unix:/path`",
    );
    let mode = mode(route);
    let purpose = route.required::<Purpose>("purpose", "say what for, such as `query`");
    let peers = peers(route);
    let proxy_header = route.value::<WrittenHeader>("proxy-header").map(|written| match written {
        WrittenHeader::V1 => ProxyHeader::V1,
        WrittenHeader::V2 => ProxyHeader::V2,
    });
    let lifetime = lifetime(route);
    Some(Inbound {
        name: name?,
        listen: listen?,
        to: to?,
        mode: mode?,
        purpose: purpose?,
        peers,
        proxy_header,
        lifetime,
    })
}

fn peers(route: &mut Section<'_>) -> Option<BTreeSet<SpiffeId>> {
    let ids = route.value::<Vec<SpiffeId>>("peers")?;
    if !(1..=MAX_PEERS).contains(&ids.len()) {
        let advice = format!("name 1 to {MAX_PEERS}; leave it out to ask only the policies");
        route.problem("peers", &ids.len(), advice);
    }
    Some(ids.into_iter().collect())
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenHeader {
    V1,
    V2,
}
