//! Authorities and SVIDs for tests, at a time that stands still.

use std::sync::Arc;
use std::time::Duration;

use claviger_core::id::TrustDomain;
use claviger_core::time::{Clock, UnixTime};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;

use super::{Identity, Svid, TrustBundle};

/// When the tests take place.
pub(super) const START: UnixTime = UnixTime::from_secs(1_800_000_000);

/// SVIDs of tests are valid from half of it before [`START`] until half of it after.
pub(super) const LIFETIME: Duration = Duration::from_secs(3_600);

/// A clock that stands still.
#[derive(Debug)]
pub(super) struct At(pub(super) UnixTime);

impl Clock for At {
    fn now(&self) -> UnixTime {
        self.0
    }
}

pub(super) fn clock() -> Arc<dyn Clock> {
    Arc::new(At(START))
}

/// What signs SVIDs.
pub(super) struct Authority {
    trust_domain: &'static str,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new(trust_domain: &'static str) -> Self {
        Self::with(trust_domain, |_| {})
    }

    pub(super) fn with(
        trust_domain: &'static str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let mut ca = authority_params(trust_domain, "root");
        change(&mut ca);
        let issuer = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        Self { trust_domain, issuer }
    }

    /// An authority that this one vouches for.
    pub(super) fn intermediate(&self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut ca = authority_params(self.trust_domain, "intermediate");
        change(&mut ca);
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::signed_by(ca, key, &self.issuer).unwrap();
        Self { trust_domain: self.trust_domain, issuer }
    }

    pub(super) fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    pub(super) fn bundle(&self) -> TrustBundle {
        TrustBundle::new(trust_domain(self.trust_domain), &[self.der()]).unwrap()
    }

    /// The chain and the PKCS#8 key of a new SVID.
    pub(super) fn issue(&self, path: &str) -> (Vec<CertificateDer<'static>>, Vec<u8>) {
        self.issue_with(path, |_| {})
    }

    pub(super) fn issue_with(
        &self,
        path: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (Vec<CertificateDer<'static>>, Vec<u8>) {
        let mut svid = CertificateParams::default();
        svid.distinguished_name.push(DnType::OrganizationName, "test");
        svid.subject_alt_names = uri_names(&[&format!("spiffe://{}{path}", self.trust_domain)]);
        svid.not_before = date(START.before(LIFETIME / 2));
        svid.not_after = date(START.after(LIFETIME / 2));
        svid.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        svid.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut svid);
        let key = KeyPair::generate().unwrap();
        let certificate = svid.signed_by(&key, &self.issuer).unwrap();
        (vec![certificate.der().clone()], key.serialize_der())
    }

    pub(super) fn svid(&self, path: &str) -> Svid {
        let (chain, key) = self.issue(path);
        Svid::new(chain, &key).unwrap()
    }

    pub(super) fn identity(&self, path: &str) -> Identity {
        Identity::new(self.svid(path))
    }
}

fn authority_params(trust_domain: &str, name: &str) -> CertificateParams {
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, name);
    ca.subject_alt_names = uri_names(&[&format!("spiffe://{trust_domain}")]);
    ca.not_before = date(START.before(LIFETIME * 24));
    ca.not_after = date(START.after(LIFETIME * 24));
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    ca
}

pub(super) fn trust_domain(name: &str) -> TrustDomain {
    name.parse().unwrap()
}

pub(super) fn uri_names(uris: &[&str]) -> Vec<SanType> {
    uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect()
}

pub(super) fn date(time: UnixTime) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(time.as_secs().try_into().unwrap()).unwrap()
}
