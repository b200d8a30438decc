//! What an authority says about one of its certificates: an OCSP response (RFC 6960 §4.2).

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, VerificationAlgorithm,
};
use claviger_core::time::UnixTime;
use std::time::Duration;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;

use super::chain;
use crate::cms::ber::{
    BIT_STRING, CONTEXT_0, CONTEXT_1, Element, INTEGER, NotBer, OBJECT_IDENTIFIER, OCTET_STRING,
    Reader, SEQUENCE,
};

/// The largest response, in bytes. Real ones have one or two thousand.
pub(super) const MAX: usize = 16 << 10;

const ENUMERATED: u8 = 0x0a;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0] IMPLICIT NULL` and `[2] IMPLICIT NULL`.
const GOOD: u8 = 0x80;
const UNKNOWN: u8 = 0x82;

/// `id-pkix-ocsp-basic`.
const BASIC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];
const ID_SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
const ID_SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
const ID_SHA384: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
const RSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c];

/// By how much the clocks of two machines may differ.
const SKEW: Duration = Duration::from_secs(300);
/// How long a response counts that does not say when the next one comes.
const A_DAY: Duration = Duration::from_secs(86_400);

/// A response, taken apart. Nothing of it is verified.
#[derive(Debug)]
pub struct Response<'a> {
    /// What is signed, whole.
    signed: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
    /// The certificates of whom the authority lets speak for it, in DER.
    responders: Vec<&'a [u8]>,
    answers: Vec<Answer<'a>>,
}

/// What is said about one certificate.
#[derive(Debug)]
struct Answer<'a> {
    hash: &'a [u8],
    issuer_name: &'a [u8],
    issuer_key: &'a [u8],
    serial: &'a [u8],
    status: Status,
    since: UnixTime,
    until: Option<UnixTime>,
}

/// How a certificate stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Status {
    Good,
    /// For this reason (RFC 5280 §5.3.1), of which 6 is that it is on hold.
    Revoked(Option<u8>),
    Unknown,
}

impl<'a> Response<'a> {
    /// Takes a response apart.
    ///
    /// # Errors
    ///
    /// None but that it is no successful response of the basic type.
    pub fn parse(der: &'a [u8]) -> Option<Self> {
        if MAX < der.len() {
            return None;
        }
        Self::read(der).ok()
    }

    fn read(der: &'a [u8]) -> Result<Self, NotBer> {
        let mut outer = whole(der)?.inside()?;
        if outer.expect(ENUMERATED)?.content != [0] {
            return Err(NotBer);
        }
        let mut bytes = outer.expect(CONTEXT_0)?.inside()?.expect(SEQUENCE)?.inside()?;
        outer.finish()?;
        if bytes.expect(OBJECT_IDENTIFIER)?.content != BASIC {
            return Err(NotBer);
        }
        let mut basic = whole(bytes.expect(OCTET_STRING)?.content)?.inside()?;
        bytes.finish()?;
        let data = basic.expect(SEQUENCE)?;
        let algorithm = basic.expect(SEQUENCE)?.inside()?.expect(OBJECT_IDENTIFIER)?.content;
        // The first byte says how many bits of the last one are none: always no one.
        let signature = basic.expect(BIT_STRING)?.content.strip_prefix(&[0]).ok_or(NotBer)?;
        let mut responders = Vec::new();
        if let Some(certificates) = basic.optional(CONTEXT_0)? {
            let mut list = certificates.inside()?.expect(SEQUENCE)?.inside()?;
            while !list.is_empty() {
                responders.push(list.expect(SEQUENCE)?.whole);
            }
        }
        basic.finish()?;
        Ok(Self { signed: data.whole, algorithm, signature, responders, answers: answers(&data)? })
    }

    /// What is said at `now` about `certificate`, by `issuer` or by whom it lets speak for it.
    pub(super) fn status(
        &self,
        certificate: &X509Certificate<'_>,
        issuer: &X509Certificate<'_>,
        now: UnixTime,
    ) -> Result<Status, &'static str> {
        if !self.is_signed(issuer, now) {
            return Err("it is not signed by the certificate's authority, nor in its name");
        }
        let about = self.answers.iter().find(|answer| answer.is_about(certificate, issuer));
        let answer = about.ok_or("it is about another certificate")?;
        let until = answer.until.unwrap_or_else(|| answer.since.after(A_DAY));
        if now.after(SKEW) < answer.since || until <= now {
            return Err("it is not of now");
        }
        Ok(answer.status)
    }

    /// Whether `issuer` signed it, or somebody with a certificate of `issuer`'s for just that (RFC 6960
    /// §4.2.2.2).
    fn is_signed(&self, issuer: &X509Certificate<'_>, now: UnixTime) -> bool {
        self.is_signed_with(issuer)
            || self.responders.iter().take(MAX_RESPONDERS).any(|der| {
                let Ok(([], responder)) = X509Certificate::from_der(der) else { return false };
                may_respond(&responder)
                    && responder.issuer().as_raw() == issuer.subject().as_raw()
                    && chain::is_valid_at(&responder, now)
                    && chain::is_signed_by(&responder, issuer).is_ok()
                    && self.is_signed_with(&responder)
            })
    }

    fn is_signed_with(&self, signer: &X509Certificate<'_>) -> bool {
        let algorithms: &[&'static dyn VerificationAlgorithm] = match self.algorithm {
            ECDSA_SHA384 => &[&ECDSA_P384_SHA384_ASN1],
            ECDSA_SHA256 => &[&ECDSA_P256_SHA256_ASN1, &ECDSA_P384_SHA256_ASN1],
            RSA_SHA256 => &[&RSA_PKCS1_2048_8192_SHA256],
            RSA_SHA384 => &[&RSA_PKCS1_2048_8192_SHA384],
            _ => &[],
        };
        algorithms.iter().any(|algorithm| {
            let key = ParsedPublicKey::new(*algorithm, signer.public_key().raw);
            key.is_ok_and(|key| key.verify_sig(self.signed, self.signature).is_ok())
        })
    }
}

/// The most certificates of responders that are looked at: one is enough.
const MAX_RESPONDERS: usize = 4;

fn may_respond(certificate: &X509Certificate<'_>) -> bool {
    let purposes = certificate.extended_key_usage();
    purposes.is_ok_and(|purposes| purposes.is_some_and(|purposes| purposes.value.ocsp_signing))
}

impl Answer<'_> {
    fn is_about(&self, certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
        let hash: &Algorithm = match self.hash {
            ID_SHA1 => &SHA1_FOR_LEGACY_USE_ONLY,
            ID_SHA256 => &SHA256,
            ID_SHA384 => &SHA384,
            _ => return false,
        };
        let name = digest(hash, issuer.subject().as_raw());
        let key = digest(hash, &issuer.public_key().subject_public_key.data);
        self.issuer_name == name.as_ref()
            && self.issuer_key == key.as_ref()
            && self.serial == certificate.raw_serial()
    }
}

/// All of `der`, which has to be one SEQUENCE.
fn whole(der: &[u8]) -> Result<Element<'_>, NotBer> {
    let mut reader = Reader::new(der);
    let element = reader.expect(SEQUENCE)?;
    reader.finish()?;
    Ok(element)
}

/// The answers in `ResponseData`.
fn answers<'a>(data: &Element<'a>) -> Result<Vec<Answer<'a>>, NotBer> {
    let mut data = data.inside()?;
    // Version, responder and time: who signed is found out otherwise.
    let first = data.next()?;
    let responder = if first.tag == CONTEXT_0 { data.next()? } else { first };
    if responder.tag != CONTEXT_1 && responder.tag != BY_KEY {
        return Err(NotBer);
    }
    time(&data.expect(GENERALIZED_TIME)?)?;
    let mut list = data.expect(SEQUENCE)?.inside()?;
    let mut answers = Vec::new();
    while !list.is_empty() {
        answers.push(answer(&list.expect(SEQUENCE)?)?);
    }
    Ok(answers)
}

/// `[2]`, constructed: the responder by its key.
const BY_KEY: u8 = 0xa2;

/// One `SingleResponse`.
fn answer<'a>(element: &Element<'a>) -> Result<Answer<'a>, NotBer> {
    let mut parts = element.inside()?;
    let mut id = parts.expect(SEQUENCE)?.inside()?;
    let hash = id.expect(SEQUENCE)?.inside()?.expect(OBJECT_IDENTIFIER)?.content;
    let issuer_name = id.expect(OCTET_STRING)?.content;
    let issuer_key = id.expect(OCTET_STRING)?.content;
    let serial = id.expect(INTEGER)?.content;
    id.finish()?;
    let status = status(&parts.next()?)?;
    let since = time(&parts.expect(GENERALIZED_TIME)?)?;
    let until = parts.optional(CONTEXT_0)?;
    let until = until.map(|next| time(&next.inside()?.expect(GENERALIZED_TIME)?)).transpose()?;
    Ok(Answer { hash, issuer_name, issuer_key, serial, status, since, until })
}

fn status(element: &Element<'_>) -> Result<Status, NotBer> {
    match element.tag {
        GOOD => Ok(Status::Good),
        UNKNOWN => Ok(Status::Unknown),
        CONTEXT_1 => {
            let mut revoked = element.inside()?;
            time(&revoked.expect(GENERALIZED_TIME)?)?;
            let Some(reason) = revoked.optional(CONTEXT_0)? else {
                return Ok(Status::Revoked(None));
            };
            let reason = reason.inside()?.expect(ENUMERATED)?.content.first().copied();
            Ok(Status::Revoked(reason))
        }
        _ => Err(NotBer),
    }
}

fn time(element: &Element<'_>) -> Result<UnixTime, NotBer> {
    let (_, time) = ASN1Time::from_der(element.whole).map_err(|_no_time| NotBer)?;
    u64::try_from(time.timestamp()).map(UnixTime::from_secs).map_err(|_before_1970| NotBer)
}
