//! What signs SVIDs in tests.

use std::time::Duration;

use claviger_core::svid::Validity;
use claviger_core::time::{Clock, SystemClock, UnixTime};
use claviger_runtime::tls::{Svid, TrustBundle};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use time::OffsetDateTime;

/// An authority of `example.org`.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, "test");
        params.subject_alt_names = vec![uri("spiffe://example.org")];
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(super) fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(super) fn bundle(&self) -> TrustBundle {
        TrustBundle::new("example.org".parse().unwrap(), &[self.der()]).unwrap()
    }

    /// The certificate that `csr` asks for, in the name of `id`, for `ttl`.
    pub(super) fn sign(
        &self,
        csr: &[u8],
        id: &str,
        ttl: Duration,
    ) -> Option<CertificateDer<'static>> {
        let csr = CertificateSigningRequestDer::from(csr.to_vec());
        let mut csr = CertificateSigningRequestParams::from_der(&csr).ok()?;
        csr.params = params(id, ttl);
        Some(csr.signed_by(&self.0).unwrap().der().clone())
    }

    /// An SVID with its key.
    pub(super) fn svid(&self, id: &str) -> Svid {
        let key = KeyPair::generate().unwrap();
        let certificate = params(id, Duration::from_secs(3_600)).signed_by(&key, &self.0).unwrap();
        Svid::new(vec![certificate.der().clone()], key.serialized_der()).unwrap()
    }
}

fn params(id: &str, ttl: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, "test");
    params.subject_alt_names = vec![uri(id)];
    params.not_before = date(SystemClock.now().before(Validity::CUSHION));
    params.not_after = date(SystemClock.now().after(ttl));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn uri(id: &str) -> SanType {
    SanType::URI(id.try_into().unwrap())
}

fn date(time: UnixTime) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(time.as_secs().try_into().unwrap()).unwrap()
}
