//! What would mend it.

use claviger_core::reason::Reason;
use claviger_proto::claviger::node::v1 as node;
use claviger_proto::spire::types;

use super::answer::text;

/// What would let the process have the entry that it just misses, where that makes sense.
pub(super) fn mend(miss: &node::NearMiss, told: &node::ExplainResponse) -> Option<String> {
    let id = &miss.entry_id;
    match miss.reason.parse().ok()? {
        Reason::SelectorsMissing => another_entry(miss, told),
        Reason::EntryExpired => {
            Some(format!("claviger entry delete --entry-id {id}   # and create it anew"))
        }
        Reason::ForSecretStore => Some(format!(
            "claviger entry show --entry-id {id}   # a second entry without --store-svid would do"
        )),
        Reason::Quarantined => {
            Some("claviger quarantine list   # and lift it when the reason is gone".to_owned())
        }
        Reason::OverEntryLimit => Some("raise `limits.entries` in the agent's file".to_owned()),
        Reason::NoEntry
        | Reason::SvidPending
        | Reason::SvidRefused
        | Reason::OtherParent
        | Reason::NodeSelectorsMissing => None,
    }
}

/// An entry for the same identity that asks for what the process has in place of what is missing.
/// There is none to propose where it has nothing, or several things, in its place.
fn another_entry(miss: &node::NearMiss, told: &node::ExplainResponse) -> Option<String> {
    let replaced = |selector: &types::Selector| {
        let missing = miss.missing.iter().find(|one| one.selector.as_ref() == Some(selector));
        match missing {
            None => Some(selector.clone()),
            Some(missing) => match missing.instead.as_slice() {
                [only] => Some(only.clone()),
                _ => None,
            },
        }
    };
    let selectors = miss.selectors.iter().map(replaced).collect::<Option<Vec<_>>>()?;
    Some(create(&miss.spiffe_id, &told.agent_id, &selectors))
}

/// An entry where there is none: for the user and the program, as far as they are known.
pub(super) fn first_entry(told: &node::ExplainResponse) -> String {
    let telling =
        |fact: &&types::Selector| ["uid:", "path:"].iter().any(|name| fact.value.starts_with(name));
    let mut facts: Vec<_> = told.facts.iter().filter(telling).cloned().collect();
    if facts.is_empty() {
        facts.clone_from(&told.facts);
    }
    let domain = told.agent_id.strip_prefix("spiffe://").and_then(|rest| rest.split('/').next());
    let id = format!("spiffe://{}/NAME", domain.unwrap_or("TRUST-DOMAIN"));
    create(&id, &told.agent_id, &facts)
}

fn create(id: &str, agent: &str, selectors: &[types::Selector]) -> String {
    let mut command = format!("claviger entry create --spiffe-id {}", quoted(id));
    if !agent.is_empty() {
        command.push_str(" --parent-id ");
        command.push_str(&quoted(agent));
    }
    for selector in selectors {
        command.push_str(" --selector ");
        command.push_str(&quoted(&text(selector)));
    }
    command
}

/// `word` as a shell takes it for one word.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(value: &str) -> types::Selector {
        types::Selector { r#type: "unix".to_owned(), value: value.to_owned() }
    }

    #[test]
    fn a_first_entry_names_user_and_program() {
        let told = node::ExplainResponse {
            agent_id: "spiffe://a.org/spire/agent/x".to_owned(),
            facts: vec![fact("gid:1"), fact("path:/it's here"), fact("uid:1")],
            ..node::ExplainResponse::default()
        };
        assert_eq!(
            first_entry(&told),
            r"claviger entry create --spiffe-id spiffe://a.org/NAME --parent-id spiffe://a.org/spire/agent/x --selector 'unix:path:/it'\''s here' --selector unix:uid:1"
        );
    }

    #[test]
    fn nothing_is_proposed_where_it_is_not_clear() {
        let missing = |instead| node::MissingSelector { selector: Some(fact("path:/a")), instead };
        let miss = |instead| node::NearMiss {
            reason: "selectors_missing".to_owned(),
            missing: vec![missing(instead)],
            selectors: vec![fact("path:/a")],
            ..node::NearMiss::default()
        };
        let told = node::ExplainResponse::default();
        assert_eq!(mend(&miss(Vec::new()), &told), None);
        assert_eq!(mend(&miss(vec![fact("gid:1"), fact("gid:2")]), &told), None);
        assert!(mend(&miss(vec![fact("path:/b")]), &told).unwrap().ends_with("unix:path:/b"));
        let of = |reason: &str| node::NearMiss { reason: reason.to_owned(), ..miss(Vec::new()) };
        assert!(mend(&of("over_entry_limit"), &told).unwrap().contains("limits.entries"));
        assert_eq!(mend(&of("a_reason_of_tomorrow"), &told), None);
    }
}
