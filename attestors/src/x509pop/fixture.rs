//! Authorities and the certificates they issue, for tests.

use std::fs;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize,
};
use rustls_pki_types::CertificateDer;
use tempfile::TempDir;

use super::{Collector, CollectorConfig, OpenCollectorError};

/// Whoever issues certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) der: CertificateDer<'static>,
}

/// A certificate and its key.
pub(crate) struct Issued {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: KeyPair,
}

impl Authority {
    pub(crate) fn root(name: &str) -> Self {
        let (params, key) = (authority(name), ecdsa());
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), der }
    }

    pub(crate) fn rsa_root() -> Self {
        let (params, key) = (authority("RSA root"), rsa());
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), der }
    }

    pub(crate) fn intermediate(&self, edit: impl FnOnce(&mut CertificateParams)) -> Self {
        self.intermediate_of(ecdsa(), edit)
    }

    pub(crate) fn intermediate_of(
        &self,
        key: KeyPair,
        edit: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let mut params = authority("an intermediate");
        edit(&mut params);
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), der }
    }

    /// A certificate for a node, for digital signatures, and no more than `edit` adds.
    pub(crate) fn issue(&self, edit: impl FnOnce(&mut CertificateParams)) -> Issued {
        self.issue_for(ecdsa(), edit)
    }

    pub(crate) fn issue_for(
        &self,
        key: KeyPair,
        edit: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        let mut params = CertificateParams::default();
        params.distinguished_name = named("node-1");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        edit(&mut params);
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Issued { chain: vec![der], key }
    }
}

impl Issued {
    /// Writes both down, and opens a collector of them.
    pub(crate) fn collector(&self, dir: &TempDir) -> Result<Collector, OpenCollectorError> {
        let private_key_path = dir.path().join("key.pem");
        fs::write(&private_key_path, self.key.serialize_pem()).unwrap();
        let certificate_path = write_pem(dir, "chain.pem", &self.chain);
        let intermediates_path = None;
        Collector::open(CollectorConfig { private_key_path, certificate_path, intermediates_path })
    }
}

/// Writes certificates down.
pub(crate) fn write_pem(dir: &TempDir, name: &str, chain: &[CertificateDer<'_>]) -> PathBuf {
    let blocks = chain.iter().map(|der| pem::encode(&pem::Pem::new("CERTIFICATE", der.as_ref())));
    let path = dir.path().join(name);
    fs::write(&path, blocks.collect::<String>()).unwrap();
    path
}

pub(crate) fn ecdsa() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

pub(crate) fn rsa() -> KeyPair {
    KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap()
}

/// A name of this one common name.
pub(crate) fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}
