//! The bundles a caller may verify peers with: its own trust domain's, and those that its identities
//! federate with. Each response has the keys of one use and no others (SPIFFE Workload API §6.2.2).

use std::collections::HashMap;

use claviger_core::selector::Selectors;
use claviger_core::time::UnixTime;
use claviger_proto::workload::{JwtBundlesResponse, WitBundlesResponse, X509BundlesResponse};

use crate::credentials::{ServedBundle, Snapshot};
use crate::streams::Answer;

/// SPIFFE Workload API §5.2.2.
pub(in crate::workload_api) fn x509_bundles(
    snapshot: &Snapshot,
    facts: &Selectors,
    now: UnixTime,
) -> Answer<X509BundlesResponse> {
    let crl = snapshot.bundle().crl.clone();
    let bundles = bundles(snapshot, facts, now, |served| served.x509.clone());
    answer(bundles.map(|bundles| X509BundlesResponse { crl, bundles }))
}

/// SPIFFE Workload API §6.2.2.
pub(in crate::workload_api) fn jwt_bundles(
    snapshot: &Snapshot,
    facts: &Selectors,
    now: UnixTime,
) -> Answer<JwtBundlesResponse> {
    let bundles = bundles(snapshot, facts, now, |served| served.jwt.clone());
    answer(bundles.map(|bundles| JwtBundlesResponse { bundles }))
}

/// SPIFFE Workload API §7.2.2.
pub(in crate::workload_api) fn wit_bundles(
    snapshot: &Snapshot,
    facts: &Selectors,
    now: UnixTime,
) -> Answer<WitBundlesResponse> {
    let bundles = bundles(snapshot, facts, now, |served| served.wit.clone());
    answer(bundles.map(|bundles| WitBundlesResponse { bundles }))
}

/// The bundles in one of their forms, by trust domain ID; none for somebody without an identity.
fn bundles<B>(
    snapshot: &Snapshot,
    facts: &Selectors,
    now: UnixTime,
    form: impl Fn(&ServedBundle) -> B,
) -> Option<HashMap<String, B>> {
    let identities = snapshot.admitted(facts, now);
    if identities.is_empty() {
        return None;
    }
    let own = (snapshot.trust_domain(), snapshot.bundle());
    let federated = snapshot.federated_with(&identities).into_iter();
    let all = std::iter::once(own).chain(federated.map(|(domain, served)| (domain, &**served)));
    Some(all.map(|(domain, served)| (domain.id().to_string(), form(served))).collect())
}

fn answer<M>(message: Option<M>) -> Answer<M> {
    message.map_or(Answer::Nobody, Answer::Message)
}
