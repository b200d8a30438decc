//! What listings select. Every condition that is set must hold.

use claviger_core::id::TrustDomain;
use claviger_core::selector::{Selector, Selectors};
use claviger_proto::convert::{FieldError, Problem, ids, selectors};
use claviger_proto::spire::types::{
    self, federates_with_match::MatchBehavior as DomainsBehavior,
    selector_match::MatchBehavior as SelectorsBehavior,
};
use std::collections::BTreeSet;

/// The most elements that a set to compare with may have.
const MAX: usize = 64;

/// How a candidate's set relates to the one asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Relation {
    /// It is the same.
    Exact,
    /// It has nothing else, and is not empty.
    Subset,
    /// It has all of it.
    Superset,
    /// It has some of it.
    Any,
}

/// A set to compare with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Match<T> {
    set: BTreeSet<T>,
    relation: Relation,
}

impl<T: Ord> Match<T> {
    /// Whether a candidate's set is as asked for.
    pub fn holds(&self, candidate: &BTreeSet<T>) -> bool {
        match self.relation {
            Relation::Exact => *candidate == self.set,
            Relation::Subset => !candidate.is_empty() && candidate.is_subset(&self.set),
            Relation::Superset => candidate.is_superset(&self.set),
            Relation::Any => !candidate.is_disjoint(&self.set),
        }
    }
}

impl Match<Selector> {
    /// The comparison of selectors in the field `field`.
    ///
    /// # Errors
    ///
    /// [`FieldError`] if the set is empty, too large or malformed, or the relation unknown.
    pub fn selectors(wire: types::SelectorMatch, field: &str) -> Result<Self, FieldError> {
        let relation = match wire.r#match() {
            SelectorsBehavior::MatchExact => Relation::Exact,
            SelectorsBehavior::MatchSubset => Relation::Subset,
            SelectorsBehavior::MatchSuperset => Relation::Superset,
            SelectorsBehavior::MatchAny => Relation::Any,
        };
        let set: Selectors = selectors::set(wire.selectors, "selectors", MAX)
            .map_err(|error| error.within(field))?;
        if set.is_empty() {
            return Err(FieldError::new(format!("{field}.selectors"), Problem::Missing));
        }
        Ok(Self { set, relation })
    }
}

impl Match<TrustDomain> {
    /// The comparison of trust domains in the field `field`.
    ///
    /// # Errors
    ///
    /// [`FieldError`] if the set is empty, too large or malformed, or the relation unknown.
    pub fn trust_domains(
        wire: &types::FederatesWithMatch,
        field: &str,
    ) -> Result<Self, FieldError> {
        let relation = match wire.r#match() {
            DomainsBehavior::MatchExact => Relation::Exact,
            DomainsBehavior::MatchSubset => Relation::Subset,
            DomainsBehavior::MatchSuperset => Relation::Superset,
            DomainsBehavior::MatchAny => Relation::Any,
        };
        let at = format!("{field}.trust_domains");
        if wire.trust_domains.is_empty() {
            return Err(FieldError::new(at, Problem::Missing));
        }
        if MAX < wire.trust_domains.len() {
            let problem = Problem::TooMany { count: wire.trust_domains.len(), max: MAX };
            return Err(FieldError::new(at, problem));
        }
        let set = wire.trust_domains.iter().map(|text| ids::trust_domain(text));
        let set = set.collect::<Result<_, _>>().map_err(|problem| FieldError::new(at, problem))?;
        Ok(Self { set, relation })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wire(texts: &[&str], relation: SelectorsBehavior) -> types::SelectorMatch {
        let selectors = texts.iter().map(|text| (&text.parse::<Selector>().unwrap()).into());
        types::SelectorMatch { selectors: selectors.collect(), r#match: relation.into() }
    }

    #[track_caller]
    fn check(relation: SelectorsBehavior, holding: &[&[&str]], failing: &[&[&str]]) {
        let wanted = Match::selectors(wire(&["a:1", "b:2"], relation), "by").unwrap();
        let set = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        for candidate in holding {
            assert!(wanted.holds(&set(candidate)), "{relation:?} {candidate:?}");
        }
        for candidate in failing {
            assert!(!wanted.holds(&set(candidate)), "{relation:?} {candidate:?}");
        }
    }

    #[test]
    fn each_relation_is_its_own() {
        let (none, one, both) = (&[][..], &["a:1"][..], &["a:1", "b:2"][..]);
        let (more, other) = (&["a:1", "b:2", "c:3"][..], &["c:3"][..]);
        check(SelectorsBehavior::MatchExact, &[both], &[none, one, more, other]);
        check(SelectorsBehavior::MatchSubset, &[one, both], &[none, more, other]);
        check(SelectorsBehavior::MatchSuperset, &[both, more], &[none, one, other]);
        check(SelectorsBehavior::MatchAny, &[one, both, more], &[none, other]);
    }

    proptest! {
        /// Each relation is what its name says about the two sets, and the four fit together.
        #[test]
        fn relations_are_those_of_sets(
            set in prop::collection::btree_set(0_u8..6, 1..4),
            candidate in prop::collection::btree_set(0_u8..6, 0..5),
        ) {
            let holds = |relation| Match { set: set.clone(), relation }.holds(&candidate);
            let shared = candidate.iter().filter(|one| set.contains(one)).count();
            let (all, none_else) = (shared == set.len(), shared == candidate.len());
            prop_assert_eq!(holds(Relation::Exact), all && none_else);
            prop_assert_eq!(holds(Relation::Subset), none_else && !candidate.is_empty());
            prop_assert_eq!(holds(Relation::Superset), all);
            prop_assert_eq!(holds(Relation::Any), 0 < shared);
        }
    }

    #[test]
    fn an_empty_set_selects_nothing_and_is_refused() {
        let error = Match::selectors(wire(&[], SelectorsBehavior::MatchAny), "by").unwrap_err();
        assert_eq!(error.to_string(), "by.selectors: is missing");
        let error = Match::trust_domains(&types::FederatesWithMatch::default(), "by").unwrap_err();
        assert_eq!(error.to_string(), "by.trust_domains: is missing");
    }
}
