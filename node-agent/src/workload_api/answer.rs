//! What a snapshot means for one caller.
//!
//! | to find | look in |
//! |---|---|
//! | X.509-SVIDs | here |
//! | WIT-SVIDs | `wit` |
//! | bundles, of every kind | `bundles` |
//! | what the operator calls an identity | `hints` |

mod bundles;
mod hints;
mod wit;

use bytes::Bytes;
use claviger_core::selector::Selectors;
use claviger_core::time::UnixTime;
use claviger_proto::workload::{X509svid, X509svidResponse};

use crate::credentials::{Identity, Snapshot};
use crate::streams::Answer;

pub(super) use bundles::{jwt_bundles, wit_bundles, x509_bundles};
pub(crate) use hints::Hints;
pub(super) use wit::wit_svids;

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
    let mut hints = Hints::default();
    let svids: Vec<_> = identities
        .into_iter()
        .filter_map(|identity| svid(identity, &snapshot.bundle().x509, now, &mut hints))
        .collect();
    if svids.is_empty() {
        return Answer::Soon;
    }
    let crl = snapshot.bundle().crl.clone();
    Answer::Message(X509svidResponse { svids, crl, federated_bundles })
}

/// The identity as a message, if its SVID is there and valid.
fn svid<'a>(
    identity: &'a Identity,
    bundle: &Bytes,
    now: UnixTime,
    hints: &mut Hints<'a>,
) -> Option<X509svid> {
    let entry = &identity.entry;
    let hint = hints.next(entry);
    let svid = identity.x509.want(now)?;
    Some(X509svid {
        spiffe_id: entry.spiffe_id.to_string(),
        x509_svid: svid.chain.clone(),
        x509_svid_key: svid.key.clone(),
        bundle: bundle.clone(),
        hint,
    })
}
