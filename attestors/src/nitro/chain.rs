//! The certificates in a document: from the root, by way of the region, the zone and the instance, to
//! the key that signed it.
//!
//! The order is given, so there is one path and nothing to search. Every key is on P-384 and every
//! signature is ECDSA with SHA-384; nothing else is computed with. Certificates are not looked up in
//! revocation lists: AWS says not to, and they live for hours.

use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1, UnparsedPublicKey};
use claviger_core::time::UnixTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{
    OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_SIG_ECDSA_WITH_SHA384,
    OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_KEY_USAGE,
};
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use super::document::Document;
use crate::signed::Signed;

/// A chain, in the order of the document: its root is number 0, the signer's own certificate the last.
#[derive(Debug)]
pub(super) struct Chain<'a> {
    authorities: Vec<X509Certificate<'a>>,
    signer: X509Certificate<'a>,
}

/// The length of an uncompressed point of P-384 (SEC 1 §2.3.3).
const POINT: usize = 97;

impl<'a> Chain<'a> {
    /// Reads the certificates of `document`.
    pub(super) fn parse(document: &Document<'a>) -> Result<Self, ChainError> {
        let authorities = document.bundle.iter().enumerate();
        let authorities = authorities.map(|(number, der)| parse(number, der));
        let authorities = authorities.collect::<Result<Vec<_>, _>>()?;
        let signer = parse(authorities.len(), document.certificate)?;
        Ok(Self { authorities, signer })
    }

    /// That each certificate was issued by the one before, which may issue it, and that the last one is
    /// there to sign with (RFC 5280 §6.1). Whoever trusts the first may then trust the last.
    pub(super) fn check(&self) -> Result<(), ChainError> {
        let mut below = self.authorities.len();
        for (number, authority) in self.authorities.iter().enumerate() {
            below = below.saturating_sub(1);
            check_extensions(number, authority)?;
            check_authority(number, authority, below)?;
        }
        check_extensions(self.authorities.len(), &self.signer)?;
        check_signer(self.authorities.len(), &self.signer)?;
        let subjects = self.authorities.iter().skip(1).chain([&self.signer]);
        for (number, (issuer, subject)) in self.authorities.iter().zip(subjects).enumerate() {
            check_link(number.saturating_add(1), issuer, subject)?;
        }
        Ok(())
    }

    /// That every certificate is valid at `at`, or becomes so within `early`.
    pub(super) fn check_validity(&self, at: UnixTime, early: Duration) -> Result<(), ChainError> {
        let (at, soon) = (seconds(at), seconds(at.after(early)));
        for (number, certificate) in self.certificates().enumerate() {
            let validity = certificate.validity();
            if soon < validity.not_before.timestamp() {
                let begins = validity.not_before.to_string();
                return Err(ChainError::TooEarly { number, begins });
            }
            if validity.not_after.timestamp() < at {
                let ended = validity.not_after.to_string();
                return Err(ChainError::TooLate { number, ended });
            }
        }
        Ok(())
    }

    /// The key of the last certificate, as a point of P-384.
    pub(super) fn signer_key(&self) -> Result<&[u8], ChainError> {
        point(self.authorities.len(), self.signer.public_key())
    }

    /// All certificates, the root first.
    pub(super) fn certificates(&self) -> impl Iterator<Item = &X509Certificate<'a>> {
        self.authorities.iter().chain([&self.signer])
    }
}

fn parse<'a>(number: usize, der: &'a [u8]) -> Result<X509Certificate<'a>, ChainError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(ChainError::Malformed { number }),
    }
}

/// Refuses an extension that is there twice, or that is critical and would not be looked at (RFC 5280
/// §4.2).
fn check_extensions(number: usize, certificate: &X509Certificate<'_>) -> Result<(), ChainError> {
    if certificate.extensions_map().is_err() {
        return Err(ChainError::Extension { number });
    }
    let looked_at = [OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_KEY_USAGE];
    let unknown = |oid| !looked_at.contains(oid);
    if certificate.iter_extensions().any(|extension| extension.critical && unknown(&extension.oid))
    {
        return Err(ChainError::Extension { number });
    }
    Ok(())
}

