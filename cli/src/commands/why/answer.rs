//! What is printed.

use std::fmt;

use claviger_core::reason::Reason;
use claviger_proto::claviger::admin::v1 as server;
use claviger_proto::claviger::node::v1 as node;
use claviger_proto::spire::types;
use serde::Serialize;

use super::advice;
use crate::console;
use crate::times;

/// `{"pid":4242,"agent":"spiffe://…","facts":["unix:uid:0",…],"identities":[…],"near_misses":[…],
/// "elsewhere":[…],"others":0}`.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    pid: Option<i32>,
    agent: String,
    facts: Vec<String>,
    identities: Vec<Identity>,
    near_misses: Vec<NearMiss>,
    /// Entries that the agent does not have, in the server's words.
    elsewhere: Vec<Elsewhere>,
    others: u64,
    /// What to do if there is no entry at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

#[derive(Debug, Serialize)]
struct Identity {
    spiffe_id: String,
    entry_id: String,
    hint: String,
    /// Seconds since the Unix epoch; 0 if there is no SVID.
    svid_not_after: u64,
    reason: Option<String>,
    detail: String,
}

#[derive(Debug, Serialize)]
struct NearMiss {
    spiffe_id: String,
    entry_id: String,
    reason: String,
    detail: String,
    missing: Vec<Missing>,
    advice: Option<String>,
}

#[derive(Debug, Serialize)]
struct Missing {
    selector: String,
    instead: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Elsewhere {
    spiffe_id: String,
    entry_id: String,
    parent_id: String,
    reason: String,
    detail: String,
    missing: Vec<String>,
    missing_on_node: Vec<String>,
}

impl Answer {
    pub(super) fn new(
        pid: Option<i32>,
        told: &node::ExplainResponse,
        elsewhere: Option<&server::ExplainResponse>,
    ) -> Self {
        let nobody = told.identities.is_empty() && told.near_misses.is_empty();
        Self {
            pid,
            agent: told.agent_id.clone(),
            facts: texts(&told.facts),
            identities: told.identities.iter().map(Into::into).collect(),
            near_misses: told.near_misses.iter().map(|miss| near_miss(miss, told)).collect(),
            elsewhere: elsewhere.map(|server| unreached(&server.entries)).unwrap_or_default(),
            others: told.others,
            advice: nobody.then(|| advice::first_entry(told)),
        }
    }

