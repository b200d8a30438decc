//! What a snapshot means for one caller.

use std::collections::HashSet;

use bytes::Bytes;
use claviger_core::selector::Selectors;
use claviger_core::time::UnixTime;
use claviger_proto::workload::{X509BundlesResponse, X509svid, X509svidResponse};

use crate::credentials::{Identity, Snapshot};
use crate::streams::Answer;

/// The caller's SVIDs, the default one first (SPIFFE Workload API §5.2.1).
pub(super) fn x509_svid(
    snapshot: &Snapshot,
    facts: &Selectors,
    now: UnixTime,
) -> Answer<X509svidResponse> {
    let identities = snapshot.admitted(facts, now);
    if identities.is_empty() {
        return Answer::Nobody;
    }
    let federated = snapshot.federated_with(&identities).into_iter();
    let federated_bundles =
        federated.map(|(domain, served)| (domain.id().to_string(), served.x509.clone())).collect();
    let mut hints = HashSet::new();
    let svids: Vec<_> = identities
        .into_iter()
        .filter_map(|identity| svid(identity, &snapshot.bundle().x509, now, &mut hints))
        .collect();
    if svids.is_empty() {
        return Answer::Soon;
    }
    Answer::Message(X509svidResponse { svids, crl: Vec::new(), federated_bundles })
}

/// The identity as a message, if its SVID is there and valid. Of several identities with the same
/// hint, the oldest keeps it; the others stay, without.
fn svid<'a>(
    identity: &'a Identity,
    bundle: &Bytes,
    now: UnixTime,
    hints: &mut HashSet<&'a str>,
) -> Option<X509svid> {
    let entry = &identity.entry;
    let hint = if hints.insert(&entry.hint) { entry.hint.clone() } else { String::new() };
    let svid = identity.svid.as_ref().filter(|svid| svid.validity.contains(now))?;
    Some(X509svid {
        spiffe_id: entry.spiffe_id.to_string(),
        x509_svid: svid.chain.clone(),
        x509_svid_key: svid.key.clone(),
        bundle: bundle.clone(),
        hint,
    })
}

/// The bundles the caller may verify peers with (SPIFFE Workload API §5.2.2).
pub(super) fn x509_bundles(
    snapshot: &Snapshot,
    facts: &Selectors,
    now: UnixTime,
) -> Answer<X509BundlesResponse> {
    let identities = snapshot.admitted(facts, now);
    if identities.is_empty() {
        return Answer::Nobody;
    }
    let own = (snapshot.trust_domain(), snapshot.bundle());
    let federated = snapshot.federated_with(&identities);
    let federated = federated.into_iter().map(|(domain, served)| (domain, &**served));
    let bundles = std::iter::once(own).chain(federated);
    let bundles = bundles.map(|(domain, served)| (domain.id().to_string(), served.x509.clone()));
    Answer::Message(X509BundlesResponse { crl: Vec::new(), bundles: bundles.collect() })
}
