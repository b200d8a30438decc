//! How identities stand, as a listing.

use std::fmt;

use claviger_core::id::SpiffeId;
use claviger_proto::claviger::admin::v1::{self as wire, ListStandingsRequest};
use serde::Serialize;

use crate::admin::Server;
use crate::console::{self, Console};
use crate::failure::Failure;
use crate::socket::AdminSocket;
use crate::times;

/// How one identity stands.
#[derive(Debug, Serialize)]
pub(crate) struct Standing {
    pub(crate) spiffe_id: String,
    pub(crate) risk: u32,
    pub(crate) quarantined: bool,
    reason: String,
    by: String,
    /// Seconds since 1970.
    changed_at: u64,
    version: u64,
}

impl Standing {
    /// Of an identity of which nothing was ever said.
    pub(crate) fn unsaid(id: &SpiffeId) -> Self {
        Self::from(wire::Standing { spiffe_id: id.to_string(), ..wire::Standing::default() })
    }
}

impl From<wire::Standing> for Standing {
    fn from(wire: wire::Standing) -> Self {
        let wire::Standing { spiffe_id, risk, quarantined, reason, by, changed_at, version } = wire;
        Self { spiffe_id, risk, quarantined, reason, by, changed_at, version }
    }
}

/// Lists those in quarantine.
pub(super) async fn quarantined(socket: &AdminSocket, console: Console) -> Result<(), Failure> {
    let identities = fetch(socket, true, console).await?;
    console.answer(&Quarantined { identities })
}

/// Lists those that are risked.
pub(crate) async fn risked(socket: &AdminSocket, console: Console) -> Result<(), Failure> {
    let mut identities = fetch(socket, false, console).await?;
    identities.retain(|standing| standing.risk > 0);
    console.answer(&Risked { identities })
}

async fn fetch(
    socket: &AdminSocket,
    quarantined: bool,
    console: Console,
) -> Result<Vec<Standing>, Failure> {
    let server = Server::connect(socket, console).await?;
    Ok(standings(&server, quarantined).await?.into_iter().map(Standing::from).collect())
}

/// How identities stand of whom something was said; or only those in quarantine.
pub(crate) async fn standings(
    server: &Server,
    quarantined: bool,
) -> Result<Vec<wire::Standing>, Failure> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let request = ListStandingsRequest { quarantined, after };
        let mut control = server.control();
        let page = server.ask("list how identities stand", control.list_standings(request)).await?;
        all.extend(page.standings);
        // The numbers rise, so there is an end.
        if page.next <= after {
            return Ok(all);
        }
        after = page.next;
    }
}

/// `{"identities":[…]}`.
#[derive(Debug, Serialize)]
struct Quarantined {
    identities: Vec<Standing>,
}

impl fmt::Display for Quarantined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.identities.is_empty() {
            return f.write_str("nobody is in quarantine");
        }
        let row = |one: &Standing| {
            let since = times::show_unsigned(one.changed_at);
            [one.spiffe_id.clone(), since, one.by.clone(), one.reason.clone()]
        };
        let header = ["SPIFFE ID", "CHANGED", "BY", "REASON"];
        f.write_str(&console::table(header, self.identities.iter().map(row).collect()))
    }
}

/// `{"identities":[…]}`.
#[derive(Debug, Serialize)]
struct Risked {
    identities: Vec<Standing>,
}

impl fmt::Display for Risked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.identities.is_empty() {
            return f.write_str("nobody is risked");
        }
        let row = |one: &Standing| {
            let (risk, since) = (format!("{} %", one.risk), times::show_unsigned(one.changed_at));
            [one.spiffe_id.clone(), risk, since, one.by.clone(), one.reason.clone()]
        };
        let header = ["SPIFFE ID", "RISK", "CHANGED", "BY", "REASON"];
        f.write_str(&console::table(header, self.identities.iter().map(row).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_show_who_and_why() {
        let one = || Standing {
            risk: 40,
            reason: "scans ports".into(),
            by: "uid 0".into(),
            changed_at: 1_800_000_000,
            ..Standing::unsaid(&"spiffe://a.org/x".parse().unwrap())
        };
        let risked = Risked { identities: vec![one()] }.to_string();
        assert!(risked.contains("40 %") && risked.contains("2027-01-15T08:00:00Z"), "{risked}");
        let quarantined = Quarantined { identities: vec![one()] }.to_string();
        assert!(quarantined.contains("scans ports") && quarantined.contains("uid 0"));
        assert_eq!(Risked { identities: vec![] }.to_string(), "nobody is risked");
    }
}
