//! Entries, printed.

use std::fmt;

use claviger_proto::spire::types;
use serde::Serialize;

use super::document::Document;
use crate::commands::selection::{selector_lines, spiffe_id};
use crate::console;
use crate::times;

/// `{"entries":[…]}`; after `--wait` also `"reached"` and `"pending"`, SPIFFE IDs of agents.
#[derive(Debug, Serialize)]
pub(super) struct Listing<'a> {
    entries: Vec<Document>,
    #[serde(skip)]
    wire: &'a [types::Entry],
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) spread: Option<Spread>,
}

/// Which agents have the entries.
#[derive(Debug, Serialize)]
pub(super) struct Spread {
    pub(super) reached: Vec<String>,
    pub(super) pending: Vec<String>,
}

impl<'a> Listing<'a> {
    pub(super) fn of(wire: &'a [types::Entry]) -> Self {
        Self { entries: wire.iter().map(Into::into).collect(), wire, spread: None }
    }
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.wire.is_empty() {
            return f.write_str("no entries");
        }
        let rows = self.wire.iter().map(row).collect();
        let header = ["ENTRY ID", "SPIFFE ID", "PARENT", "SELECTORS", "MORE"];
        f.write_str(&console::table(header, rows))?;
        let Some(spread) = &self.spread else { return Ok(()) };
        if spread.reached.is_empty() && spread.pending.is_empty() {
            f.write_str("\nno connected agent is concerned")?;
        }
        for agent in &spread.reached {
            write!(f, "\nserved by {agent}")?;
        }
        Ok(())
    }
}

fn row(entry: &types::Entry) -> [String; 5] {
    [
        entry.id.clone(),
        spiffe_id(entry.spiffe_id.as_ref()),
        spiffe_id(entry.parent_id.as_ref()),
        selector_lines(&entry.selectors),
        more(entry),
    ]
}

/// What is not as usual, one per line.
fn more(entry: &types::Entry) -> String {
    let mut lines = Vec::new();
    let mut say = |unusual: bool, text: String| {
        if unusual {
            lines.push(text);
        }
    };
    say(entry.admin, "admin".into());
    say(entry.downstream, "downstream".into());
    say(entry.store_svid, "store SVID".into());
    say(entry.x509_svid_ttl != 0, format!("X.509 {} s", entry.x509_svid_ttl));
    say(entry.jwt_svid_ttl != 0, format!("JWT {} s", entry.jwt_svid_ttl));
    let attributes = entry.additional_attributes.unwrap_or_default();
    say(attributes.disable_x509_svid_prefetch, "X.509 on demand".into());
    say(attributes.jwt_svid_include_jti, "JWT with jti".into());
    say(!entry.hint.is_empty(), format!("hint {}", entry.hint));
    say(entry.expires_at != 0, format!("ends {}", times::show(entry.expires_at)));
    lines.extend(entry.dns_names.iter().map(|name| format!("DNS {name}")));
    lines.extend(entry.federates_with.iter().map(|domain| format!("federates {domain}")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<types::Entry> {
        let id =
            |path: &str| Some(types::Spiffeid { trust_domain: "a.org".into(), path: path.into() });
        let selector = |value: &str| types::Selector { r#type: "unix".into(), value: value.into() };
        vec![types::Entry {
            id: "e1".into(),
            spiffe_id: id("/web"),
            parent_id: id("/node"),
            selectors: vec![selector("uid:1"), selector("path:/w")],
            hint: "main".into(),
            dns_names: vec!["web".into()],
            ..types::Entry::default()
        }]
    }

    #[test]
    fn a_table_shows_every_selector_and_what_is_unusual() {
        let want = "\
ENTRY ID  SPIFFE ID           PARENT               SELECTORS     MORE
e1        spiffe://a.org/web  spiffe://a.org/node  unix:uid:1    hint main
                                                   unix:path:/w  DNS web";
        assert_eq!(Listing::of(&entries()).to_string(), want);
        assert_eq!(Listing::of(&[]).to_string(), "no entries");
    }

    #[test]
    fn after_a_wait_it_is_said_who_serves_them() {
        let entries = entries();
        let mut listing = Listing::of(&entries);
        listing.spread = Some(Spread { reached: Vec::new(), pending: Vec::new() });
        let nobody = listing.to_string();
        assert!(nobody.ends_with("\nno connected agent is concerned"), "{nobody}");
        let reached = vec!["spiffe://a.org/node".to_owned()];
        listing.spread = Some(Spread { reached, pending: Vec::new() });
        let somebody = listing.to_string();
        assert!(somebody.ends_with("\nserved by spiffe://a.org/node"), "{somebody}");
    }

    #[test]
    fn json_has_every_field() {
        let mut entries = entries();
        entries[0].selectors.truncate(1);
        let entries = entries;
        let mut listing = Listing::of(&entries);
        let want = r#"{"entries":[{"entry_id":"e1","spiffe_id":"spiffe://a.org/web","#.to_owned()
            + r#""parent_id":"spiffe://a.org/node","#
            + r#""selectors":[{"type":"unix","value":"uid:1"}],"x509_svid_ttl":0,"#
            + r#""jwt_svid_ttl":0,"federates_with":[],"admin":false,"downstream":false,"#
            + r#""expires_at":0,"dns_names":["web"],"store_svid":false,"hint":"main","#
            + r#""additional_attributes":{"disable_x509_svid_prefetch":false,"#
            + r#""jwt_svid_include_jti":false},"#
            + r#""revision_number":0,"created_at":0}]"#;
        assert_eq!(serde_json::to_string(&listing).unwrap(), format!("{want}}}"));
        listing.spread =
            Some(Spread { reached: vec!["spiffe://a.org/node".into()], pending: vec![] });
        let spread = r#","reached":["spiffe://a.org/node"],"pending":[]}"#;
        assert_eq!(serde_json::to_string(&listing).unwrap(), want + spread);
    }
}
