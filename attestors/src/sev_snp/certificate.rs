//! What AMD's certificates and its lists of revoked ones have in common: they are signed by
//! RSASSA-PSS with SHA-384 (publication 57230, chapter 3).

use std::fmt;

use aws_lc_rs::signature::RSA_PSS_2048_8192_SHA384;
use claviger_core::time::UnixTime;
use x509_parser::asn1_rs::{Oid, oid};
use x509_parser::certificate::{Validity, X509Certificate};
use x509_parser::oid_registry::{OID_NIST_HASH_SHA384, OID_PKCS1_RSASSAPSS};
use x509_parser::prelude::FromDer as _;
use x509_parser::signature_algorithm::SignatureAlgorithm;
use x509_parser::time::ASN1Time;
use x509_parser::x509::{AlgorithmIdentifier, X509Name};

use crate::possession::rsa::RsaKey;
use crate::signed::Signed;

const MGF1: Oid<'static> = oid!(1.2.840.113549.1.1.8);

/// The longest common name or text that is taken from a certificate.
const MAX_TEXT: usize = 256;

/// Reads one certificate, with nothing behind it.
pub(super) fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Some(certificate),
        Ok(_) | Err(_) => None,
    }
}

/// Whether `key` signed `whole`, a certificate or a list of revoked ones whose algorithm was read as
/// `algorithm`.
pub(super) fn is_signed(whole: &[u8], algorithm: &AlgorithmIdentifier<'_>, key: &RsaKey) -> bool {
    is_pss_sha384(algorithm)
        && Signed::parse(whole).is_ok_and(|Signed { content, signature }| {
            key.has_signed(&RSA_PSS_2048_8192_SHA384, content, signature)
        })
}

/// RSASSA-PSS with SHA-384 in both places and as long a salt (RFC 4055 §3.1). AMD writes the trailer
/// field sometimes, and sometimes not.
fn is_pss_sha384(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    if algorithm.algorithm != OID_PKCS1_RSASSAPSS {
        return false;
    }
    let Ok(SignatureAlgorithm::RSASSA_PSS(parameters)) = SignatureAlgorithm::try_from(algorithm)
    else {
        return false;
    };
    let mask = parameters.mask_gen_algorithm();
    *parameters.hash_algorithm_oid() == OID_NIST_HASH_SHA384
        && mask.is_ok_and(|mask| mask.mgf == MGF1 && mask.hash == OID_NIST_HASH_SHA384)
        && parameters.salt_length() == 48
        && parameters.trailer_field() == 1
}

/// The one common name in a name.
pub(super) fn common_name<'a>(name: &'a X509Name<'_>) -> Option<&'a str> {
    let mut names = name.iter_common_name();
    let only = names.next()?.as_str().ok()?;
    (names.next().is_none() && only.len() <= MAX_TEXT).then_some(only)
}

/// From when to when something is valid, both included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Period {
    begin: i64,
    end: i64,
}

impl Period {
    pub(super) fn of(validity: &Validity) -> Self {
        Self::between(validity.not_before, validity.not_after)
    }

    pub(super) fn between(begin: ASN1Time, end: ASN1Time) -> Self {
        Self { begin: begin.timestamp(), end: end.timestamp() }
    }

    pub(super) fn contains(self, now: UnixTime) -> bool {
        i64::try_from(now.as_secs()).is_ok_and(|now| (self.begin..=self.end).contains(&now))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |seconds| jiff::Timestamp::from_second(seconds).unwrap_or_default();
        write!(f, "{} to {}", time(self.begin), time(self.end))
    }
}
