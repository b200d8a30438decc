//! Signers, and documents of all shapes that they sign.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use claviger_core::time::UnixTime;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize, SanType,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// When the documents of the tests are judged: in March 2026.
pub(crate) const NOW: UnixTime = UnixTime::from_secs(1_773_000_000);

/// What the signers of these tests are certified with: made once, because that takes a while.
static KEYS: LazyLock<[Vec<u8>; 3]> = LazyLock::new(|| {
    [(), (), ()].map(|()| {
        let key = rcgen::KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048);
        key.unwrap().serialize_der()
    })
});

/// Somebody with an RSA key and a certificate.
pub(crate) struct Signer {
    key: Vec<u8>,
    params: CertificateParams,
    pub(crate) certificate: Vec<u8>,
}

impl Signer {
    /// One with the `key`th key and a certificate of their own, valid from 2025 to 2027.
    pub(crate) fn new(key: usize, name: &str) -> Self {
        let key = KEYS[key].clone();
        let params = params(name);
        let certificate = params.self_signed(&pair(&key)).unwrap().der().to_vec();
        Self { key, params, certificate }
    }

    /// One who may certify others.
    pub(crate) fn authority(key: usize, name: &str) -> Self {
        let mut authority = Self::new(key, name);
        authority.params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        authority.certificate =
            authority.params.self_signed(&pair(&authority.key)).unwrap().der().to_vec();
        authority
    }

    /// One whom this authority certifies, for a TLS server with these names.
    pub(crate) fn issue(&self, key: usize, name: &str, dns: &[&str]) -> Self {
        let mut params = params(name);
        params.subject_alt_names =
            dns.iter().map(|name| SanType::DnsName((*name).try_into().unwrap())).collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.certify(key, params)
    }

    /// An authority whom this one certifies.
    pub(crate) fn issue_authority(&self, key: usize, name: &str) -> Self {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        self.certify(key, params)
    }

    fn certify(&self, key: usize, params: CertificateParams) -> Self {
        let key = KEYS[key].clone();
        let issuer = Issuer::new(self.params.clone(), pair(&self.key));
        let certificate = params.signed_by(&pair(&key), &issuer).unwrap().der().to_vec();
        Self { key, params, certificate }
    }

    /// An RSA signature with SHA-256.
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let key = KeyPair::from_pkcs8(&self.key).unwrap();
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    }

    /// This signer's certificate, in PEM.
    pub(crate) fn pem(&self) -> String {
        pem::encode(&pem::Pem::new("CERTIFICATE", self.certificate.clone()))
    }
}

fn pair(key: &[u8]) -> rcgen::KeyPair {
    rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&key.into(), &PKCS_RSA_SHA256).unwrap()
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2025, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    params
}

/// The encoding of a value with this tag.
pub(crate) fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let octets = u16::try_from(content.len()).unwrap().to_be_bytes();
    let header = match content.len() {
        0..0x80 => vec![tag, octets[1]],
        0x80..0x100 => vec![tag, 0x81, octets[1]],
        _ => vec![tag, 0x82, octets[0], octets[1]],
    };
    [header, content].concat()
}

/// The same, of indefinite length.
fn open(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    [&[tag, 0x80], parts.concat().as_slice(), &[0, 0]].concat()
}

/// An AlgorithmIdentifier with NULL for parameters.
pub(crate) fn algorithm(oid: &[u8]) -> Vec<u8> {
    der(0x30, &[&der(6, &[oid]), &[5, 0]])
}

pub(crate) const SHA256_ID: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
pub(crate) const SHA1_ID: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
pub(crate) const RSA_ID: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
pub(crate) const RSA_SHA256_ID: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
const DATA_ID: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
const SIGNED_ID: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
const CONTENT_TYPE_ID: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
const DIGEST_ID: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];

/// An attribute with one value.
pub(crate) fn attribute(oid: &[u8], value: &[u8]) -> Vec<u8> {
    der(0x30, &[&der(6, &[oid]), &der(0x31, &[value])])
}

/// The two attributes that have to be there.
pub(crate) fn content_type() -> Vec<u8> {
    attribute(CONTENT_TYPE_ID, &der(6, &[DATA_ID]))
}

pub(crate) fn message_digest(content: &[u8]) -> Vec<u8> {
    attribute(DIGEST_ID, &der(4, &[digest(&SHA256, content).as_ref()]))
}

