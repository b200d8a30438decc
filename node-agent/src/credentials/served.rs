//! A bundle in the forms in which it is given out, made once for everybody.

use bytes::Bytes;
use claviger_core::bundle::Bundle;
use claviger_core::bundle::json::{Use, jwks};

/// One trust domain's bundle.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct ServedBundle {
    /// The keys themselves, to check tokens with.
    pub(crate) bundle: Bundle,
    /// The X.509 authorities, one after the other.
    pub(crate) x509: Bytes,
    /// The keys for JWT-SVIDs, a JWK Set.
    pub(crate) jwt: Bytes,
    /// The keys for WIT-SVIDs, a JWK Set.
    pub(crate) wit: String,
    /// What its X.509 authorities have revoked: lists in DER.
    pub(crate) crl: Vec<Bytes>,
}

impl ServedBundle {
    /// `bundle`, whose authorities have revoked what stands on the lists `crl`.
    pub(super) fn new(bundle: Bundle, crl: Vec<Bytes>) -> Self {
        Self { crl, ..bundle.into() }
    }
}

impl From<Bundle> for ServedBundle {
    fn from(bundle: Bundle) -> Self {
        Self {
            x509: bundle.certificates(),
            jwt: jwks(&bundle.jwt_authorities, Use::JwtSvid).into(),
            wit: jwks(&bundle.wit_authorities, Use::WitSvid),
            crl: Vec::new(),
            bundle,
        }
    }
}
