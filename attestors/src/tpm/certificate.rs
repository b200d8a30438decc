//! The certificate of an endorsement key (TCG EK Credential Profile for TPM Family 2.0, §3).

use claviger_core::evidence::KeyDigest;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION, Oid,
    asn1_rs::oid,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::RSAPublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::structure::Key;
use crate::possession::ecdsa::{Curve, without_leading_zeros};

/// `tcg-kp-EKCertificate`: what the certificate is for.
const PURPOSE: Oid<'static> = oid!(2.23.133.8.1);
const MANUFACTURER: Oid<'static> = oid!(2.23.133.2.1);
const MODEL: Oid<'static> = oid!(2.23.133.2.2);
const VERSION: Oid<'static> = oid!(2.23.133.2.3);
/// `id-RSAES-OAEP`: how some vendors write that an RSA key is for OAEP.
const RSAES_OAEP: Oid<'static> = oid!(1.2.840.113549.1.1.7);

/// What the certificate of an EK says.
#[derive(Debug)]
pub(super) struct EkCertificate {
    /// The SHA-256 of its SubjectPublicKeyInfo: the name of the EK.
    pub(super) digest: KeyDigest,
    key: Option<Key>,
    /// Who made the TPM, which it is, and the version that it had when the certificate was made: as
    /// they stand in the certificate, without `id:`. Empty if they don't.
    pub(super) manufacturer: String,
    pub(super) model: String,
    pub(super) version: String,
    /// Why it can't be the certificate of an EK, if so.
    purpose: Result<(), &'static str>,
    pub(super) issuer: String,
}

impl EkCertificate {
    /// Reads the certificate. None if it is none.
    pub(super) fn parse(der: &[u8]) -> Option<Self> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let spki = certificate.public_key();
        Some(Self {
            digest: KeyDigest::of_spki(spki.raw),
            key: key(spki),
            manufacturer: said(&certificate, &MANUFACTURER),
            model: said(&certificate, &MODEL),
            version: said(&certificate, &VERSION),
            purpose: purpose(&certificate),
            issuer: certificate.issuer().to_string(),
        })
    }

    /// That it is for an endorsement key.
    pub(super) const fn check_purpose(&self) -> Result<(), &'static str> {
        self.purpose
    }

    /// Whether it is for `key`.
    pub(super) fn is_for(&self, key: &Key) -> bool {
        match (&self.key, key) {
            (Some(Key::Rsa { modulus: m, exponent: e }), Key::Rsa { modulus, exponent }) => {
                m == modulus && without_leading_zeros(e) == without_leading_zeros(exponent)
            }
            (certified, key) => certified.as_ref() == Some(key),
        }
    }

    /// The key that it is for, if it is one that a TPM has.
    pub(super) const fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }
}

fn key(spki: &SubjectPublicKeyInfo<'_>) -> Option<Key> {
    let kind = &spki.algorithm.algorithm;
    let bits = spki.subject_public_key.as_ref();
    if *kind == OID_PKCS1_RSAENCRYPTION || *kind == RSAES_OAEP {
        let (rest, key) = RSAPublicKey::from_der(bits).ok()?;
        let modulus = without_leading_zeros(key.modulus).to_vec();
        return rest.is_empty().then(|| Key::Rsa { modulus, exponent: key.exponent.to_vec() });
    }
    if *kind != OID_KEY_TYPE_EC_PUBLIC_KEY {
        return None;
    }
    let curve = spki.algorithm.parameters.as_ref()?.as_oid().ok()?;
    let (curve, width) = match curve {
        curve if curve == OID_EC_P256 => (Curve::P256, 32_usize),
        curve if curve == OID_NIST_EC_P384 => (Curve::P384, 48),
        _ => return None,
    };
    let numbers = bits.strip_prefix(&[4])?;
    (numbers.len() == width.saturating_mul(2)).then(|| Key::Ecc { curve, point: bits.to_vec() })
}

/// One of the three things that the subject's alternative name says of the TPM (§3.2.9).
fn said(certificate: &X509Certificate<'_>, what: &Oid<'_>) -> String {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let directory = names.filter_map(|name| match name {
        GeneralName::DirectoryName(name) => Some(name),
        GeneralName::OtherName(..)
        | GeneralName::RFC822Name(_)
        | GeneralName::DNSName(_)
        | GeneralName::X400Address(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::URI(_)
        | GeneralName::IPAddress(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::Invalid(..) => None,
    });
    let mut values = directory.flat_map(|name| name.iter_attributes());
    let value = values.find(|value| value.attr_type() == what);
    let text = value.and_then(|value| value.as_str().ok()).unwrap_or_default();
    text.strip_prefix("id:").unwrap_or(text).to_owned()
}

fn purpose(certificate: &X509Certificate<'_>) -> Result<(), &'static str> {
    let basic =
        certificate.basic_constraints().map_err(|_twice| "its basic constraints are broken")?;
    if basic.is_some_and(|basic| basic.value.ca) {
        return Err("it is the certificate of an authority");
    }
    let usage = certificate.key_usage().map_err(|_twice| "its key usage is broken")?;
    let encrypts =
        usage.is_none_or(|usage| usage.value.key_encipherment() || usage.value.key_agreement());
    if !encrypts {
        return Err("its key usage has neither keyEncipherment nor keyAgreement");
    }
    let purposes = certificate.extended_key_usage();
    let purposes = purposes.map_err(|_twice| "its extended key usage is broken")?;
    let named = purposes.is_some_and(|purposes| purposes.value.other.contains(&PURPOSE));
    if !named {
        return Err("its extended key usage does not name endorsement keys (2.23.133.8.1)");
    }
    Ok(())
}
