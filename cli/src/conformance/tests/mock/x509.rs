//! The mock's X.509-SVIDs.

use std::collections::HashMap;

use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use bytes::Bytes;
use claviger_proto::workload::{X509BundlesResponse, X509svid, X509svidResponse};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

use super::{Fault, IDS, Mock, OWN};

/// A certificate that signs others.
pub(super) struct Authority {
    pub(super) der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn root(id: &str) -> Self {
        let (params, key) = (Self::params(id, id), KeyPair::generate().unwrap());
        let certificate = params.self_signed(&key).unwrap();
        Self { der: certificate.der().to_vec(), issuer: Issuer::new(params, key) }
    }

    fn intermediate(&self, fault: Option<Fault>) -> Self {
        let mut params = Self::params("intermediate", "spiffe://example.org");
        match fault {
            Some(Fault::IntermediateIsNoCa) => params.is_ca = IsCa::ExplicitNoCa,
            Some(Fault::IntermediateCannotSign) => {
                params.key_usages = vec![KeyUsagePurpose::CrlSign];
            }
            _ => {}
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Self { der: certificate.der().to_vec(), issuer: Issuer::new(params, key) }
    }

    fn params(name: &str, id: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![uri(id)];
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }
}

fn uri(id: &str) -> SanType {
    SanType::URI(id.try_into().unwrap())
}

impl Mock {
    /// The complete state of a stream.
    pub(super) fn x509_svids(&self) -> X509svidResponse {
        let mut svids: Vec<_> = IDS.into_iter().map(|id| self.x509_svid(id)).collect();
        match self.fault {
            Some(Fault::NoSvids) => svids.clear(),
            Some(Fault::HintsEqual) => svids.iter_mut().for_each(|s| s.hint = "same".to_owned()),
            Some(Fault::HintLong) => svids[0].hint = "h".repeat(1025),
            Some(Fault::IdFieldEmpty) => svids[0].spiffe_id.clear(),
            Some(Fault::IdFieldOther) => svids[0].spiffe_id = "spiffe://example.org/other".into(),
            Some(Fault::BundleFieldEmpty) => svids[0].bundle.clear(),
            _ => {}
        }
        let federated = match self.fault {
            Some(Fault::FederatedBundlePem) => b"-----BEGIN CERTIFICATE-----".to_vec(),
            _ => self.material.foreign_root.der.clone(),
        };
        let federated_bundles =
            HashMap::from([("spiffe://conformance.test".to_owned(), federated.into())]);
        X509svidResponse { svids, crl: Vec::new(), federated_bundles }
    }

    fn x509_svid(&self, id: &str) -> X509svid {
        let intermediate = self.material.root.intermediate(self.fault);
        let key = KeyPair::generate().unwrap();
        let hint = id.rsplit('/').next().unwrap().to_owned();
        let id = if self.has(Fault::LeafIdWithoutPath) { "spiffe://example.org" } else { id };
        let leaf = self.leaf_params(id).signed_by(&key, &intermediate.issuer).unwrap();
        let chain = match self.fault {
            Some(Fault::ChainReversed) => [&intermediate.der[..], leaf.der()].concat(),
            Some(Fault::ChainPem) => leaf.pem().into_bytes(),
            _ => [leaf.der(), &intermediate.der[..]].concat(),
        };
        let bundle = match self.fault {
            Some(Fault::BundleOfAnother) => Self::another_root(),
            _ => self.material.root.der.clone(),
        };
        X509svid {
            spiffe_id: id.to_owned(),
            x509_svid: chain.into(),
            x509_svid_key: self.private_key(&key).into(),
            bundle: bundle.into(),
            hint,
        }
    }

    fn private_key(&self, key: &KeyPair) -> Vec<u8> {
        let pkcs8 = key.serialize_der();
        match self.fault {
            Some(Fault::KeyOfAnother) => KeyPair::generate().unwrap().serialize_der(),
            Some(Fault::KeySec1) => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8);
                let key = pair.unwrap();
                let sec1: EcPrivateKeyRfc5915Der<'_> = key.private_key().as_der().unwrap();
                sec1.as_ref().to_vec()
            }
            _ => pkcs8,
        }
    }

    fn leaf_params(&self, id: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "workload");
        params.subject_alt_names = vec![uri(id)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        match self.fault {
            Some(Fault::LeafIsCa) => params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
            Some(Fault::LeafWithoutUriSan) => {
                params.subject_alt_names = vec![SanType::DnsName("web".try_into().unwrap())];
            }
            Some(Fault::LeafWithTwoUriSans) => params.subject_alt_names.push(uri(IDS[1])),
            Some(Fault::LeafNamelessSanNotCritical) => {
                params.distinguished_name = DistinguishedName::new();
                params.subject_alt_names.clear();
                params.custom_extensions.push(names(id));
            }
            Some(Fault::LeafWithoutKeyUsage) => params.key_usages.clear(),
            Some(Fault::LeafKeyUsageNotCritical) => {
                params.key_usages.clear();
                // A BIT STRING with the first bit, digitalSignature.
                let usage = CustomExtension::from_oid_content(&[2, 5, 29, 15], vec![3, 2, 7, 128]);
                params.custom_extensions.push(usage);
            }
            Some(Fault::LeafCannotSign) => {
                params.key_usages = vec![KeyUsagePurpose::KeyAgreement];
            }
            Some(Fault::LeafSignsCertificates) => {
                params.key_usages.push(KeyUsagePurpose::KeyCertSign);
            }
            Some(Fault::LeafWithoutExtendedKeyUsage) => params.extended_key_usages.clear(),
            Some(Fault::LeafForServersOnly) => params.extended_key_usages.truncate(1),
            Some(Fault::LeafExpired) => params.not_after = date_time_ymd(2020, 1, 1),
            _ => {}
        }
        params
    }

    fn another_root() -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        let params = Authority::params("another", &format!("spiffe://{OWN}"));
        let root: Certificate = params.self_signed(&key).unwrap();
        root.der().to_vec()
    }

    pub(super) fn x509_bundles(&self) -> X509BundlesResponse {
        let own = match self.fault {
            Some(Fault::BundlesKeyedByName) => "example.org",
            _ => "spiffe://example.org",
        };
        let foreign = match self.fault {
            Some(Fault::AuthorityInTwoBundles) => &self.material.root.der,
            _ => &self.material.foreign_root.der,
        };
        let mut bundles = HashMap::from([
            (own.to_owned(), self.material.root.der.clone().into()),
            ("spiffe://conformance.test".to_owned(), foreign.clone().into()),
        ]);
        match self.fault {
            Some(Fault::BundlesWithoutOwn) => drop(bundles.remove(own)),
            Some(Fault::BundlesOwnEmpty) => drop(bundles.insert(own.to_owned(), Bytes::new())),
            _ => {}
        }
        X509BundlesResponse { crl: Vec::new(), bundles }
    }
}

/// Subject alternative names that are not critical: one URI (RFC 5280 §4.2.1.6).
fn names(id: &str) -> CustomExtension {
    let length = u8::try_from(id.len()).unwrap();
    let content = [&[0x30, length + 2, 0x86, length][..], id.as_bytes()].concat();
    CustomExtension::from_oid_content(&[2, 5, 29, 17], content)
}