/// A document in the making: each field can be spoiled.
#[derive(Clone)]
pub(crate) struct Document {
    pub(crate) version: Vec<u8>,
    pub(crate) announced: Vec<u8>,
    pub(crate) content: Option<Vec<u8>>,
    pub(crate) certificates: Vec<Vec<u8>>,
    pub(crate) revocations: Vec<Vec<u8>>,
    pub(crate) signers: Vec<Vec<u8>>,
    /// In BER, as AWS writes it, and the content in pieces.
    pub(crate) indefinite: bool,
}

impl Document {
    /// As Azure writes it: without attributes, with the signer's certificate.
    pub(crate) fn bare(signer: &Signer, content: &[u8]) -> Self {
        let info = Info { digest: algorithm(RSA_SHA256_ID), ..Info::of(signer) };
        Self {
            version: vec![1],
            announced: algorithm(RSA_SHA256_ID),
            content: Some(content.to_vec()),
            certificates: vec![signer.certificate.clone()],
            revocations: Vec::new(),
            signers: vec![info.sign(signer, content)],
            indefinite: false,
        }
    }

    /// As AWS writes it: with attributes, without certificates.
    pub(crate) fn attributed(signer: &Signer, content: &[u8]) -> Self {
        let info = Info::of(signer).with(&[content_type(), message_digest(content)]);
        Self {
            version: vec![1],
            announced: algorithm(SHA256_ID),
            content: Some(content.to_vec()),
            certificates: Vec::new(),
            revocations: Vec::new(),
            signers: vec![info.sign(signer, content)],
            indefinite: true,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let wrap = if self.indefinite { open } else { der };
        let content = self.content.as_ref().map(|content| {
            let (one, two) = content.split_at(content.len() / 2);
            let octets = if self.indefinite {
                open(0x24, &[&der(4, &[one]), &der(4, &[two])])
            } else {
                der(4, &[content])
            };
            wrap(0xa0, &[&octets])
        });
        let optional = |tag, values: &[Vec<u8>]| {
            if values.is_empty() { Vec::new() } else { wrap(tag, &[&values.concat()]) }
        };
        let data = wrap(
            0x30,
            &[
                &der(2, &[&self.version]),
                &der(0x31, &[&self.announced]),
                &wrap(0x30, &[&der(6, &[DATA_ID]), &content.unwrap_or_default()]),
                &optional(0xa0, &self.certificates),
                &optional(0xa1, &self.revocations),
                &der(0x31, &[&self.signers.concat()]),
            ],
        );
        wrap(0x30, &[&der(6, &[SIGNED_ID]), &wrap(0xa0, &[&data])])
    }
}

/// A SignerInfo in the making.
pub(crate) struct Info {
    pub(crate) version: Vec<u8>,
    pub(crate) sid: Vec<u8>,
    pub(crate) digest: Vec<u8>,
    pub(crate) attributes: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    pub(crate) unsigned: Vec<u8>,
}

impl Info {
    /// One that names `signer` by the issuer and the serial number of the certificate.
    pub(crate) fn of(signer: &Signer) -> Self {
        let (_, certificate) = X509Certificate::from_der(&signer.certificate).unwrap();
        let serial = der(2, &[certificate.raw_serial()]);
        Self {
            version: vec![1],
            sid: der(0x30, &[certificate.issuer().as_raw(), &serial]),
            digest: algorithm(SHA256_ID),
            attributes: Vec::new(),
            signature: algorithm(RSA_ID),
            unsigned: Vec::new(),
        }
    }

    pub(crate) fn with(mut self, attributes: &[Vec<u8>]) -> Self {
        self.attributes = attributes.concat();
        self
    }

    /// The encoding, with the signature of `signer`: over the attributes, or else over `content`.
    pub(crate) fn sign(&self, signer: &Signer, content: &[u8]) -> Vec<u8> {
        let (attributes, signed) = if self.attributes.is_empty() {
            (Vec::new(), content.to_vec())
        } else {
            (der(0xa0, &[&self.attributes]), der(0x31, &[&self.attributes]))
        };
        der(
            0x30,
            &[
                &der(2, &[&self.version]),
                &self.sid,
                &self.digest,
                &attributes,
                &self.signature,
                &der(4, &[&signer.sign(&signed)]),
                &self.unsigned,
            ],
        )
    }
}
