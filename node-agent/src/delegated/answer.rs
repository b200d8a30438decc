//! What a snapshot means for somebody whom a delegate acts for.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use claviger_core::der;
use claviger_core::entry::Entry;
use claviger_core::selector::Selectors;
use claviger_core::time::UnixTime;
use claviger_proto::convert::times;
use claviger_proto::spire::agent::delegatedidentity::v1 as wire;
use claviger_proto::spire::types;

use crate::credentials::{Identity, ServedBundle, Snapshot, WorkloadSvid};
use crate::streams::Answer;

/// The workload's X.509-SVIDs, the default one first. None at all is an answer, too, as in SPIRE: the
/// delegate waits for a workload that has no identity yet.
pub(super) fn x509_svids(
    snapshot: &Snapshot,
    facts: &Selectors,
    now: UnixTime,
) -> Answer<wire::SubscribeToX509sviDsResponse> {
    let identities = delegable(snapshot, facts, now);
    let svids = identities.iter().filter_map(|identity| Some((identity, identity.x509.want(now)?)));
    let x509_svids: Vec<_> =
        svids.filter_map(|(identity, svid)| with_key(&identity.entry, svid)).collect();
    if x509_svids.is_empty() && !identities.is_empty() {
        return Answer::Soon;
    }
    let federates_with =
        snapshot.federated_with(&identities).into_keys().map(|domain| domain.id().to_string());
    let federates_with = federates_with.collect();
    Answer::Message(wire::SubscribeToX509sviDsResponse { x509_svids, federates_with })
}

/// What a workload is entitled to and a delegate may have, oldest first.
pub(crate) fn entries(snapshot: &Snapshot, facts: &Selectors, now: UnixTime) -> Vec<Arc<Entry>> {
    let identities = delegable(snapshot, facts, now).into_iter();
    identities.map(|identity| Arc::clone(&identity.entry)).collect()
}

/// The identities of a workload that others may act as, oldest first.
pub(crate) fn delegable<'a>(
    snapshot: &'a Snapshot,
    facts: &Selectors,
    now: UnixTime,
) -> Vec<&'a Identity> {
    let mut identities = snapshot.admitted(facts, now);
    identities.retain(|identity| !identity.entry.admin && !identity.entry.downstream);
    identities
}

/// The SVID as a message. What the agent holds has been taken apart before, so it can be again.
fn with_key(entry: &Entry, svid: &WorkloadSvid) -> Option<wire::X509svidWithKey> {
    let x509_svid = types::X509svid {
        cert_chain: der::split(&svid.chain).ok()?,
        id: Some((&entry.spiffe_id).into()),
        expires_at: times::to_wire(svid.validity.not_after),
        hint: entry.hint.clone(),
    };
    Some(wire::X509svidWithKey { x509_svid: Some(x509_svid), x509_svid_key: svid.key.clone() })
}

/// Every bundle that the agent knows.
pub(super) fn x509_bundles(
    snapshot: &Snapshot,
    _nobody: &Selectors,
    _now: UnixTime,
) -> Answer<wire::SubscribeToX509BundlesResponse> {
    let ca_certificates = bundles(snapshot, |served| served.x509.clone());
    Answer::Message(wire::SubscribeToX509BundlesResponse { ca_certificates })
}

/// The same, of the keys for JWT-SVIDs.
pub(super) fn jwt_bundles(
    snapshot: &Snapshot,
    _nobody: &Selectors,
    _now: UnixTime,
) -> Answer<wire::SubscribeToJwtBundlesResponse> {
    let bundles = bundles(snapshot, |served| served.jwt.clone());
    Answer::Message(wire::SubscribeToJwtBundlesResponse { bundles })
}

fn bundles(snapshot: &Snapshot, form: impl Fn(&ServedBundle) -> Bytes) -> HashMap<String, Bytes> {
    let all = snapshot.bundles();
    all.map(|served| (served.bundle.trust_domain.id().to_string(), form(served))).collect()
}
