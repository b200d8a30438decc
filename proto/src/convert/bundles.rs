//! The X.509 part of a bundle.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use claviger_core::id::TrustDomain;

use super::der::{self, MAX_CERTIFICATES};
use super::{FieldError, Problem, ids};
use crate::spire::types;

/// The authorities whose X.509-SVIDs are valid in one trust domain (SPIFFE Trust Domain and Bundle
/// §4). None at all is a bundle too: every SVID of the trust domain is revoked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct X509Bundle {
    /// Whose authorities they are.
    pub trust_domain: TrustDomain,
    /// The authorities, at most [`MAX_CERTIFICATES`].
    pub authorities: Vec<X509Authority>,
    /// Rises with every change.
    pub sequence: u64,
    /// How often to ask for a newer one, if the trust domain has an opinion.
    pub refresh_hint: Option<Duration>,
}

/// One authority.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct X509Authority {
    /// Its certificate: one, framed as DER; not yet parsed.
    pub der: Bytes,
    /// No longer secure: what it signed is still valid and to be replaced.
    pub tainted: bool,
}

impl X509Bundle {
    /// The authorities' certificates one after the other, as the Workload API has them.
    #[must_use]
    pub fn concatenated(&self) -> Bytes {
        let length = self.authorities.iter().map(|authority| authority.der.len()).sum();
        let mut bytes = BytesMut::with_capacity(length);
        for authority in &self.authorities {
            bytes.extend_from_slice(&authority.der);
        }
        bytes.freeze()
    }
}

impl TryFrom<types::X509Certificate> for X509Authority {
    type Error = FieldError;

    fn try_from(wire: types::X509Certificate) -> Result<Self, FieldError> {
        der::check_one(&wire.asn1).map_err(|error| FieldError::new("asn1", error))?;
        Ok(Self { der: wire.asn1, tainted: wire.tainted })
    }
}

impl From<&X509Authority> for types::X509Certificate {
    fn from(authority: &X509Authority) -> Self {
        Self { asn1: authority.der.clone(), tainted: authority.tainted }
    }
}

/// The authorities in the list `field`.
///
/// # Errors
///
/// [`FieldError`] if the list is too long or holds something that is not one certificate.
pub fn authorities(
    wire: Vec<types::X509Certificate>,
    field: &str,
) -> Result<Vec<X509Authority>, FieldError> {
    if MAX_CERTIFICATES < wire.len() {
        let problem = Problem::TooMany { count: wire.len(), max: MAX_CERTIFICATES };
        return Err(FieldError::new(field, problem));
    }
    let authority = |(at, wire): (usize, types::X509Certificate)| {
        X509Authority::try_from(wire).map_err(|error| error.within(&format!("{field}[{at}]")))
    };
    wire.into_iter().enumerate().map(authority).collect()
}

impl TryFrom<types::Bundle> for X509Bundle {
    type Error = FieldError;

    fn try_from(wire: types::Bundle) -> Result<Self, FieldError> {
        let seconds = u64::try_from(wire.refresh_hint).map_err(|_negative| {
            FieldError::new("refresh_hint", Problem::Negative(wire.refresh_hint))
        })?;
        Ok(Self {
            trust_domain: ids::trust_domain(&wire.trust_domain)
                .map_err(|problem| FieldError::new("trust_domain", problem))?,
            authorities: authorities(wire.x509_authorities, "x509_authorities")?,
            sequence: wire.sequence_number,
            refresh_hint: (seconds != 0).then(|| Duration::from_secs(seconds)),
        })
    }
}

impl From<&X509Bundle> for types::Bundle {
    /// The bundle without keys for tokens.
    fn from(bundle: &X509Bundle) -> Self {
        let seconds = bundle.refresh_hint.map_or(0, |hint| hint.as_secs());
        Self {
            trust_domain: bundle.trust_domain.as_str().to_owned(),
            x509_authorities: bundle.authorities.iter().map(Into::into).collect(),
            jwt_authorities: Vec::new(),
            refresh_hint: i64::try_from(seconds).unwrap_or(i64::MAX),
            sequence_number: bundle.sequence,
            wit_authorities: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &[u8] = &[0x30, 0x01, 0xaa];
    const TWO: &[u8] = &[0x30, 0x02, 0xbb, 0xbb];

    fn bundle() -> X509Bundle {
        X509Bundle {
            trust_domain: "example.org".parse().unwrap(),
            authorities: vec![
                X509Authority { der: Bytes::from_static(ONE), tainted: true },
                X509Authority { der: Bytes::from_static(TWO), tainted: false },
            ],
            sequence: 7,
            refresh_hint: Some(Duration::from_secs(300)),
        }
    }

    #[track_caller]
    fn refuses(change: impl FnOnce(&mut types::Bundle), message: &str) {
        let mut wire = types::Bundle::from(&bundle());
        change(&mut wire);
        assert_eq!(X509Bundle::try_from(wire).unwrap_err().to_string(), message);
    }

    #[test]
    fn bundles_come_back_as_they_went() {
        assert_eq!(X509Bundle::try_from(types::Bundle::from(&bundle())), Ok(bundle()));
        let bare = X509Bundle { authorities: Vec::new(), refresh_hint: None, ..bundle() };
        assert_eq!(X509Bundle::try_from(types::Bundle::from(&bare)), Ok(bare));
    }

    #[test]
    fn what_is_no_bundle_is_refused() {
        refuses(
            |wire| wire.trust_domain = "spiffe://example.org/a".into(),
            "trust_domain: a trust domain has no path; write `example.org` or \
             `spiffe://example.org`",
        );
        refuses(|wire| wire.refresh_hint = -1, "refresh_hint: -1 is negative");
        refuses(
            |wire| wire.x509_authorities[1].asn1 = [ONE, TWO].concat().into(),
            "x509_authorities[1].asn1: holds more than one certificate",
        );
        refuses(
            |wire| wire.x509_authorities[0].asn1.clear(),
            "x509_authorities[0].asn1: holds no certificate",
        );
        refuses(
            |wire| wire.x509_authorities = vec![wire.x509_authorities[0].clone(); 257],
            "x509_authorities: has 257 elements; at most 256 are allowed",
        );
    }

    #[test]
    fn the_workload_api_gets_the_certificates_in_a_row() {
        assert_eq!(bundle().concatenated(), [ONE, TWO].concat());
        let split = der::split(&bundle().concatenated()).unwrap();
        assert_eq!(split, [ONE, TWO]);
    }
}
