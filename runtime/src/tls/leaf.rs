//! The profile of an end-entity X.509-SVID (X509-SVID §2–§5).

use claviger_core::evidence::KeyDigest;
use claviger_core::id::{ParseIdError, SpiffeId};
use claviger_core::time::UnixTime;
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

/// The largest certificate we parse, in bytes. An SVID has about 600; a post-quantum signature and
/// key would add some 6,000.
const MAX_BYTES: usize = 16_384;

/// What an end-entity X.509-SVID says.
///
/// That it exists proves that the certificate keeps to the profile, not that anyone we trust has
/// signed it: that is what [`super::verify_svid`] is for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Leaf {
    id: SpiffeId,
    serial: Box<[u8]>,
    key: KeyDigest,
    not_before: UnixTime,
    not_after: UnixTime,
}

impl Leaf {
    /// Reads a certificate and holds it against the profile.
    ///
    /// # Errors
    ///
    /// [`LeafError`] names the first rule that is broken.
    pub fn parse(certificate: &CertificateDer<'_>) -> Result<Self, LeafError> {
        let certificate = parse(certificate)?;
        check_constraints(&certificate)?;
        let id = id(&certificate)?;
        if id.is_trust_domain() {
            return Err(LeafError::NoPath(id));
        }
        Ok(Self {
            id,
            serial: certificate.raw_serial().into(),
            key: KeyDigest::of_spki(certificate.public_key().raw),
            not_before: unix_time(certificate.validity().not_before),
            not_after: unix_time(certificate.validity().not_after),
        })
    }

    /// Whom the certificate names.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Its serial number: the content of the DER integer, big-endian.
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// The digest of its public key.
    #[must_use]
    pub fn key(&self) -> KeyDigest {
        self.key
    }

    /// The first second at which it is valid.
    #[must_use]
    pub fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// The last second at which it is valid.
    #[must_use]
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }
}

/// Parses a certificate of bounded size with nothing behind it.
pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, LeafError> {
    if MAX_BYTES < der.len() {
        return Err(LeafError::TooLarge(der.len()));
    }
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok((rest, _)) => Err(LeafError::TrailingBytes(rest.len())),
        Err(error) => Err(LeafError::Malformed(error.into())),
    }
}

pub(super) fn unix_time(time: ASN1Time) -> UnixTime {
    // What was before 1970 is long over.
    UnixTime::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}

/// The URIs among the subject's alternative names.
pub(super) fn uris<'a>(certificate: &'a X509Certificate<'_>) -> Result<Vec<&'a str>, X509Error> {
    let Some(names) = certificate.subject_alternative_name()? else { return Ok(Vec::new()) };
    let uri = |name: &'a GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some(Ok(*uri)),
        // Whatever it was meant to be, another reader may take it for a second URI.
        GeneralName::Invalid(..) => Some(Err(X509Error::InvalidExtensions)),
        GeneralName::OtherName(..)
        | GeneralName::RFC822Name(_)
        | GeneralName::DNSName(_)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::IPAddress(_)
        | GeneralName::RegisteredID(_) => None,
    };
    names.value.general_names.iter().filter_map(uri).collect()
}

/// X509-SVID §2: exactly one URI; §3.1: critical if there is no other subject (RFC 5280 §4.2.1.6).
fn id(certificate: &X509Certificate<'_>) -> Result<SpiffeId, LeafError> {
    let uris = uris(certificate)?;
    let [uri] = uris.as_slice() else { return Err(LeafError::UriCount(uris.len())) };
    let no_subject = certificate.subject().iter_rdn().next().is_none();
    let critical = certificate.subject_alternative_name()?.is_some_and(|names| names.critical);
    if no_subject && !critical {
        return Err(LeafError::NameNotCritical);
    }
    uri.parse().map_err(LeafError::Id)
}

