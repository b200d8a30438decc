//! Which entries are meant.

use clap::Args;
use claviger_core::id::{SpiffeId, TrustDomain};
use claviger_core::selector::Selector;
use claviger_proto::spire::server::entry::v1::{count_entries_request, list_entries_request};

use crate::commands::selection::{self, Match};

/// Every filter that is given must hold.
#[derive(Args, Debug)]
pub(crate) struct Filter {
    /// Only those that give this identity
    #[arg(long, alias = "spiffeID", value_name = "ID")]
    spiffe_id: Option<SpiffeId>,

    /// Only those under this parent
    #[arg(long, alias = "parentID", value_name = "ID")]
    parent_id: Option<SpiffeId>,

    /// Only those with this selector; may be repeated
    #[arg(long = "selector", value_name = "KIND:VALUE")]
    selectors: Vec<Selector>,

    /// How --selector is compared with an entry's selectors
    #[arg(
        long,
        alias = "matchSelectorsOn",
        value_enum,
        value_name = "HOW",
        default_value = "superset"
    )]
    match_selectors_on: Match,

    /// Only those that federate with this trust domain; may be repeated
    #[arg(long, alias = "federatesWith", value_name = "DOMAIN", value_parser = selection::trust_domain)]
    federates_with: Vec<TrustDomain>,

    /// How --federates-with is compared with an entry's trust domains
    #[arg(
        long,
        alias = "matchFederatesWithOn",
        value_enum,
        value_name = "HOW",
        default_value = "superset"
    )]
    match_federates_with_on: Match,

    /// Only those with this hint
    #[arg(long, value_name = "TEXT")]
    hint: Option<String>,

    /// Only those for servers that sign below this one
    #[arg(long)]
    downstream: bool,
}

impl Filter {
    pub(super) fn to_list(&self) -> list_entries_request::Filter {
        list_entries_request::Filter {
            by_spiffe_id: self.spiffe_id.as_ref().map(Into::into),
            by_parent_id: self.parent_id.as_ref().map(Into::into),
            by_selectors: self.match_selectors_on.selectors(&self.selectors),
            by_federates_with: self.match_federates_with_on.trust_domains(&self.federates_with),
            by_hint: self.hint.clone(),
            by_downstream: self.downstream.then_some(true),
        }
    }

    pub(super) fn to_count(&self) -> count_entries_request::Filter {
        let list_entries_request::Filter {
            by_spiffe_id,
            by_parent_id,
            by_selectors,
            by_federates_with,
            by_hint,
            by_downstream,
        } = self.to_list();
        count_entries_request::Filter {
            by_spiffe_id,
            by_parent_id,
            by_selectors,
            by_federates_with,
            by_hint,
            by_downstream,
        }
    }
}
