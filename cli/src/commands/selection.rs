//! What several nouns select by.

use clap::ValueEnum;
use claviger_core::id::TrustDomain;
use claviger_core::selector::Selector;
use claviger_proto::convert::{Problem, ids};
use claviger_proto::spire::types;

/// How a set on the command line is compared with a candidate's
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Match {
    /// The candidate has exactly these
    Exact,
    /// The candidate has none but these
    Subset,
    /// The candidate has all of these, and perhaps more
    Superset,
    /// The candidate has at least one of these
    Any,
}

impl Match {
    /// The filter for `wanted`; none if nothing is.
    pub(crate) fn selectors(self, wanted: &[Selector]) -> Option<types::SelectorMatch> {
        use types::selector_match::MatchBehavior as Wire;

        let behavior = match self {
            Self::Exact => Wire::MatchExact,
            Self::Subset => Wire::MatchSubset,
            Self::Superset => Wire::MatchSuperset,
            Self::Any => Wire::MatchAny,
        };
        (!wanted.is_empty()).then(|| types::SelectorMatch {
            selectors: wanted.iter().map(Into::into).collect(),
            r#match: behavior.into(),
        })
    }

    /// The filter for `wanted`; none if nothing is.
    pub(crate) fn trust_domains(self, wanted: &[TrustDomain]) -> Option<types::FederatesWithMatch> {
        use types::federates_with_match::MatchBehavior as Wire;

        let behavior = match self {
            Self::Exact => Wire::MatchExact,
            Self::Subset => Wire::MatchSubset,
            Self::Superset => Wire::MatchSuperset,
            Self::Any => Wire::MatchAny,
        };
        (!wanted.is_empty()).then(|| types::FederatesWithMatch {
            trust_domains: wanted.iter().map(ToString::to_string).collect(),
            r#match: behavior.into(),
        })
    }
}

/// A trust domain, as `example.org` or as SPIRE's manual has it, `spiffe://example.org`.
pub(super) fn trust_domain(text: &str) -> Result<TrustDomain, Problem> {
    ids::trust_domain(text)
}

/// The SPIFFE ID in a message, as text; empty if there is none.
pub(super) fn spiffe_id(wire: Option<&types::Spiffeid>) -> String {
    wire.map(|id| format!("spiffe://{}{}", id.trust_domain, id.path)).unwrap_or_default()
}

/// The selectors in a message, one per line.
pub(super) fn selector_lines(wire: &[types::Selector]) -> String {
    let lines: Vec<_> = wire.iter().map(|one| format!("{}:{}", one.r#type, one.value)).collect();
    lines.join("\n")
}