    /// Whether there is an identity.
    pub(super) fn is_somebody(&self) -> bool {
        !self.identities.is_empty()
    }
}

impl From<&node::Identity> for Identity {
    fn from(told: &node::Identity) -> Self {
        Self {
            spiffe_id: told.spiffe_id.clone(),
            entry_id: told.entry_id.clone(),
            hint: told.hint.clone(),
            svid_not_after: told.svid_not_after,
            reason: (!told.reason.is_empty()).then(|| told.reason.clone()),
            detail: told.detail.clone(),
        }
    }
}

fn near_miss(miss: &node::NearMiss, told: &node::ExplainResponse) -> NearMiss {
    let missing = miss.missing.iter().map(|missing| Missing {
        selector: missing.selector.as_ref().map(text).unwrap_or_default(),
        instead: texts(&missing.instead),
    });
    NearMiss {
        spiffe_id: miss.spiffe_id.clone(),
        entry_id: miss.entry_id.clone(),
        reason: miss.reason.clone(),
        detail: miss.detail.clone(),
        missing: missing.collect(),
        advice: advice::mend(miss, told),
    }
}

/// What only the server knows of: entries under other parents.
fn unreached(entries: &[server::ExplainedEntry]) -> Vec<Elsewhere> {
    let elsewhere = |entry: &&server::ExplainedEntry| {
        matches!(entry.reason.parse(), Ok(Reason::OtherParent | Reason::NodeSelectorsMissing))
    };
    let told = |entry: &server::ExplainedEntry| Elsewhere {
        spiffe_id: entry.spiffe_id.clone(),
        entry_id: entry.entry_id.clone(),
        parent_id: entry.parent_id.clone(),
        reason: entry.reason.clone(),
        detail: entry.detail.clone(),
        missing: texts(&entry.missing),
        missing_on_node: texts(&entry.missing_on_node),
    };
    entries.iter().filter(elsewhere).map(told).collect()
}

pub(super) fn text(selector: &types::Selector) -> String {
    format!("{}:{}", selector.r#type, selector.value)
}

fn texts(selectors: &[types::Selector]) -> Vec<String> {
    selectors.iter().map(text).collect()
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => writeln!(f, "process {pid}, as agent {} sees it:", self.agent)?,
            None => writeln!(f, "a process with these selectors, to agent {}:", self.agent)?,
        }
        for fact in &self.facts {
            writeln!(f, "  {fact}")?;
        }
        write!(f, "\ngets {}", if self.is_somebody() { "these" } else { "no identity" })?;
        if self.is_somebody() {
            let rows = self.identities.iter().map(identity_row).collect();
            write!(f, "\n{}", console::table(["SPIFFE ID", "ENTRY ID", "SVID"], rows))?;
        }
        if !self.near_misses.is_empty() {
            let rows = self.near_misses.iter().map(miss_row).collect();
            let header = ["SPIFFE ID", "ENTRY ID", "WHY NOT", "MISSING", "HAS INSTEAD"];
            write!(f, "\n\nnear misses\n{}", console::table(header, rows))?;
        }
        if 0 < self.others {
            write!(f, "\nand {} entries that are farther off", self.others)?;
        }
        if !self.elsewhere.is_empty() {
            let rows = self.elsewhere.iter().map(elsewhere_row).collect();
            let header = ["SPIFFE ID", "ENTRY ID", "PARENT", "WHY NOT", "MISSING"];
            write!(f, "\n\nwhat the server has for others\n{}", console::table(header, rows))?;
        }
        let advice = self.near_misses.iter().filter_map(|miss| miss.advice.as_ref());
        for (at, advice) in advice.chain(&self.advice).enumerate() {
            let head = if at == 0 { "\n\nwhat to do, if it is meant" } else { "" };
            write!(f, "{head}\n  {advice}")?;
        }
        Ok(())
    }
}

fn identity_row(identity: &Identity) -> [String; 3] {
    let svid = match &identity.reason {
        Some(_) => identity.detail.clone(),
        None => format!("until {}", times::show_unsigned(identity.svid_not_after)),
    };
    [identity.spiffe_id.clone(), identity.entry_id.clone(), svid]
}

fn miss_row(miss: &NearMiss) -> [String; 5] {
    let missing: Vec<_> = miss.missing.iter().map(|missing| missing.selector.as_str()).collect();
    let instead = miss.missing.iter().map(|missing| missing.instead.join(" "));
    [
        miss.spiffe_id.clone(),
        miss.entry_id.clone(),
        miss.reason.clone(),
        missing.join("\n"),
        instead.collect::<Vec<_>>().join("\n"),
    ]
}

