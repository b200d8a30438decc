//! The profile of a certificate that signs others (X509-SVID §3.2, §4).

use claviger_core::id::{SpiffeId, TrustDomain};
use claviger_core::time::UnixTime;
use rustls::pki_types::CertificateDer;

use super::leaf::{LeafError, parse, unix_time, uris};

/// From when to when, both included, an authority may vouch for others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validity {
    not_before: UnixTime,
    not_after: UnixTime,
}

impl Validity {
    pub(super) fn contains(&self, now: UnixTime) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}

/// Checks that a certificate may sign SVIDs of `trust_domain`.
pub(super) fn check(
    der: &CertificateDer<'_>,
    trust_domain: &TrustDomain,
) -> Result<Validity, AuthorityError> {
    let certificate = parse(der).map_err(AuthorityError::Malformed)?;
    let malformed = |error| AuthorityError::Malformed(LeafError::Malformed(error));

    let basic = certificate.basic_constraints().map_err(malformed)?;
    if !basic.is_some_and(|basic| basic.value.ca) {
        return Err(AuthorityError::NotAnAuthority);
    }
    // RFC 5280 §6.1.4 (n): where there is a key usage, it holds.
    let usage = certificate.key_usage().map_err(malformed)?;
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err(AuthorityError::MayNotSign);
    }
    // X509-SVID §3.2: an authority need not have a SPIFFE ID; if it has, it is the trust domain's.
    let own = trust_domain.id();
    for uri in uris(&certificate).map_err(malformed)? {
        if uri.parse::<SpiffeId>().as_ref() != Ok(&own) {
            return Err(AuthorityError::OtherName { trust_domain: trust_domain.clone() });
        }
    }
    Ok(Validity {
        not_before: unix_time(certificate.validity().not_before),
        not_after: unix_time(certificate.validity().not_after),
    })
}

/// Why a certificate may not sign SVIDs.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// It can't be read.
    #[error(transparent)]
    Malformed(LeafError),
    /// It is an end entity's.
    #[error("the certificate is not that of an authority")]
    NotAnAuthority,
    /// Its key is for something else.
    #[error("the authority's key may not sign certificates")]
    MayNotSign,
    /// It is named after something else.
    #[error("the authority has a name other than that of the trust domain `{trust_domain}`")]
    OtherName {
        /// The trust domain it was to sign for.
        trust_domain: TrustDomain,
    },
}
