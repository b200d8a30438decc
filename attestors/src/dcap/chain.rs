//! Whom Intel's root vouches for.

use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use claviger_core::time::UnixTime;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor};
use webpki::{
    CertRevocationList, EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter,
    OwnedCertRevocationList, RevocationOptionsBuilder,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::signed::Signed;

/// Roots that are trusted to vouch for platforms and collateral.
#[derive(Clone, Debug)]
pub struct Roots(Vec<Root>);

#[derive(Clone, Debug)]
struct Root {
    der: CertificateDer<'static>,
    anchor: TrustAnchor<'static>,
    /// The first and the last second at which it is valid.
    validity: (i64, i64),
}

/// The Intel SGX Root CA, which Intel publishes at
/// `https://certificates.trustedservices.intel.com/Intel_SGX_Provisioning_Certification_RootCA.cer`.
/// SHA-256 `44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3`.
const INTEL: &[u8] = include_bytes!("roots/intel-sgx-root-ca.der");

/// Intel signs nothing by any other algorithm.
const ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[webpki::aws_lc_rs::ECDSA_P256_SHA256];

impl Roots {
    /// Intel's.
    ///
    /// # Errors
    ///
    /// [`ChainError::Root`], which can't be: a test reads it.
    pub fn intel() -> Result<Self, ChainError> {
        Self::of([INTEL.to_vec()])
    }

    /// These, each as DER.
    ///
    /// # Errors
    ///
    /// [`ChainError::Root`] if one is no certificate.
    pub fn of(ders: impl IntoIterator<Item = Vec<u8>>) -> Result<Self, ChainError> {
        let root = |der: Vec<u8>| Root::of(der.into()).ok_or(ChainError::Root);
        ders.into_iter().map(root).collect::<Result<_, _>>().map(Self)
    }

    /// That one of them vouches for the first certificate of `chain` at `now`, and, if there are
    /// `crls`, that none of the certificates is revoked. The lists have to be signed by the issuers,
    /// and there has to be one of every issuer; how old they are is not looked at.
    pub(super) fn vouch(
        &self,
        chain: &Chain,
        crls: Option<&Crls>,
        now: UnixTime,
    ) -> Result<(), ChainError> {
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let valid = |root: &&Root| (root.validity.0..=root.validity.1).contains(&seconds);
        let valid: Vec<&Root> = self.0.iter().filter(valid).collect();
        let (leaf, rest) = chain.0.split_first().ok_or(ChainError::Length)?;
        let intermediates = chain_below_root(rest, &valid)?;
        let anchors: Vec<_> = valid.iter().map(|root| root.anchor.clone()).collect();
        let time = rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()));
        let lists: Vec<&CertRevocationList<'_>> =
            crls.map(|crls| vec![&crls.root.list, &crls.pck.list]).unwrap_or_default();
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| options.build());
        let leaf = EndEntityCert::try_from(leaf)?;
        let path = leaf.verify_for_usage(
            ALGORITHMS,
            &anchors,
            intermediates,
            time,
            AnyPurpose,
            revocation,
            None,
        )?;
        let used = path.intermediate_certificates().count();
        if used == intermediates.len() { Ok(()) } else { Err(ChainError::Unused) }
    }
}

/// `rest` without the root at its end, if there is one: it has to have the name and the key of one
/// that is trusted. Intel has issued its root more than once, with other dates.
fn chain_below_root<'a>(
    rest: &'a [CertificateDer<'static>],
    roots: &[&Root],
) -> Result<&'a [CertificateDer<'static>], ChainError> {
    let Some((last, below)) = rest.split_last() else { return Ok(rest) };
    let (_, certificate) =
        X509Certificate::from_der(last).map_err(|_not_one| ChainError::Certificate)?;
    if certificate.subject() != certificate.issuer() {
        return Ok(rest);
    }
    let given = webpki::anchor_from_trusted_cert(last)?;
    let known = roots.iter().any(|root| {
        let same = root.anchor.subject == given.subject
            && root.anchor.subject_public_key_info == given.subject_public_key_info;
        root.der == *last || (same && is_self_signed(&certificate))
    });
    if known { Ok(below) } else { Err(ChainError::UntrustedRoot) }
}

fn is_self_signed(certificate: &X509Certificate<'_>) -> bool {
    let key = certificate.public_key().subject_public_key.data.as_ref();
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key);
    Signed::parse(certificate.as_raw())
        .is_ok_and(|signed| key.verify(signed.content, signed.signature).is_ok())
}

impl Root {
    fn of(der: CertificateDer<'static>) -> Option<Self> {
        let anchor = webpki::anchor_from_trusted_cert(&der).ok()?.to_owned();
        let (_, certificate) = X509Certificate::from_der(&der).ok()?;
        let validity = certificate.validity();
        let validity = (validity.not_before.timestamp(), validity.not_after.timestamp());
        Some(Self { anchor, validity, der })
    }
}

/// Certificates, each of which the next one is to vouch for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Chain(Vec<CertificateDer<'static>>);

impl Chain {
    /// The most certificates: a platform's, its authority's, and the root.
    const MAX: usize = 3;