fn elsewhere_row(entry: &Elsewhere) -> [String; 5] {
    let on_node = entry.missing_on_node.iter().map(|selector| format!("{selector} (node)"));
    let missing = entry.missing.iter().cloned().chain(on_node);
    [
        entry.spiffe_id.clone(),
        entry.entry_id.clone(),
        entry.parent_id.clone(),
        entry.reason.clone(),
        missing.collect::<Vec<_>>().join("\n"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(text: &str) -> types::Selector {
        let (kind, value) = text.split_once(':').unwrap();
        types::Selector { r#type: kind.to_owned(), value: value.to_owned() }
    }

    fn told() -> node::ExplainResponse {
        node::ExplainResponse {
            agent_id: "spiffe://a.org/spire/agent/x".to_owned(),
            facts: vec![selector("unix:path:/b"), selector("unix:uid:1")],
            identities: Vec::new(),
            near_misses: vec![node::NearMiss {
                entry_id: "e1".to_owned(),
                spiffe_id: "spiffe://a.org/web".to_owned(),
                reason: "selectors_missing".to_owned(),
                detail: "…".to_owned(),
                missing: vec![node::MissingSelector {
                    selector: Some(selector("unix:path:/a")),
                    instead: vec![selector("unix:path:/b")],
                }],
                selectors: vec![selector("unix:path:/a"), selector("unix:uid:1")],
            }],
            others: 2,
        }
    }

    #[test]
    fn a_near_miss_is_shown_with_what_would_mend_it() {
        let want = "\
process 7, as agent spiffe://a.org/spire/agent/x sees it:
  unix:path:/b
  unix:uid:1

gets no identity

near misses
SPIFFE ID           ENTRY ID  WHY NOT            MISSING       HAS INSTEAD
spiffe://a.org/web  e1        selectors_missing  unix:path:/a  unix:path:/b
and 2 entries that are farther off

what to do, if it is meant
  claviger entry create --spiffe-id spiffe://a.org/web --parent-id spiffe://a.org/spire/agent/x \
--selector unix:path:/b --selector unix:uid:1";
        let answer = Answer::new(Some(7), &told(), None);
        assert!(!answer.is_somebody());
        assert_eq!(answer.to_string(), want);
    }

    #[test]
    fn identities_come_first_and_others_have_their_place() {
        let mut told = told();
        told.near_misses.clear();
        told.others = 0;
        told.identities = vec![
            node::Identity {
                entry_id: "e2".to_owned(),
                spiffe_id: "spiffe://a.org/db".to_owned(),
                svid_not_after: 1_800_000_000,
                ..node::Identity::default()
            },
            node::Identity {
                entry_id: "e3".to_owned(),
                spiffe_id: "spiffe://a.org/log".to_owned(),
                reason: "svid_refused".to_owned(),
                detail: "the server refuses the SVID: no".to_owned(),
                ..node::Identity::default()
            },
        ];
        let entry = |entry_id: &str, reason: &str| server::ExplainedEntry {
            entry_id: entry_id.to_owned(),
            spiffe_id: "spiffe://a.org/far".to_owned(),
            parent_id: "spiffe://a.org/nodes".to_owned(),
            reason: reason.to_owned(),
            missing_on_node: vec![selector("tpm:pool:z")],
            ..server::ExplainedEntry::default()
        };
        // What the agent knows of anyway is not told twice.
        let entries = vec![entry("e4", "node_selectors_missing"), entry("e2", "")];
        let server = server::ExplainResponse { entries, others: 0 };
        let answer = Answer::new(None, &told, Some(&server));
        assert!(answer.is_somebody());
        let want = "\
gets these
SPIFFE ID           ENTRY ID  SVID
spiffe://a.org/db   e2        until 2027-01-15T08:00:00Z
spiffe://a.org/log  e3        the server refuses the SVID: no

what the server has for others
SPIFFE ID           ENTRY ID  PARENT                WHY NOT                 MISSING
spiffe://a.org/far  e4        spiffe://a.org/nodes  node_selectors_missing  tpm:pool:z (node)";
        assert!(answer.to_string().ends_with(want), "{answer}");
    }

    #[test]
    fn json_is_stable() {
        let json = serde_json::to_string(&Answer::new(Some(7), &told(), None)).unwrap();
        let want = r#"{"pid":7,"agent":"spiffe://a.org/spire/agent/x","#.to_owned()
            + r#""facts":["unix:path:/b","unix:uid:1"],"identities":[],"#
            + r#""near_misses":[{"spiffe_id":"spiffe://a.org/web","entry_id":"e1","#
            + r#""reason":"selectors_missing","detail":"…","#
            + r#""missing":[{"selector":"unix:path:/a","instead":["unix:path:/b"]}],"#;
        assert!(json.starts_with(&want), "{json}");
        assert!(json.ends_with(r#""elsewhere":[],"others":2}"#), "{json}");
    }
}
