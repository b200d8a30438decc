//! What the tests of this crate share.

use std::collections::BTreeSet;

use claviger_core::entry::Entry;
use claviger_core::time::UnixTime;

/// The time at which tests happen.
pub(crate) const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

/// An entry named `id` that gives `spiffe://example.org/id` to whoever shows `selectors`.
pub(crate) fn entry(id: &str, selectors: &[&str]) -> Entry {
    Entry {
        id: id.parse().unwrap(),
        spiffe_id: format!("spiffe://example.org/{id}").parse().unwrap(),
        parent_id: "spiffe://example.org/spire/agent/test".parse().unwrap(),
        selectors: selectors.iter().map(|selector| selector.parse().unwrap()).collect(),
        x509_svid_ttl: None,
        jwt_svid_ttl: None,
        federates_with: BTreeSet::new(),
        admin: false,
        downstream: false,
        expires_at: None,
        dns_names: Vec::new(),
        revision: 0,
        store_svid: false,
        hint: String::new(),
        created_at: UnixTime::from_secs(5),
    }
}
