//! Who is trusted to issue certificates to nodes.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use claviger_core::time::UnixTime;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor};
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage,
    RequiredEkuNotFoundContext, VerifiedPath,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::certificate::fingerprint;
use super::wire::Evidence;
use crate::files;

/// The trust domain's own X.509 authorities, as they are now.
pub trait OwnAuthorities: fmt::Debug + Send + Sync + 'static {
    /// Their certificates.
    fn current(&self) -> Vec<CertificateDer<'static>>;
}

/// Roots, at least one.
#[derive(Debug)]
pub(super) struct Roots(Vec<Root>);

#[derive(Debug)]
struct Root {
    anchor: TrustAnchor<'static>,
    fingerprint: String,
    /// The first and the last second at which it is valid.
    validity: (i64, i64),
}

impl Roots {
    /// The roots in the PEM file at `path`.
    pub(super) fn read(paths: impl Iterator<Item = PathBuf>) -> Result<Self, RootsError> {
        let mut roots = Vec::new();
        for path in paths {
            let certificates = read(&path)?;
            let bad = |source| RootsError::Certificate { path: path.clone(), source };
            for der in &certificates {
                roots.push(Root::of(der).map_err(bad)?);
            }
        }
        Ok(Self(roots))
    }

    /// These roots.
    pub(super) fn of(certificates: &[CertificateDer<'_>]) -> Result<Self, webpki::Error> {
        certificates.iter().map(Root::of).collect::<Result<_, _>>().map(Self)
    }

    /// Whether one of them vouches for the node's certificate at `now`, and by way of which
    /// certificates: their fingerprints, from the one next to the node's to the root's.
    ///
    /// The library stops after a hundred signatures, however the certificates are made up, and each
    /// costs a bounded amount: the keys were measured before.
    pub(super) fn vouch(
        &self,
        evidence: &Evidence,
        now: UnixTime,
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> Result<Vec<String>, webpki::Error> {
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let valid = |root: &&Root| (root.validity.0..=root.validity.1).contains(&seconds);
        let valid: Vec<&Root> = self.0.iter().filter(valid).collect();
        let anchors: Vec<_> = valid.iter().map(|root| root.anchor.clone()).collect();
        let time = rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()));
        let leaf = EndEntityCert::try_from(&evidence.leaf)?;
        let path = leaf.verify_for_usage(
            algorithms,
            &anchors,
            &evidence.intermediates,
            time,
            NodePurpose,
            None,
            None,
        )?;
        let below = path.intermediate_certificates().map(|cert| fingerprint(&cert.der()));
        Ok(below.chain(root_of(&path, &valid)).collect())
    }
}

fn root_of(path: &VerifiedPath<'_>, roots: &[&Root]) -> Option<String> {
    let root = roots.iter().find(|root| root.anchor == *path.anchor())?;
    Some(root.fingerprint.clone())
}

impl Root {
    fn of(der: &CertificateDer<'_>) -> Result<Self, webpki::Error> {
        let anchor = webpki::anchor_from_trusted_cert(der)?.to_owned();
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|_broken| webpki::Error::BadDer)?;
        let validity = certificate.validity();
        let validity = (validity.not_before.timestamp(), validity.not_after.timestamp());
        Ok(Self { anchor, fingerprint: fingerprint(der), validity })
    }
}

/// The certificates in the PEM file at `path`, at least one.
pub(super) fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let failed = |source| RootsError::Read { path: path.to_owned(), source };
    let text = files::read(path, MAX_FILE).map_err(failed)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates =
        certificates.map_err(|source| RootsError::Pem { path: path.to_owned(), source })?;
    if certificates.is_empty() {
        return Err(RootsError::Empty { path: path.to_owned() });
    }
    Ok(certificates)
}

/// The largest file of certificates, in bytes: five times the Web's roots.
const MAX_FILE: usize = 1 << 20;

/// What a node uses its certificate for is to show who it is to a server: `clientAuth`, unless the
/// certificate leaves its purpose open (RFC 5280 §4.2.1.12).
struct NodePurpose;

const CLIENT_AUTH: [usize; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 2];
const ANY_PURPOSE: [usize; 5] = [2, 5, 29, 37, 0];

impl ExtendedKeyUsageValidator for NodePurpose {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let mut present = Vec::new();
        for purpose in purposes {
            let purpose = purpose?.to_decoded_oid();
            if purpose == CLIENT_AUTH || purpose == ANY_PURPOSE {
                return Ok(());
            }
            present.push(purpose);
        }
        if present.is_empty() {
            return Ok(());
        }
        let required = KeyUsage::client_auth();
        let context = RequiredEkuNotFoundContext { required, present };
        Err(webpki::Error::RequiredEkuNotFoundContext(context))
    }
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
    /// It holds none.
    #[error("`{path}` holds no certificate in PEM", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// One of them can't be a root.
    #[error("`{path}` holds a certificate that cannot be a root", path = path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: webpki::Error,
    },
}
