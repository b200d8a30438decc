//! Who may administrate over the network without an entry that says so.

use std::collections::BTreeSet;

use claviger_core::id::{SpiffeId, TrustDomain};
use claviger_runtime::settings::Section;

/// The key, and the most identities under it.
const KEY: &str = "admin-ids";
const MOST: usize = 100;

pub(super) fn read(root: &mut Section<'_>, own: Option<&TrustDomain>) -> BTreeSet<SpiffeId> {
    let ids: Vec<SpiffeId> = root.value(KEY).unwrap_or_default();
    if MOST < ids.len() {
        let advice = format!("at most {MOST} are allowed; register the others with `--admin`");
        root.problem(KEY, &ids.len(), advice);
    }
    for id in &ids {
        if own.is_some_and(|own| id.trust_domain() != own) {
            root.problem(KEY, id, "belongs to another trust domain, and is not let in");
        } else if id.is_reserved() || id.is_trust_domain() {
            root.problem(KEY, id, "is no workload's; name one with another path");
        }
    }
    ids.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn parse(ids: &str) -> Result<Config, String> {
        let text = format!(
            "trust-domain = \"example.org\"\ndata-dir = \"/var/lib/x\"\nadmin-ids = [{ids}]\n"
        );
        Config::parse(&text).map_err(|problems| problems.to_string())
    }

    #[test]
    fn workloads_of_ours_may_be_named() {
        let config = parse("\"spiffe://example.org/ops\", \"spiffe://example.org/ci\"").unwrap();
        let ids: Vec<_> = config.admin_ids.iter().map(ToString::to_string).collect();
        assert_eq!(ids, ["spiffe://example.org/ci", "spiffe://example.org/ops"]);
        assert!(parse("").unwrap().admin_ids.is_empty());
    }

    #[test]
    fn others_are_refused() {
        for (id, why) in [
            ("spiffe://other.org/ops", "another trust domain"),
            ("spiffe://example.org/spire/agent/a", "no workload's"),
            ("spiffe://example.org", "no workload's"),
            ("http://example.org/ops", "admin-ids"),
        ] {
            let told = parse(&format!("\"{id}\"")).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
        let many: Vec<_> = (0..101).map(|n| format!("\"spiffe://example.org/{n}\"")).collect();
        assert!(parse(&many.join(",")).unwrap_err().contains("at most 100"));
    }
}
