//! Whom we believe.

use std::sync::Arc;

use arc_swap::ArcSwap;
use claviger_core::id::TrustDomain;
use claviger_core::time::UnixTime;
use rustls::pki_types::{CertificateDer, TrustAnchor};

use super::authority::{self, AuthorityError, Validity};

/// Authorities of one trust domain at a time: two live ones, and some that were replaced but whose
/// SVIDs are still about.
const MAX_AUTHORITIES: usize = 64;

/// The authorities of one trust domain. Clones see the same set, and every handshake reads it anew,
/// so [`Self::replace`] takes effect at once.
///
/// The set may be empty: then nobody of that trust domain is believed (SPIFFE bundle §4.1.3).
#[derive(Clone, Debug)]
pub struct TrustBundle {
    trust_domain: TrustDomain,
    roots: Arc<ArcSwap<Vec<Root>>>,
}

#[derive(Debug)]
struct Root {
    anchor: TrustAnchor<'static>,
    validity: Validity,
}

impl TrustBundle {
    /// The bundle of `trust_domain`.
    ///
    /// # Errors
    ///
    /// [`BundleError`] if one of the certificates is not an authority of that trust domain.
    pub fn new(
        trust_domain: TrustDomain,
        authorities: &[CertificateDer<'_>],
    ) -> Result<Self, BundleError> {
        let roots = roots(&trust_domain, authorities)?;
        Ok(Self { trust_domain, roots: Arc::new(ArcSwap::from_pointee(roots)) })
    }

    /// Believes these authorities and no others from now on.
    ///
    /// # Errors
    ///
    /// As for [`Self::new`]; the bundle stays as it was.
    pub fn replace(&self, authorities: &[CertificateDer<'_>]) -> Result<(), BundleError> {
        self.roots.store(Arc::new(roots(&self.trust_domain, authorities)?));
        Ok(())
    }

    /// Believes from now on whom `other` believes at this moment, if it is of the same trust domain.
    pub fn adopt(&self, other: &Self) {
        if self.trust_domain == other.trust_domain {
            self.roots.store(other.roots.load_full());
        }
    }

    /// Whose bundle it is.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Lends the authorities that are valid at `now`. Path validation takes its anchors on trust
    /// and would believe one that has expired.
    pub(super) fn with_anchors<T>(
        &self,
        now: UnixTime,
        read: impl FnOnce(&[TrustAnchor<'_>]) -> T,
    ) -> T {
        let roots = self.roots.load();
        let anchors: Vec<_> = roots
            .iter()
            .filter(|root| root.validity.contains(now))
            .map(|root| borrowed(&root.anchor))
            .collect();
        read(&anchors)
    }
}

fn roots(
    trust_domain: &TrustDomain,
    authorities: &[CertificateDer<'_>],
) -> Result<Vec<Root>, BundleError> {
    if MAX_AUTHORITIES < authorities.len() {
        return Err(BundleError::TooMany(authorities.len()));
    }
    let root = |(at, der): (usize, &CertificateDer<'_>)| {
        let validity = authority::check(der, trust_domain)
            .map_err(|source| BundleError::Authority { at, source })?;
        let anchor = webpki::anchor_from_trusted_cert(der)
            .map_err(|source| BundleError::Unsupported { at, source })?
            .to_owned();
        Ok(Root { anchor, validity })
    };
    authorities.iter().enumerate().map(root).collect()
}

/// The same anchor, without copying what it holds.
fn borrowed<'a>(anchor: &'a TrustAnchor<'static>) -> TrustAnchor<'a> {
    TrustAnchor {
        subject: anchor.subject.as_ref().into(),
        subject_public_key_info: anchor.subject_public_key_info.as_ref().into(),
        name_constraints: anchor.name_constraints.as_ref().map(|names| names.as_ref().into()),
    }
}

/// Why a set of certificates is not a trust bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// There are more than any trust domain needs.
    #[error("a bundle of {0} authorities is too large, the limit is {MAX_AUTHORITIES}")]
    TooMany(usize),
    /// One of them may not sign SVIDs of the trust domain.
    #[error("authority {at} of the bundle is unusable")]
    Authority {
        /// Its position, from 0.
        at: usize,
        /// Why.
        source: AuthorityError,
    },
    /// One of them has a form that path validation does not know.
    #[error("authority {at} of the bundle is not supported")]
    Unsupported {
        /// Its position, from 0.
        at: usize,
        /// Why.
        source: webpki::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::fixture::{Authority, trust_domain, uri_names};

    #[test]
    fn an_end_entity_is_no_authority() {
        let (chain, _) = Authority::new("example.org").issue("/db");
        let error = TrustBundle::new(trust_domain("example.org"), &chain).unwrap_err();
        assert!(
            matches!(
                error,
                BundleError::Authority { at: 0, source: AuthorityError::NotAnAuthority }
            ),
            "{error}"
        );
    }

    #[test]
    fn the_authority_of_another_trust_domain_is_refused() {
        let foreign = Authority::new("example.com");
        let error = TrustBundle::new(trust_domain("example.org"), &[foreign.der()]).unwrap_err();
        assert!(
            matches!(
                error,
                BundleError::Authority { source: AuthorityError::OtherName { .. }, .. }
            ),
            "{error}"
        );
    }

    #[test]
    fn an_authority_with_a_path_or_without_the_right_to_sign_is_refused() {
        let pathy = Authority::with("example.org", |ca| {
            ca.subject_alt_names = uri_names(&["spiffe://example.org/ca"]);
        });
        let error = TrustBundle::new(trust_domain("example.org"), &[pathy.der()]).unwrap_err();
        assert!(
            matches!(
                error,
                BundleError::Authority { source: AuthorityError::OtherName { .. }, .. }
            ),
            "{error}"
        );
        let mute = Authority::with("example.org", |ca| {
            ca.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign];
        });
        let error = TrustBundle::new(trust_domain("example.org"), &[mute.der()]).unwrap_err();
        assert!(
            matches!(error, BundleError::Authority { source: AuthorityError::MayNotSign, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_refused_replacement_changes_nothing() {
        let ca = Authority::new("example.org");
        let bundle = ca.bundle();
        let too_many = vec![ca.der(); MAX_AUTHORITIES + 1];
        assert!(matches!(bundle.replace(&too_many), Err(BundleError::TooMany(65))));
        assert_eq!(bundle.roots.load().len(), 1);
    }
}
