//! The validation of an X.509-SVID (X509-SVID §5).

use std::time::Duration;

use claviger_core::id::{SpiffeId, TrustDomain};
use claviger_core::time::{Clock, UnixTime};
use rustls::pki_types::{self, CertificateDer, SignatureVerificationAlgorithm};
use webpki::{
    EndEntityCert, KeyUsage, RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy,
};

use super::authority::{self, AuthorityError};
use super::bundle::TrustBundle;
use super::leaf::{Leaf, LeafError};
use super::trust::Trust;
use super::verifier::algorithms;

/// The longest chain we look at: the SVID and its intermediates. Each is bounded by itself.
const MAX_CHAIN: usize = 8;

/// Decides whether `chain`, leaf first, is an X.509-SVID that an authority of `bundle` vouches for
/// at `now`, and says whose it is.
///
/// # Errors
///
/// [`SvidError`] names the first rule that is broken.
pub fn verify_svid(
    chain: &[CertificateDer<'_>],
    bundle: &TrustBundle,
    now: UnixTime,
) -> Result<SpiffeId, SvidError> {
    let (leaf, intermediates) = chain.split_first().ok_or(SvidError::Empty)?;
    verify(leaf, intermediates, Rules::of(&bundle.clone().into()), now)
}

/// The same at the time of `clock`, which learns from what is verified.
///
/// # Errors
///
/// As [`verify_svid`].
pub fn verify_svid_by(
    chain: &[CertificateDer<'_>],
    bundle: &TrustBundle,
    clock: &dyn Clock,
) -> Result<SpiffeId, SvidError> {
    let (leaf, intermediates) = chain.split_first().ok_or(SvidError::Empty)?;
    verify_by(leaf, intermediates, Rules::of(&bundle.clone().into()), clock)
}

/// By what a chain is judged.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    /// Whom we believe.
    pub(super) trust: &'a Trust,
    /// What certificates may be signed with.
    pub(super) algorithms: &'a [&'a dyn SignatureVerificationAlgorithm],
}

impl<'a> Rules<'a> {
    fn of(trust: &'a Trust) -> Self {
        Self { trust, algorithms: algorithms().all }
    }
}

/// What signs a certificate knows the time: it cannot be before the certificate is valid.
pub(super) fn verify_by(
    der: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    rules: Rules<'_>,
    clock: &dyn Clock,
) -> Result<SpiffeId, SvidError> {
    let not_before = Leaf::parse(der)?.not_before();
    let id = verify(der, intermediates, rules, clock.judging(not_before))?;
    clock.witness(not_before);
    Ok(id)
}

pub(super) fn verify(
    der: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    rules: Rules<'_>,
    now: UnixTime,
) -> Result<SpiffeId, SvidError> {
    let length = intermediates.len().saturating_add(1);
    if MAX_CHAIN < length {
        return Err(SvidError::TooLong(length));
    }
    let leaf = Leaf::parse(der)?;
    let bundle = rules.trust.bundle_for(leaf.id())?;
    for intermediate in intermediates {
        authority::check(intermediate, bundle.trust_domain()).map_err(SvidError::Intermediate)?;
    }
    verify_path(der, intermediates, bundle, rules, now).map_err(SvidError::Untrusted)?;
    Ok(leaf.id().clone())
}

/// RFC 5280 path validation. The leaf's purposes have been checked; naming one here extends the
/// check to the intermediates.
fn verify_path(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    bundle: &TrustBundle,
    Rules { trust, algorithms }: Rules<'_>,
    now: UnixTime,
) -> Result<(), webpki::Error> {
    let lists = trust.revoked();
    // An authority that has revoked nothing has no list.
    let revoked = (!lists.is_empty()).then(|| RevocationOptionsBuilder::new(&lists)).transpose();
    let revoked = revoked.map_err(|_none| webpki::Error::UnknownRevocationStatus)?.map(|options| {
        options
            .with_depth(RevocationCheckDepth::EndEntity)
            .with_status_policy(UnknownStatusPolicy::Allow)
            .build()
    });
    let time = pki_types::UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()));
    let leaf = EndEntityCert::try_from(leaf)?;
    bundle.with_anchors(now, |anchors| {
        let purpose = KeyUsage::client_auth();
        leaf.verify_for_usage(algorithms, anchors, intermediates, time, purpose, revoked, None)?;
        Ok(())
    })
}

