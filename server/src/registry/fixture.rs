//! Entries and bundles for tests.

use std::collections::BTreeSet;

use claviger_core::entry::Entry;
use claviger_core::id::{SpiffeId, TrustDomain};
use claviger_core::time::UnixTime;
use claviger_proto::spire::types;
use rcgen::{CertificateParams, KeyPair};

pub(crate) fn domain() -> TrustDomain {
    "example.org".parse().unwrap()
}

pub(crate) fn id(path: &str) -> SpiffeId {
    domain().join(path).unwrap()
}

pub(crate) fn entry(name: &str, parent: &str, identity: &str, selector: &str) -> Entry {
    Entry {
        id: name.parse().unwrap(),
        spiffe_id: id(identity),
        parent_id: id(parent),
        selectors: [selector.parse().unwrap()].into(),
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
        x509_on_demand: false,
        jwt_jti: false,
    }
}

/// The certificate of some authority.
pub(crate) fn certificate() -> types::X509Certificate {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::default().self_signed(&key).unwrap();
    types::X509Certificate { asn1: certificate.der().to_vec().into(), tainted: false }
}

/// A bundle with one X.509 authority.
pub(crate) fn bundle(trust_domain: &str, sequence: u64) -> types::Bundle {
    types::Bundle {
        trust_domain: trust_domain.to_owned(),
        x509_authorities: vec![certificate()],
        sequence_number: sequence,
        ..types::Bundle::default()
    }
}