    /// The certificates in `pem`.
    pub(super) fn from_pem(pem: &[u8]) -> Result<Self, ChainError> {
        let mut certificates = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            certificates.push(certificate.map_err(|_not_pem| ChainError::Pem)?);
            if Self::MAX < certificates.len() {
                return Err(ChainError::Length);
            }
        }
        if certificates.is_empty() {
            return Err(ChainError::Length);
        }
        if is_all_of(pem, &certificates) { Ok(Self(certificates)) } else { Err(ChainError::Pem) }
    }

    /// The first, as DER.
    pub(super) fn leaf(&self) -> &[u8] {
        self.0.first().map(AsRef::as_ref).unwrap_or_default()
    }
}

/// Whether `pem` is these certificates and nothing else, but for spaces, ends of lines, and zeros at the
/// end, which Intel's library leaves there.
fn is_all_of(pem: &[u8], certificates: &[CertificateDer<'_>]) -> bool {
    let end = pem.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1));
    let given = pem.get(..end).unwrap_or_default().iter().copied();
    let encode =
        |der: &CertificateDer<'_>| pem::encode(&pem::Pem::new("CERTIFICATE", der.to_vec()));
    let written = certificates.iter().flat_map(|der| encode(der).into_bytes());
    let is_ink = |byte: &u8| !byte.is_ascii_whitespace();
    given.filter(is_ink).eq(written.filter(is_ink))
}

/// What was revoked.
#[derive(Debug)]
pub(super) struct Crls {
    /// By the root.
    pub(super) root: Crl,
    /// By the authority that issues the certificates of platforms.
    pub(super) pck: Crl,
}

/// A list of what was revoked, of which nothing is verified yet.
#[derive(Debug)]
pub(super) struct Crl {
    list: CertRevocationList<'static>,
    /// When it was issued, and when the next one is.
    pub(super) dates: (UnixTime, UnixTime),
}

impl Crl {
    /// Reads a list in DER.
    pub(super) fn parse(der: &[u8]) -> Result<Self, ChainError> {
        let (rest, dated) =
            CertificateRevocationList::from_der(der).map_err(|_not_one| ChainError::Crl)?;
        let seconds = |time: i64| u64::try_from(time).map_err(|_before_1970| ChainError::Crl);
        let next = dated.next_update().ok_or(ChainError::Crl)?;
        let dates = (seconds(dated.last_update().timestamp())?, seconds(next.timestamp())?);
        let list = OwnedCertRevocationList::from_der(der)?;
        if !rest.is_empty() {
            return Err(ChainError::Crl);
        }
        let dates = (UnixTime::from_secs(dates.0), UnixTime::from_secs(dates.1));
        Ok(Self { list: list.into(), dates })
    }
}

/// Intel's certificates leave their purpose open; their names say it, which are looked at.
struct AnyPurpose;

impl ExtendedKeyUsageValidator for AnyPurpose {
    fn validate(&self, _purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

/// Whether `signature` (`r || s`) over `message` is by `key`, an uncompressed point on P-256.
pub(super) fn is_signed(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(message, signature).is_ok()
}

/// Why nobody vouches for a certificate.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// A root can't be used.
    #[error("a root is no certificate")]
    Root,
    /// The chain is no PEM.
    #[error("the chain is no PEM, or has something else in it")]
    Pem,
    /// There are too many certificates, or none.
    #[error("the chain has no certificate, or more than three")]
    Length,
    /// One is no certificate.
    #[error("the chain has something in it that is no certificate")]
    Certificate,
    /// It ends in another root.
    #[error("the chain ends in a root that is not trusted, or not valid at this time")]
    UntrustedRoot,
    /// A certificate has nothing to do with the others.
    #[error("the chain has a certificate in it that does not vouch for the one before")]
    Unused,
    /// A list of what was revoked can't be read.
    #[error("a revocation list cannot be read")]
    Crl,
    /// There is no path to the root.
    #[error("no path leads to the root: {0}")]
    Path(webpki::Error),
}

impl From<webpki::Error> for ChainError {
    fn from(error: webpki::Error) -> Self {
        Self::Path(error)
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::{SHA256, digest};

    use super::*;

    #[test]
    fn the_built_in_root_is_intels() {
        let expected = "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3";
        assert_eq!(hex::encode(digest(&SHA256, INTEL)), expected);
        assert_eq!(Roots::intel().unwrap().0.len(), 1);
        let (_, root) = X509Certificate::from_der(INTEL).unwrap();
        assert!(root.subject().to_string().contains("Intel SGX Root CA"));
        assert!(is_self_signed(&root));
    }

    #[test]
    fn a_chain_has_bounds() {
        let pem = pem::encode(&pem::Pem::new("CERTIFICATE", INTEL));
        assert!(matches!(Chain::from_pem(b"").unwrap_err(), ChainError::Length));
        Chain::from_pem(pem.repeat(3).as_bytes()).unwrap();
        let long = Chain::from_pem(pem.repeat(4).as_bytes());
        assert!(matches!(long.unwrap_err(), ChainError::Length));
    }

    #[test]
    fn a_chain_is_nothing_but_certificates() {
        let pem = pem::encode(&pem::Pem::new("CERTIFICATE", INTEL));
        let unix = pem.replace('\r', "");
        for good in [format!("{pem}\0"), format!("\n{unix}\n\0\0"), unix] {
            Chain::from_pem(good.as_bytes()).unwrap();
        }
        for bad in [
            format!("# Intel\n{pem}"),
            format!("{pem}trailer"),
            format!("{pem}\0{pem}"),
            pem.replacen("CERTIFICATE", "X509 CRL", 2) + &pem,
        ] {
            assert!(matches!(Chain::from_pem(bad.as_bytes()).unwrap_err(), ChainError::Pem));
        }
    }
}
