//! Who is trusted to issue certificates to endorsement keys.
//!
//! Certificates of EKs are odd: their subject is often empty, so that the alternative name is critical
//! and holds a directory name; policies may be critical, and so may attributes of the subject. That
//! keeps the library that judges the Web's certificates from judging these.

use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1,
    ECDSA_P521_SHA512_ASN1, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey, VerificationAlgorithm,
};
use claviger_core::time::UnixTime;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{self, PemObject as _};
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521,
    OID_PKCS1_RSAENCRYPTION, OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA,
    OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384,
    OID_SIG_ECDSA_WITH_SHA512, OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_CERTIFICATE_POLICIES,
    OID_X509_EXT_EXTENDED_KEY_USAGE, OID_X509_EXT_KEY_USAGE, OID_X509_EXT_SUBJECT_ALT_NAME, Oid,
    asn1_rs::oid,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::AlgorithmIdentifier;

use crate::files;
use crate::signed::Signed;

const SUBJECT_DIRECTORY_ATTRIBUTES: Oid<'static> = oid!(2.5.29.9);

/// The most bytes of a certificate that anybody sends.
pub(super) const MAX_CERTIFICATE: usize = 8 << 10;
/// The most intermediate certificates that a node sends.
pub(super) const MAX_SENT: usize = 8;
/// The longest way to a root, in certificates of authorities.
const MAX_DEPTH: usize = 8;
/// The most signatures that are verified for one EK.
const MAX_SIGNATURES: usize = 32;
/// The largest file of certificates, in bytes.
const MAX_FILE: usize = 1 << 20;

/// Certificates that vouch for EKs.
#[derive(Debug)]
pub(super) struct Roots {
    /// Those that are believed. At least one.
    roots: Vec<CertificateDer<'static>>,
    /// Those that lead to them.
    intermediates: Vec<CertificateDer<'static>>,
}

impl Roots {
    /// The certificates in these PEM files.
    pub(super) fn open(roots: &[PathBuf], intermediates: &[PathBuf]) -> Result<Self, RootsError> {
        let read = |paths: &[PathBuf]| {
            let certificates =
                paths.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
            Ok::<Vec<_>, RootsError>(certificates.into_iter().flatten().collect())
        };
        Ok(Self { roots: read(roots)?, intermediates: read(intermediates)? })
    }

    /// These certificates, as far as they are some.
    pub(super) fn of(roots: &[Vec<u8>], intermediates: &[Vec<u8>]) -> Self {
        let own = |certificates: &[Vec<u8>]| {
            certificates.iter().map(|der| CertificateDer::from(der.clone())).collect()
        };
        Self { roots: own(roots), intermediates: own(intermediates) }
    }

    /// That one of the roots vouches for `leaf` at `now`, perhaps by way of those that were `sent`
    /// with it.
    pub(super) fn vouch(
        &self,
        leaf: &[u8],
        sent: &[Vec<u8>],
        now: UnixTime,
    ) -> Result<(), ChainError> {
        let now = i64::try_from(now.as_secs()).map_err(|_far| ChainError::Date)?;
        let leaf = parse(leaf).ok_or(ChainError::Malformed)?;
        check_leaf(&leaf, now)?;
        let roots: Vec<_> = self.roots.iter().filter_map(|der| parse(der)).collect();
        let known = self.intermediates.iter().filter_map(|der| parse(der));
        let others: Vec<_> = sent.iter().filter_map(|der| parse(der)).chain(known).collect();
        let mut search = Search { roots, others, now, left: MAX_SIGNATURES };
        search.climb(&leaf, 0)
    }
}

/// The way up from a certificate to a root.
struct Search<'a> {
    roots: Vec<X509Certificate<'a>>,
    others: Vec<X509Certificate<'a>>,
    now: i64,
    /// How many more signatures may be verified.
    left: usize,
}