/// That a certificate is an authority's, which may have `below` authorities below it.
fn check_authority(
    number: usize,
    certificate: &X509Certificate<'_>,
    below: usize,
) -> Result<(), ChainError> {
    let constraints = certificate.basic_constraints().ok().flatten();
    let constraints = constraints.filter(|found| found.critical && found.value.ca);
    let constraints = constraints.ok_or(ChainError::NoAuthority { number })?;
    let usage = certificate.key_usage().ok().flatten();
    if !usage.is_some_and(|usage| usage.value.key_cert_sign()) {
        return Err(ChainError::Usage { number, of: "keyCertSign" });
    }
    let allowed = constraints.value.path_len_constraint;
    if allowed.is_some_and(|allowed| usize::try_from(allowed).is_ok_and(|allowed| allowed < below))
    {
        return Err(ChainError::PathLength { number, below });
    }
    Ok(())
}

/// That a certificate is one to sign documents with, and no authority's.
fn check_signer(number: usize, certificate: &X509Certificate<'_>) -> Result<(), ChainError> {
    let constraints =
        certificate.basic_constraints().map_err(|_twice| ChainError::Extension { number })?;
    let is_authority = constraints
        .is_some_and(|found| found.value.ca || found.value.path_len_constraint.is_some());
    if is_authority {
        return Err(ChainError::Authority { number });
    }
    let usage = certificate.key_usage().ok().flatten();
    if !usage.is_some_and(|usage| usage.value.digital_signature()) {
        return Err(ChainError::Usage { number, of: "digitalSignature" });
    }
    Ok(())
}

/// That `issuer` issued `subject`, which is certificate `number`.
fn check_link(
    number: usize,
    issuer: &X509Certificate<'_>,
    subject: &X509Certificate<'_>,
) -> Result<(), ChainError> {
    if issuer.subject().as_raw() != subject.issuer().as_raw() {
        return Err(ChainError::Name { number });
    }
    let algorithm = &subject.signature_algorithm;
    if !is_ecdsa_with_sha384(algorithm) || *algorithm != subject.tbs_certificate.signature {
        return Err(ChainError::Algorithm { number });
    }
    let key = point(number.saturating_sub(1), issuer.public_key())?;
    let signed = Signed::parse(subject.as_raw());
    let signed = signed.map_err(|_loosely_framed| ChainError::Signature { number })?;
    UnparsedPublicKey::new(&ECDSA_P384_SHA384_ASN1, key)
        .verify(signed.content, signed.signature)
        .map_err(|_unspecified| ChainError::Signature { number })
}

/// ECDSA with SHA-384 has no parameters (RFC 5758 §3.2).
fn is_ecdsa_with_sha384(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    algorithm.algorithm == OID_SIG_ECDSA_WITH_SHA384 && algorithm.parameters.is_none()
}

/// The point of P-384 that is a key (RFC 5480 §2).
fn point<'k>(number: usize, key: &'k SubjectPublicKeyInfo<'_>) -> Result<&'k [u8], ChainError> {
    let curve = key.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
    let is_p384 = key.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY
        && curve.is_some_and(|curve| curve == OID_NIST_EC_P384);
    let point = &*key.subject_public_key.data;
    if is_p384 && point.len() == POINT { Ok(point) } else { Err(ChainError::Key { number }) }
}

fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// Why a chain does not lead from its first certificate to its last.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChainError {
    #[error("certificate {number} is no X.509 certificate in DER")]
    Malformed { number: usize },
    #[error(
        "certificate {number} has an extension twice, or a critical one that is not known here"
    )]
    Extension { number: usize },
    #[error("certificate {number} is no authority's (critical basic constraints)")]
    NoAuthority { number: usize },
    #[error("certificate {number} is an authority's, and has to be the signer's")]
    Authority { number: usize },
    #[error("certificate {number} is not for {of} (key usage)")]
    Usage { number: usize, of: &'static str },
    #[error("certificate {number} has {below} authorities below it, more than it allows")]
    PathLength { number: usize, below: usize },
    #[error("certificate {number} does not name the one before as its issuer")]
    Name { number: usize },
    #[error("certificate {number} is not signed with ECDSA and SHA-384")]
    Algorithm { number: usize },
    #[error("certificate {number} has no key on P-384")]
    Key { number: usize },
    #[error("certificate {number} is not signed by the key of the one before")]
    Signature { number: usize },
    #[error("certificate {number} is not valid before {begins}")]
    TooEarly { number: usize, begins: String },
    #[error("certificate {number} was valid until {ended}")]
    TooLate { number: usize, ended: String },
}
