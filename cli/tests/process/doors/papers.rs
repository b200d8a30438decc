//! Certificates, good ones and others: the server's own authority signs them, so that nothing is wrong with
//! them but what is said.

use std::fs;

use claviger_tests::process::Deployment;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SigningKey, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A certificate and its key.
#[derive(Debug)]
pub(super) struct Papers {
    pub(super) chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl Papers {
    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.clone()).into()
    }
}

/// The X.509 authority of a server, as whoever has stolen it has it.
pub(super) struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    /// That of the server of `deployment`.
    pub(super) fn of(deployment: &Deployment) -> Self {
        let bundle = CertificateDer::from_pem_slice(deployment.bundle().as_bytes()).unwrap();
        let keys = fs::read_dir(deployment.dir().join("server/keys")).unwrap();
        let keys = keys.map(|entry| entry.unwrap().path());
        let is_x509 = |name: &str| name.starts_with("x509-");
        let mut keys = keys.filter(|path| is_x509(path.file_name().unwrap().to_str().unwrap()));
        let key = PrivatePkcs8KeyDer::from(fs::read(keys.next().unwrap()).unwrap());
        let key = KeyPair::try_from(&key).unwrap();
        Self(Issuer::from_ca_cert_der(&bundle, key).unwrap())
    }

    /// A good certificate of `names`, but for what `change` does to it.
    pub(super) fn issue(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Papers {
        issue(&self.0, names, change)
    }
}

/// Another authority, which says that it is one of `example.org`, or of whatever else: its certificate as
/// PEM, and a certificate of `name` by it.
pub(super) fn foreign(domain: &str, name: &str) -> (String, Papers) {
    let mut ca = params(&[domain]);
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    ca.extended_key_usages = Vec::new();
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    (ca.pem(), issue(&ca, &[name], |_| {}))
}

fn issue(
    issuer: &Issuer<'_, impl SigningKey>,
    names: &[&str],
    change: impl FnOnce(&mut CertificateParams),
) -> Papers {
    let mut params = params(names);
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    Papers { chain: vec![certificate.der().clone()], key: key.serialize_der() }
}

fn params(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names =
        names.iter().map(|name| SanType::URI((*name).try_into().unwrap())).collect();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2090, 1, 1);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}
