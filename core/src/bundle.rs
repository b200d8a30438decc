//! The keys that speak for a trust domain (SPIFFE Trust Domain and Bundle §3–4).
//!
//! | to find | look in |
//! |---|---|
//! | a bundle and its authorities | here |
//! | the JSON that others publish and read | [`json`] |

pub mod json;

#[cfg(test)]
pub(crate) mod fixture;

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::id::TrustDomain;
use crate::jose::PublicKey;
use crate::time::UnixTime;

/// The authorities of one trust domain. None at all is a bundle too: every SVID of the trust domain
/// is revoked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bundle {
    /// Whose authorities they are.
    pub trust_domain: TrustDomain,
    /// Who signs its X.509-SVIDs.
    pub x509_authorities: Vec<X509Authority>,
    /// What signs its JWT-SVIDs.
    pub jwt_authorities: Vec<TokenAuthority>,
    /// What signs its WIT-SVIDs.
    pub wit_authorities: Vec<TokenAuthority>,
    /// Rises with every change; 0 if the trust domain does not say (§4.1.1).
    pub sequence: u64,
    /// How often to ask for a newer one, if the trust domain has an opinion (§4.1.2).
    pub refresh_hint: Option<Duration>,
}

/// One authority for X.509-SVIDs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct X509Authority {
    /// Its certificate: one, framed as DER.
    pub der: Bytes,
    /// No longer secure: what it signed is still valid and to be replaced.
    pub tainted: bool,
}

/// One authority for tokens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenAuthority {
    /// The `kid` in what it signs; never empty, and unique among the keys of its use.
    pub key_id: String,
    /// Its public key.
    pub public_key: PublicKey,
    /// When it ends, if that is known.
    pub expires_at: Option<UnixTime>,
    /// No longer secure: what it signed is still valid and to be replaced.
    pub tainted: bool,
}

impl Bundle {
    /// The most authorities of each kind.
    pub const MAX_AUTHORITIES: usize = 256;
    /// The longest name of a key, in bytes.
    pub const MAX_KEY_ID: usize = 255;

    /// The bundle of `trust_domain` with nobody in it.
    #[must_use]
    pub const fn empty(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            x509_authorities: Vec::new(),
            jwt_authorities: Vec::new(),
            wit_authorities: Vec::new(),
            sequence: 0,
            refresh_hint: None,
        }
    }

    /// The X.509 authorities' certificates one after the other, as the Workload API has them.
    #[must_use]
    pub fn certificates(&self) -> Bytes {
        let length = self.x509_authorities.iter().map(|authority| authority.der.len()).sum();
        let mut bytes = BytesMut::with_capacity(length);
        for authority in &self.x509_authorities {
            bytes.extend_from_slice(&authority.der);
        }
        bytes.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workload_api_gets_the_certificates_in_a_row() {
        let authority =
            |der: &'static [u8]| X509Authority { der: Bytes::from_static(der), tainted: false };
        let (one, two) = (b"\x30\x01\xaa", b"\x30\x02\xbb\xbb");
        let bundle = Bundle {
            x509_authorities: vec![authority(one), authority(two)],
            ..Bundle::empty("example.org".parse().unwrap())
        };
        assert_eq!(bundle.certificates(), [one.as_slice(), two].concat());
        assert_eq!(crate::der::split(&bundle.certificates()).unwrap(), [one.as_slice(), two]);
    }
}
