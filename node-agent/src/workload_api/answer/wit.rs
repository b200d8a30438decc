//! WIT-SVIDs for the caller (SPIFFE Workload API §7.2.1).

use std::sync::Arc;

use claviger_core::id::SpiffeId;
use claviger_core::selector::Selectors;
use claviger_core::time::UnixTime;
use claviger_proto::workload::{Witsvid, WitsvidResponse};

use super::Hints;
use crate::credentials::{Snapshot, WorkloadWit};
use crate::streams::Answer;

/// What a response will say. The keys are shared until the moment it is sent.
#[derive(Clone, Debug)]
pub(in crate::workload_api) struct WitSvids(Vec<One>);

#[derive(Clone, Debug)]
struct One {
    id: SpiffeId,
    hint: String,
    svid: Arc<WorkloadWit>,
}

/// The caller's SVIDs, the default one first, or the one that is `named`.
pub(in crate::workload_api) fn wit_svids(
    snapshot: &Snapshot,
    facts: &Selectors,
    now: UnixTime,
    named: Option<&SpiffeId>,
) -> Answer<WitSvids> {
    let mut identities = snapshot.admitted(facts, now);
    identities.retain(|identity| named.is_none_or(|named| identity.entry.spiffe_id == *named));
    if identities.is_empty() {
        return Answer::Nobody;
    }
    let mut hints = Hints::default();
    let svids: Vec<_> = identities
        .into_iter()
        .filter_map(|identity| {
            let (id, hint) = (identity.entry.spiffe_id.clone(), hints.next(&identity.entry));
            Some(One { id, hint, svid: Arc::clone(identity.wit.want(now)?) })
        })
        .collect();
    if svids.is_empty() { Answer::Soon } else { Answer::Message(WitSvids(svids)) }
}

impl PartialEq for One {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.svid, &other.svid) && (&self.id, &self.hint) == (&other.id, &other.hint)
    }
}

impl PartialEq for WitSvids {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl From<WitSvids> for WitsvidResponse {
    fn from(svids: WitSvids) -> Self {
        let one = |One { id, hint, svid }: One| Witsvid {
            spiffe_id: id.to_string(),
            wit_svid: svid.token.to_string(),
            wit_svid_key: svid.key.to_string(),
            hint,
        };
        Self { svids: svids.0.into_iter().map(one).collect() }
    }
}