/// X509-SVID §4.1, §4.3, §4.4 and §5.2: a key for TLS and not for signing certificates.
fn check_constraints(certificate: &X509Certificate<'_>) -> Result<(), LeafError> {
    if certificate.basic_constraints()?.is_some_and(|basic| basic.value.ca) {
        return Err(LeafError::IsAuthority);
    }
    let usage = certificate.key_usage()?.ok_or(LeafError::NoKeyUsage)?;
    if !usage.critical {
        return Err(LeafError::KeyUsageNotCritical);
    }
    if !usage.value.digital_signature() {
        return Err(LeafError::NoDigitalSignature);
    }
    if usage.value.key_cert_sign() || usage.value.crl_sign() {
        return Err(LeafError::MaySignForOthers);
    }
    match certificate.extended_key_usage()? {
        Some(usage) if !(usage.value.server_auth && usage.value.client_auth) => {
            Err(LeafError::OneSidedPurpose)
        }
        _ => Ok(()),
    }
}

/// The rule of X509-SVID that a certificate breaks.
#[derive(Debug, thiserror::Error)]
pub enum LeafError {
    /// We don't parse as much.
    #[error("a certificate of {0} bytes is too large, the limit is {MAX_BYTES}")]
    TooLarge(usize),
    /// It is not DER, or not X.509.
    #[error("the certificate is malformed")]
    Malformed(#[from] X509Error),
    /// There is more than a certificate.
    #[error("the certificate is followed by {0} other bytes")]
    TrailingBytes(usize),
    /// §2: one certificate, one identity.
    #[error("the certificate has {0} URI names, an X.509-SVID has exactly one")]
    UriCount(usize),
    /// §2: the URI is a SPIFFE ID.
    #[error("the URI name of the certificate is not a SPIFFE ID")]
    Id(#[source] ParseIdError),
    /// §3.1: only authorities bear the name of the trust domain.
    #[error("`{0}` names a trust domain and no workload")]
    NoPath(SpiffeId),
    /// RFC 5280 §4.2.1.6.
    #[error("the certificate has no subject, and its alternative name is not critical")]
    NameNotCritical,
    /// §4.1.
    #[error("the certificate is that of an authority")]
    IsAuthority,
    /// §4.3.
    #[error("the certificate does not say what its key may be used for")]
    NoKeyUsage,
    /// §4.3.
    #[error("the key usage of the certificate is not critical")]
    KeyUsageNotCritical,
    /// §4.3.
    #[error("the certificate's key may not make digital signatures")]
    NoDigitalSignature,
    /// §4.3.
    #[error("the certificate's key may sign certificates or revocation lists")]
    MaySignForOthers,
    /// §4.4.
    #[error("the certificate is not for both ends of TLS")]
    OneSidedPurpose,
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CustomExtension, DistinguishedName,
        ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    };

    use super::*;
    use crate::tls::fixture::{Authority, START, uri_names};

    fn parsed(change: impl FnOnce(&mut CertificateParams)) -> Result<Leaf, LeafError> {
        let (chain, _) = Authority::new("example.org").issue_with("/db", change);
        Leaf::parse(&chain[0])
    }

    #[test]
    fn says_what_the_certificate_says() {
        let leaf = parsed(|svid| svid.serial_number = Some(0x0102_u64.into())).unwrap();
        assert_eq!(leaf.id().to_string(), "spiffe://example.org/db");
        assert_eq!(leaf.serial(), [1, 2]);
        assert!(leaf.not_before() < START && START < leaf.not_after());
    }

    #[test]
    fn extended_usage_may_be_absent() {
        parsed(|svid| svid.extended_key_usages.clear()).unwrap();
    }

    #[test]
    fn other_kinds_of_names_do_not_count() {
        parsed(|svid| {
            svid.subject_alt_names
                .push(rcgen::SanType::DnsName("db.example.org".try_into().unwrap()));
        })
        .unwrap();
    }

    #[track_caller]
    fn refused(change: impl FnOnce(&mut CertificateParams), right: fn(&LeafError) -> bool) {
        let error = parsed(change).unwrap_err();
        assert!(right(&error), "{error}");
    }

    #[test]
    fn exactly_one_uri() {
        let two = ["spiffe://example.org/db", "spiffe://example.org/admin"];
        refused(
            |svid| svid.subject_alt_names = uri_names(&two),
            |error| matches!(error, LeafError::UriCount(2)),
        );
        refused(
            |svid| svid.subject_alt_names.clear(),
            |error| matches!(error, LeafError::UriCount(0)),
        );
    }

    #[test]
    fn the_uri_is_a_workload() {
        for uri in ["https://example.org/db", "spiffe://example.org/", "spiffe://EXAMPLE.org/db"] {
            refused(
                |svid| svid.subject_alt_names = uri_names(&[uri]),
                |error| matches!(error, LeafError::Id(_)),
            );
        }
        refused(
            |svid| svid.subject_alt_names = uri_names(&["spiffe://example.org"]),
            |error| matches!(error, LeafError::NoPath(_)),
        );
    }

    #[test]
    fn a_key_for_tls_only() {
        refused(
            |svid| svid.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
            |error| matches!(error, LeafError::IsAuthority),
        );
        refused(|svid| svid.key_usages.clear(), |error| matches!(error, LeafError::NoKeyUsage));
        refused(
            |svid| svid.key_usages = vec![KeyUsagePurpose::KeyAgreement],
            |error| matches!(error, LeafError::NoDigitalSignature),
        );
        for other in [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign] {
            refused(
                |svid| svid.key_usages.push(other),
                |error| matches!(error, LeafError::MaySignForOthers),
            );
        }
    }

    #[test]
    fn key_usage_is_critical() {
        const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
        /// A bit string in which only `digitalSignature` is set.
        const DIGITAL_SIGNATURE: [u8; 4] = [3, 2, 7, 0x80];

        refused(
            |svid| {
                svid.key_usages.clear();
                let usage = CustomExtension::from_oid_content(KEY_USAGE, DIGITAL_SIGNATURE.into());
                svid.custom_extensions.push(usage);
            },
            |error| matches!(error, LeafError::KeyUsageNotCritical),
        );
    }

    #[test]
    fn for_both_ends_of_tls() {
        for only in [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth] {
            refused(
                |svid| svid.extended_key_usages = vec![only],
                |error| matches!(error, LeafError::OneSidedPurpose),
            );
        }
    }

    #[test]
    fn a_nameless_subject_needs_a_critical_name() {
        const ALTERNATIVE_NAME: &[u64] = &[2, 5, 29, 17];

        let nameless = |critical: bool| {
            parsed(|svid| {
                svid.distinguished_name = DistinguishedName::new();
                svid.subject_alt_names.clear();
                let uri = b"spiffe://example.org/db";
                // A sequence that holds one `uniformResourceIdentifier`.
                let mut names = vec![0x30, 2 + 23, 0x86, 23];
                names.extend_from_slice(uri);
                let mut names = CustomExtension::from_oid_content(ALTERNATIVE_NAME, names);
                names.set_criticality(critical);
                svid.custom_extensions.push(names);
            })
        };
        nameless(true).unwrap();
        assert!(matches!(nameless(false), Err(LeafError::NameNotCritical)));
    }

    #[test]
    fn bytes_are_bounded_and_complete() {
        let (chain, _) = Authority::new("example.org").issue("/db");
        let mut longer = chain[0].to_vec();
        longer.push(0);
        assert!(matches!(Leaf::parse(&longer.into()), Err(LeafError::TrailingBytes(1))));
        let cut = chain[0].split_last().unwrap().1.to_vec();
        assert!(matches!(Leaf::parse(&cut.into()), Err(LeafError::Malformed(_))));
        let huge = vec![0x30; MAX_BYTES + 1];
        assert!(matches!(Leaf::parse(&huge.into()), Err(LeafError::TooLarge(_))));
    }
}
