//! What a listing of entries selects: every condition that is set must hold.

use claviger_core::id::TrustDomain;
use claviger_core::selector::Selector;
use claviger_proto::convert::{FieldError, ids, selectors};
use claviger_proto::spire::server::entry::v1::{count_entries_request, list_entries_request};
use claviger_proto::spire::types;

use crate::registry::filter::Match;

/// Conditions on an entry.
#[derive(Debug, Default)]
pub(super) struct Filter {
    spiffe_id: Option<types::Spiffeid>,
    parent_id: Option<types::Spiffeid>,
    selectors: Option<Match<Selector>>,
    federates_with: Option<Match<TrustDomain>>,
    hint: Option<String>,
    downstream: Option<bool>,
}

impl Filter {
    pub(super) fn holds(&self, entry: &types::Entry) -> bool {
        let same = |wanted: &Option<types::Spiffeid>, id: &Option<types::Spiffeid>| {
            wanted.is_none() || wanted == id
        };
        same(&self.spiffe_id, &entry.spiffe_id)
            && same(&self.parent_id, &entry.parent_id)
            && self.hint.as_ref().is_none_or(|hint| *hint == entry.hint)
            && self.downstream.is_none_or(|downstream| downstream == entry.downstream)
            && self.selectors.as_ref().is_none_or(|wanted| wanted.holds(&facts(entry)))
            && self.federates_with.as_ref().is_none_or(|wanted| wanted.holds(&foreign(entry)))
    }
}

/// The selectors of a registered entry, which are well formed.
fn facts(entry: &types::Entry) -> claviger_core::selector::Selectors {
    selectors::set(entry.selectors.clone(), "selectors", usize::MAX).unwrap_or_default()
}

fn foreign(entry: &types::Entry) -> std::collections::BTreeSet<TrustDomain> {
    entry.federates_with.iter().filter_map(|name| name.parse().ok()).collect()
}

/// An identity in a filter, checked, so that a typo is not an empty list.
fn checked(
    id: Option<types::Spiffeid>,
    field: &str,
) -> Result<Option<types::Spiffeid>, FieldError> {
    Ok(ids::optional(id, field)?.map(|id| (&id).into()))
}

impl TryFrom<list_entries_request::Filter> for Filter {
    type Error = FieldError;

    fn try_from(wire: list_entries_request::Filter) -> Result<Self, FieldError> {
        Ok(Self {
            spiffe_id: checked(wire.by_spiffe_id, "filter.by_spiffe_id")?,
            parent_id: checked(wire.by_parent_id, "filter.by_parent_id")?,
            selectors: wire
                .by_selectors
                .map(|wanted| Match::selectors(wanted, "filter.by_selectors"))
                .transpose()?,
            federates_with: wire
                .by_federates_with
                .map(|wanted| Match::trust_domains(&wanted, "filter.by_federates_with"))
                .transpose()?,
            hint: wire.by_hint,
            downstream: wire.by_downstream,
        })
    }
}

impl TryFrom<count_entries_request::Filter> for Filter {
    type Error = FieldError;

    fn try_from(wire: count_entries_request::Filter) -> Result<Self, FieldError> {
        list_entries_request::Filter {
            by_spiffe_id: wire.by_spiffe_id,
            by_parent_id: wire.by_parent_id,
            by_selectors: wire.by_selectors,
            by_federates_with: wire.by_federates_with,
            by_hint: wire.by_hint,
            by_downstream: wire.by_downstream,
        }
        .try_into()
    }
}

#[cfg(test)]
mod tests {
    use claviger_proto::spire::types::federates_with_match::MatchBehavior;

    use super::*;
    use crate::registry::fixture::entry;

    #[test]
    fn every_condition_that_is_set_must_hold() {
        let entry = types::Entry::from(&entry("e", "/spire/agent/a", "/web", "unix:uid:1"));
        let filter = |wire| Filter::try_from(wire).unwrap();
        let by_id = list_entries_request::Filter {
            by_spiffe_id: entry.spiffe_id.clone(),
            ..list_entries_request::Filter::default()
        };
        assert!(Filter::default().holds(&entry));
        assert!(filter(by_id.clone()).holds(&entry));
        let and_parent =
            list_entries_request::Filter { by_parent_id: entry.spiffe_id.clone(), ..by_id.clone() };
        assert!(!filter(and_parent).holds(&entry));
        let and_hint = list_entries_request::Filter { by_hint: Some("x".into()), ..by_id };
        assert!(!filter(and_hint).holds(&entry));
    }

    #[test]
    fn each_of_spires_filters_is_honoured() {
        let one = types::Entry {
            federates_with: vec!["a.org".into(), "b.org".into()],
            hint: "main".into(),
            downstream: true,
            ..types::Entry::from(&entry("e", "/spire/agent/a", "/web", "unix:uid:1"))
        };
        let other = types::Entry::from(&entry("o", "/spire/agent/b", "/db", "unix:uid:2"));
        let with = |names: &[&str], how: MatchBehavior| types::FederatesWithMatch {
            trust_domains: names.iter().map(ToString::to_string).collect(),
            r#match: how.into(),
        };
        let by = list_entries_request::Filter::default;
        let parent = one.parent_id.clone();
        for filter in [
            list_entries_request::Filter { by_parent_id: parent, ..by() },
            list_entries_request::Filter { by_hint: Some("main".into()), ..by() },
            list_entries_request::Filter { by_downstream: Some(true), ..by() },
            list_entries_request::Filter {
                by_federates_with: Some(with(&["b.org", "a.org"], MatchBehavior::MatchExact)),
                ..by()
            },
            list_entries_request::Filter {
                by_federates_with: Some(with(&["a.org"], MatchBehavior::MatchSuperset)),
                ..by()
            },
            list_entries_request::Filter {
                by_federates_with: Some(with(&["a.org", "c.org"], MatchBehavior::MatchAny)),
                ..by()
            },
            list_entries_request::Filter {
                by_federates_with: Some(with(
                    &["a.org", "b.org", "c.org"],
                    MatchBehavior::MatchSubset,
                )),
                ..by()
            },
        ] {
            let filter = Filter::try_from(filter).unwrap();
            assert!(filter.holds(&one), "{filter:?}");
            assert!(!filter.holds(&other), "{filter:?}");
        }
        let none =
            Filter::try_from(list_entries_request::Filter { by_downstream: Some(false), ..by() });
        assert!(none.unwrap().holds(&other), "unset is not false");
    }

    #[test]
    fn a_malformed_identity_is_refused() {
        let wire = list_entries_request::Filter {
            by_spiffe_id: Some(types::Spiffeid { trust_domain: "X".into(), path: "/a".into() }),
            ..list_entries_request::Filter::default()
        };
        let error = Filter::try_from(wire).unwrap_err().to_string();
        assert!(error.contains("filter.by_spiffe_id"), "{error}");
    }
}