/// Why a chain is not a valid X.509-SVID.
#[derive(Debug, thiserror::Error)]
pub enum SvidError {
    /// There is no certificate.
    #[error("the certificate chain is empty")]
    Empty,
    /// There are more than we look at.
    #[error("a chain of {0} certificates is too long, the limit is {MAX_CHAIN}")]
    TooLong(usize),
    /// The first certificate is not an X.509-SVID.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// It belongs to another trust domain than the bundle.
    #[error("`{id}` is not in the trust domain `{trust_domain}`")]
    Foreign {
        /// Whom it names.
        id: SpiffeId,
        /// The bundle's trust domain.
        trust_domain: TrustDomain,
    },
    /// It belongs to a trust domain of which there is no bundle.
    #[error("`{0}` is in a trust domain that is not known here")]
    Unknown(SpiffeId),
    /// An intermediate may not sign SVIDs.
    #[error("an intermediate certificate is unusable")]
    Intermediate(#[source] AuthorityError),
    /// No authority that we believe vouches for it now.
    #[error("the certificate is not trusted")]
    Untrusted(#[source] webpki::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::fixture::{At, Authority, LIFETIME, START};

    #[test]
    fn an_svid_of_our_authority_is_believed() {
        let ca = Authority::new("example.org");
        let (chain, _) = ca.issue("/db");
        let id = verify_svid(&chain, &ca.bundle(), START).unwrap();
        assert_eq!(id.to_string(), "spiffe://example.org/db");
    }

    /// A clock that knows only what it is told.
    #[derive(Debug, Default)]
    struct Learning(std::sync::Mutex<UnixTime>);

    impl Clock for Learning {
        fn now(&self) -> UnixTime {
            *self.0.lock().unwrap()
        }

        fn judging(&self, not_before: UnixTime) -> UnixTime {
            self.now().max(not_before)
        }

        fn witness(&self, not_before: UnixTime) {
            let mut known = self.0.lock().unwrap();
            *known = known.max(not_before);
        }
    }

    #[test]
    fn a_clock_that_knows_nothing_learns_from_what_is_genuine_only() {
        let (ours, theirs) = (Authority::new("example.org"), Authority::new("example.org"));
        let clock = Learning::default();
        let (forged, _) = theirs.issue("/db");
        verify_svid_by(&forged, &ours.bundle(), &clock).unwrap_err();
        assert_eq!(clock.now(), UnixTime::default());
        let (genuine, _) = ours.issue("/db");
        verify_svid_by(&genuine, &ours.bundle(), &clock).unwrap();
        assert_eq!(clock.now(), Leaf::parse(&genuine[0]).unwrap().not_before());
    }

    #[test]
    fn what_ended_before_the_newest_thing_that_is_known_is_over() {
        let ca = Authority::new("example.org");
        let (chain, _) = ca.issue("/db");
        let end = Leaf::parse(&chain[0]).unwrap().not_after();
        let clock = Learning(std::sync::Mutex::new(end.after(Duration::from_secs(1))));
        let error = verify_svid_by(&chain, &ca.bundle(), &clock).unwrap_err();
        assert!(matches!(error, SvidError::Untrusted(_)), "{error}");
        // Whoever believes a clock judges at its time alone.
        let early = At(START.before(LIFETIME));
        verify_svid_by(&chain, &ca.bundle(), &early).unwrap_err();
    }

    #[test]
    fn an_intermediate_is_followed() {
        let ca = Authority::new("example.org");
        let intermediate = ca.intermediate(|_| {});
        let (mut chain, _) = intermediate.issue("/db");
        let bundle = ca.bundle();
        assert!(matches!(verify_svid(&chain, &bundle, START), Err(SvidError::Untrusted(_))));
        chain.push(intermediate.der());
        verify_svid(&chain, &bundle, START).unwrap();
    }

    #[test]
    fn an_intermediate_that_may_not_sign_is_refused() {
        let ca = Authority::new("example.org");
        let intermediate =
            ca.intermediate(|ca| ca.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature]);
        let (mut chain, _) = intermediate.issue("/db");
        chain.push(intermediate.der());
        let error = verify_svid(&chain, &ca.bundle(), START).unwrap_err();
        assert!(matches!(error, SvidError::Intermediate(AuthorityError::MayNotSign)), "{error}");
    }

    #[test]
    fn time_bounds_are_kept() {
        let ca = Authority::new("example.org");
        let (chain, _) = ca.issue("/db");
        for now in [START.before(LIFETIME), START.after(LIFETIME)] {
            let error = verify_svid(&chain, &ca.bundle(), now).unwrap_err();
            assert!(matches!(error, SvidError::Untrusted(_)), "{error}");
        }
    }

    #[test]
    fn an_expired_authority_vouches_for_nobody() {
        let ca = Authority::with("example.org", |ca| {
            ca.not_after = crate::tls::fixture::date(START.before(LIFETIME));
        });
        let (chain, _) = ca.issue("/db");
        let error = verify_svid(&chain, &ca.bundle(), START).unwrap_err();
        assert!(matches!(error, SvidError::Untrusted(webpki::Error::UnknownIssuer)), "{error}");
    }

    #[test]
    fn another_key_with_our_name_is_a_stranger() {
        let (ours, theirs) = (Authority::new("example.org"), Authority::new("example.org"));
        let (chain, _) = theirs.issue("/db");
        let error = verify_svid(&chain, &ours.bundle(), START).unwrap_err();
        assert!(matches!(error, SvidError::Untrusted(_)), "{error}");
    }

    #[test]
    fn our_authority_cannot_vouch_for_another_trust_domain() {
        let ca = Authority::new("example.org");
        let (chain, _) = ca.issue_with("/db", |svid| {
            svid.subject_alt_names = crate::tls::fixture::uri_names(&["spiffe://example.com/db"]);
        });
        let error = verify_svid(&chain, &ca.bundle(), START).unwrap_err();
        assert!(matches!(error, SvidError::Foreign { .. }), "{error}");
    }

    #[test]
    fn a_replaced_bundle_counts_at_once() {
        let (old, new) = (Authority::new("example.org"), Authority::new("example.org"));
        let (chain, _) = new.issue("/db");
        let bundle = old.bundle();
        verify_svid(&chain, &bundle, START).unwrap_err();
        bundle.replace(&[new.der()]).unwrap();
        verify_svid(&chain, &bundle, START).unwrap();
        bundle.replace(&[]).unwrap();
        verify_svid(&chain, &bundle, START).unwrap_err();
    }

    #[test]
    fn chains_are_bounded() {
        let ca = Authority::new("example.org");
        let (chain, _) = ca.issue("/db");
        let long = vec![chain[0].clone(); MAX_CHAIN + 1];
        assert!(matches!(verify_svid(&long, &ca.bundle(), START), Err(SvidError::TooLong(9))));
        assert!(matches!(verify_svid(&[], &ca.bundle(), START), Err(SvidError::Empty)));
    }
}