impl<'a> Search<'a> {
    /// Looks for a root that vouches for `below`, which has `depth` authorities below itself,
    /// itself included. Of several reasons why there is none, the last is returned.
    fn climb(&mut self, below: &X509Certificate<'a>, depth: usize) -> Result<(), ChainError> {
        let mut why = ChainError::Unknown(below.issuer().to_string());
        for (set, is_root) in [(self.roots.clone(), true), (self.others.clone(), false)] {
            for authority in
                set.iter().filter(|it| it.subject().as_raw() == below.issuer().as_raw())
            {
                let vouched = self.step(below, authority, depth).and_then(|()| {
                    if is_root { Ok(()) } else { self.climb(authority, depth.saturating_add(1)) }
                });
                match vouched {
                    Ok(()) => return Ok(()),
                    Err(error) => why = error,
                }
            }
        }
        Err(why)
    }

    /// That `authority` issued `below`, and was allowed to.
    fn step(
        &mut self,
        below: &X509Certificate<'a>,
        authority: &X509Certificate<'a>,
        depth: usize,
    ) -> Result<(), ChainError> {
        self.left = self.left.checked_sub(1).ok_or(ChainError::Long)?;
        if MAX_DEPTH <= depth {
            return Err(ChainError::Long);
        }
        check_authority(authority, depth, self.now)?;
        if has_signed(authority, below) {
            Ok(())
        } else {
            Err(ChainError::Signature(authority.subject().to_string()))
        }
    }
}

fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    (rest.is_empty() && der.len() <= MAX_CERTIFICATE).then_some(certificate)
}

fn check_leaf(leaf: &X509Certificate<'_>, now: i64) -> Result<(), ChainError> {
    check_dates(leaf, now)?;
    let understood = [
        OID_X509_EXT_BASIC_CONSTRAINTS,
        OID_X509_EXT_KEY_USAGE,
        OID_X509_EXT_EXTENDED_KEY_USAGE,
        OID_X509_EXT_SUBJECT_ALT_NAME,
        OID_X509_EXT_CERTIFICATE_POLICIES,
        SUBJECT_DIRECTORY_ATTRIBUTES,
    ];
    check_critical(leaf, &understood)
}

/// That `authority` may have certificates below itself, of which `depth` are authorities' (RFC 5280
/// §6.1.4).
fn check_authority(
    authority: &X509Certificate<'_>,
    depth: usize,
    now: i64,
) -> Result<(), ChainError> {
    check_dates(authority, now)?;
    let understood = [
        OID_X509_EXT_BASIC_CONSTRAINTS,
        OID_X509_EXT_KEY_USAGE,
        OID_X509_EXT_EXTENDED_KEY_USAGE,
        OID_X509_EXT_CERTIFICATE_POLICIES,
    ];
    check_critical(authority, &understood)?;
    let name = || authority.subject().to_string();
    let basic = authority.basic_constraints().map_err(|_broken| ChainError::Malformed)?;
    let basic = basic.map(|basic| basic.value).filter(|basic| basic.ca);
    let basic = basic.ok_or_else(|| ChainError::NoAuthority(name()))?;
    let most = basic.path_len_constraint.map_or(Ok(usize::MAX), usize::try_from);
    if most.is_ok_and(|most| most < depth) {
        return Err(ChainError::Long);
    }
    let usage = authority.key_usage().map_err(|_broken| ChainError::Malformed)?;
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err(ChainError::NoAuthority(name()));
    }
    Ok(())
}

fn check_dates(certificate: &X509Certificate<'_>, now: i64) -> Result<(), ChainError> {
    let validity = certificate.validity();
    let valid = validity.not_before.timestamp()..=validity.not_after.timestamp();
    if valid.contains(&now) { Ok(()) } else { Err(ChainError::Date) }
}

