//! What AMD revoked: a list that the root of a product signed (RFC 5280 §5).
//!
//! AMD publishes them at `https://kdsintf.amd.com/vcek/v1/<product>/crl` and `…/vlek/v1/<product>/crl`.

use claviger_core::time::UnixTime;
use x509_parser::asn1_rs::{Oid, oid};
use x509_parser::extensions::X509Extension;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::{CertificateRevocationList, RevokedCertificate};

use super::certificate::{Period, is_signed};
use super::product::Product;
use super::roots::Authority;
use crate::possession::ecdsa::without_leading_zeros;

/// The largest list, in bytes.
pub(super) const MAX: usize = 256 << 10;

/// Lists as they are encoded, and the product that each is for.
pub(super) type Lists = Vec<(Product, Vec<u8>)>;

const CERTIFICATE_ISSUER: Oid<'static> = oid!(2.5.29.29);
/// Which certificates a list is about. What it does not name is not revoked by it, so its scope does
/// not matter here.
const DISTRIBUTION_POINT: Oid<'static> = oid!(2.5.29.28);

/// A certificate, as a list names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'a> {
    pub(super) what: &'static str,
    /// The issuer as it is encoded.
    pub(super) issuer: &'a [u8],
    pub(super) serial: &'a [u8],
}

/// Whether none of `certificates` is in the list `der`, which `ark` signed and which is current at
/// `now`.
pub(super) fn check(
    der: &[u8],
    ark: &Authority,
    certificates: &[Named<'_>],
    now: UnixTime,
) -> Result<(), CrlError> {
    let Ok(([], list)) = CertificateRevocationList::from_der(der) else {
        return Err(CrlError::Form);
    };
    if list.issuer().as_raw() != ark.subject || !is_signed(der, &list.signature_algorithm, &ark.key)
    {
        return Err(CrlError::Signature);
    }
    let next = list.next_update().ok_or(CrlError::Endless)?;
    let period = Period::between(list.last_update(), next);
    if !period.contains(now) {
        return Err(CrlError::Period { period: period.to_string() });
    }
    let entries = list.iter_revoked_certificates().flat_map(RevokedCertificate::extensions);
    if has_unknown(list.extensions(), &DISTRIBUTION_POINT)
        || has_unknown(entries, &CERTIFICATE_ISSUER)
    {
        return Err(CrlError::Form);
    }
    // Of an indirect list, each entry is of the issuer that the last one named (§5.3.3).
    let mut issuer = None;
    for revoked in list.iter_revoked_certificates() {
        let named = revoked.find_extension(&CERTIFICATE_ISSUER).map(|extension| extension.value);
        issuer = named.or(issuer);
        let revoked = certificates.iter().find(|one| is(one, revoked, issuer, &ark.subject));
        if let Some(one) = revoked {
            return Err(CrlError::Revoked { what: one.what });
        }
    }
    Ok(())
}

/// Whether something has to be understood, other than `known`.
fn has_unknown<'a>(
    extensions: impl IntoIterator<Item = &'a X509Extension<'a>>,
    known: &Oid<'_>,
) -> bool {
    extensions.into_iter().any(|extension| extension.critical && extension.oid != *known)
}

/// Whether a list's entry is about this certificate. `names` are the GeneralNames of its issuer, if that
/// is not the list's, in which its name is encoded as it is in the certificate.
fn is(
    certificate: &Named<'_>,
    revoked: &RevokedCertificate<'_>,
    names: Option<&[u8]>,
    ark: &[u8],
) -> bool {
    let serial = without_leading_zeros(certificate.serial);
    let is_issuer = match names {
        None => certificate.issuer == ark,
        Some(names) => {
            names.windows(certificate.issuer.len()).any(|name| name == certificate.issuer)
        }
    };
    is_issuer && serial == without_leading_zeros(revoked.raw_serial())
}

/// Something is revoked, or a list can't tell.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum CrlError {
    #[error("it is no revocation list in DER, or has an unknown critical extension")]
    Form,
    #[error("the revocation list is not signed by AMD's root for this product")]
    Signature,
    #[error("the revocation list does not say when the next one comes")]
    Endless,
    #[error("the revocation list is for {period}; fetch it again")]
    Period {
        /// From when to when.
        period: String,
    },
    #[error("the certificate of the {what} is revoked")]
    Revoked {
        /// Whose.
        what: &'static str,
    },
}
