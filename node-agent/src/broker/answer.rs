//! What a snapshot means for the workload that a broker acts for.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use claviger_core::entry::Entry;
use claviger_core::selector::Selectors;
use claviger_core::time::UnixTime;
use claviger_proto::broker as wire;

use crate::credentials::{Identity, ServedBundle, Snapshot};
use crate::delegated::delegable;
use crate::streams::Answer;
use crate::tokens::Token;
use crate::workload_api::Hints;

pub(super) use crate::delegated::entries;

/// The workload's X.509-SVIDs, the default one first.
pub(super) fn x509_svids(
    snapshot: &Snapshot,
    facts: &Selectors,
    now: UnixTime,
) -> Answer<wire::SubscribeToX509svidResponse> {
    let identities = delegable(snapshot, facts, now);
    if identities.is_empty() {
        return Answer::Nobody;
    }
    let federated = snapshot.federated_with(&identities).into_iter();
    let federated_bundles =
        federated.map(|(domain, served)| (domain.id().to_string(), served.x509.clone())).collect();
    let mut hints = Hints::default();
    let bundle = &snapshot.bundle().x509;
    let svids: Vec<_> = identities
        .into_iter()
        .filter_map(|identity| svid(identity, bundle, now, &mut hints))
        .collect();
    if svids.is_empty() {
        return Answer::Soon;
    }
    let crl = Vec::new();
    Answer::Message(wire::SubscribeToX509svidResponse { svids, crl, federated_bundles })
}

fn svid<'a>(
    identity: &'a Identity,
    bundle: &Bytes,
    now: UnixTime,
    hints: &mut Hints<'a>,
) -> Option<wire::X509svid> {
    let hint = hints.next(&identity.entry);
    let svid = identity.x509.want(now)?;
    Some(wire::X509svid {
        spiffe_id: identity.entry.spiffe_id.to_string(),
        x509_svid: svid.chain.clone(),
        x509_svid_key: svid.key.clone(),
        bundle: bundle.clone(),
        hint,
    })
}

/// The bundles that the workload may verify peers with.
pub(super) fn x509_bundles(
    snapshot: &Snapshot,
    facts: &Selectors,
    now: UnixTime,
) -> Answer<wire::SubscribeToX509BundlesResponse> {
    let crl = snapshot.bundle().crl.clone();
    let message = |bundles| wire::SubscribeToX509BundlesResponse { crl, bundles };
    let bundles = bundles(snapshot, facts, now, |served| served.x509.clone());
    bundles.map_or(Answer::Nobody, |bundles| Answer::Message(message(bundles)))
}

/// The same, of the keys for JWT-SVIDs.
pub(super) fn jwt_bundles(
    snapshot: &Snapshot,
    facts: &Selectors,
    now: UnixTime,
) -> Answer<wire::SubscribeToJwtBundlesResponse> {
    let message = |bundles| wire::SubscribeToJwtBundlesResponse { bundles };
    let bundles = bundles(snapshot, facts, now, |served| served.jwt.clone());
    bundles.map_or(Answer::Nobody, |bundles| Answer::Message(message(bundles)))
}

fn bundles(
    snapshot: &Snapshot,
    facts: &Selectors,
    now: UnixTime,
    form: impl Fn(&ServedBundle) -> Bytes,
) -> Option<HashMap<String, Bytes>> {
    let identities = delegable(snapshot, facts, now);
    if identities.is_empty() {
        return None;
    }
    let federated = snapshot.federated_with(&identities).into_values().map(|served| &**served);
    let all = std::iter::once(snapshot.bundle()).chain(federated);
    Some(all.map(|served| (served.bundle.trust_domain.id().to_string(), form(served))).collect())
}

/// Tokens as a message.
pub(super) fn jwt_svids(tokens: &[(Arc<Entry>, Arc<Token>)]) -> wire::FetchJwtsvidResponse {
    let mut hints = Hints::default();
    let svids = tokens.iter().map(|(entry, token)| wire::Jwtsvid {
        spiffe_id: entry.spiffe_id.to_string(),
        svid: token.jwt.to_string(),
        hint: hints.next(entry),
    });
    wire::FetchJwtsvidResponse { svids: svids.collect() }
}