fn check_critical(
    certificate: &X509Certificate<'_>,
    understood: &[Oid<'_>],
) -> Result<(), ChainError> {
    let extensions = certificate.extensions_map().map_err(|_twice| ChainError::Malformed)?;
    let unknown =
        extensions.iter().find(|(oid, extension)| extension.critical && !understood.contains(oid));
    match unknown {
        Some((oid, _)) => Err(ChainError::Critical(oid.to_id_string())),
        None => Ok(()),
    }
}

/// Whether the certificate `below` is signed by `authority`'s key.
fn has_signed(authority: &X509Certificate<'_>, below: &X509Certificate<'_>) -> bool {
    let key = authority.public_key();
    let Ok(Signed { content, signature }) = Signed::parse(below.as_raw()) else { return false };
    let algorithm = algorithm(&below.signature_algorithm.algorithm, &key.algorithm);
    algorithm.is_some_and(|algorithm| {
        let key = UnparsedPublicKey::new(algorithm, &key.subject_public_key.data);
        key.verify(content, signature).is_ok()
    })
}

/// SHA-2 with RSA (PKCS #1 v1.5) or ECDSA, if `key` is for it.
fn algorithm(
    signed_by: &Oid<'_>,
    key: &AlgorithmIdentifier<'_>,
) -> Option<&'static dyn VerificationAlgorithm> {
    if key.algorithm == OID_PKCS1_RSAENCRYPTION {
        return match signed_by {
            it if *it == OID_PKCS1_SHA256WITHRSA => Some(&RSA_PKCS1_2048_8192_SHA256),
            it if *it == OID_PKCS1_SHA384WITHRSA => Some(&RSA_PKCS1_2048_8192_SHA384),
            it if *it == OID_PKCS1_SHA512WITHRSA => Some(&RSA_PKCS1_2048_8192_SHA512),
            _ => None,
        };
    }
    if key.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY {
        return None;
    }
    let curve = key.parameters.as_ref()?.as_oid().ok()?;
    let (sha256, sha384) = (&OID_SIG_ECDSA_WITH_SHA256, &OID_SIG_ECDSA_WITH_SHA384);
    match (curve, signed_by) {
        (curve, by) if curve == OID_EC_P256 && by == sha256 => Some(&ECDSA_P256_SHA256_ASN1),
        (curve, by) if curve == OID_EC_P256 && by == sha384 => Some(&ECDSA_P256_SHA384_ASN1),
        (curve, by) if curve == OID_NIST_EC_P384 && by == sha256 => Some(&ECDSA_P384_SHA256_ASN1),
        (curve, by) if curve == OID_NIST_EC_P384 && by == sha384 => Some(&ECDSA_P384_SHA384_ASN1),
        (curve, by) if curve == OID_NIST_EC_P521 && *by == OID_SIG_ECDSA_WITH_SHA512 => {
            Some(&ECDSA_P521_SHA512_ASN1)
        }
        _ => None,
    }
}

/// Why nobody vouches for an EK.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum ChainError {
    #[error("a certificate is malformed, or larger than {MAX_CERTIFICATE} bytes")]
    Malformed,
    #[error("a certificate is not valid at this time")]
    Date,
    #[error("nobody is configured who is its issuer `{0}`; name the certificate in `ek-roots`")]
    Unknown(String),
    #[error("`{0}` is no authority that may sign certificates")]
    NoAuthority(String),
    #[error("it is not signed by `{0}`, whom it names as its issuer")]
    Signature(String),
    #[error("the way to a root is longer than it may be")]
    Long,
    #[error("a critical extension ({0}) is unknown")]
    Critical(String),
}

/// The certificates in the PEM file at `path`, at least one.
pub(super) fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let failed = |source| RootsError::Read { path: path.to_owned(), source };
    let text = files::read(path, MAX_FILE).map_err(failed)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates =
        certificates.map_err(|source| RootsError::Pem { path: path.to_owned(), source })?;
    if certificates.is_empty() || certificates.iter().any(|der| parse(der).is_none()) {
        return Err(RootsError::Certificates { path: path.to_owned() });
    }
    Ok(certificates)
}

/// Why a file gives no certificates.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// It can't be read.
    #[error("cannot read certificates from `{path}`", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not PEM.
    #[error("`{path}` does not hold certificates in PEM", path = path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// It holds none, or something that is none.
    #[error("`{path}` holds no certificate in PEM, or one that is malformed", path = path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
    },
}
