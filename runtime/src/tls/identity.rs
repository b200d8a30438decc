//! Who we are.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::leaf::{Leaf, LeafError};

/// An X.509-SVID with its private key.
#[derive(Clone)]
pub struct Svid {
    leaf: Leaf,
    key: Arc<CertifiedKey>,
}

impl Svid {
    /// The SVID `chain`, leaf first, whose private key is `key` in PKCS#8 DER. The key is copied
    /// into the library that signs with it; the caller wipes its own copy.
    ///
    /// # Errors
    ///
    /// [`SvidKeyError`] if the leaf is not an X.509-SVID, or the key is not its key.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: &[u8]) -> Result<Self, SvidKeyError> {
        let leaf = Leaf::parse(chain.first().ok_or(SvidKeyError::Empty)?)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
        let key = any_supported_type(&key).map_err(SvidKeyError::Key)?;
        let key = CertifiedKey::new(chain, key);
        key.keys_match().map_err(SvidKeyError::Mismatch)?;
        Ok(Self { leaf, key: Arc::new(key) })
    }

    /// What the certificate says.
    #[must_use]
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// Whether its key can sign by one of `schemes`.
    #[must_use]
    pub fn signs_by(&self, schemes: &[SignatureScheme]) -> bool {
        self.key.key.choose_scheme(schemes).is_some()
    }

    /// The certificates, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }
}

impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Svid").field("leaf", &self.leaf).finish_non_exhaustive()
    }
}

/// Our X.509-SVID of the moment. Clones present the same one, and every handshake reads it anew, so
/// [`Self::replace`] takes effect at once.
#[derive(Clone, Debug)]
pub struct Identity(Arc<ArcSwap<Svid>>);

impl Identity {
    /// Presents `svid` until it is replaced.
    #[must_use]
    pub fn new(svid: Svid) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(svid)))
    }

    /// Presents `svid` from now on. Connections that exist are not touched.
    pub fn replace(&self, svid: Svid) {
        self.0.store(Arc::new(svid));
    }

    /// What is presented now.
    #[must_use]
    pub fn current(&self) -> Arc<Svid> {
        self.0.load_full()
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().key))
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(
        &self,
        _acceptable_issuers: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Why a chain and a key are not an SVID to present.
#[derive(Debug, thiserror::Error)]
pub enum SvidKeyError {
    /// There is no certificate.
    #[error("the certificate chain is empty")]
    Empty,
    /// The first certificate is not an X.509-SVID.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// The key is not PKCS#8, or of a kind that TLS 1.3 does not know.
    #[error("the private key is unusable")]
    Key(#[source] rustls::Error),
    /// It is another certificate's key.
    #[error("the private key does not belong to the certificate")]
    Mismatch(#[source] rustls::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::fixture::Authority;

    #[test]
    fn a_key_must_belong_to_its_certificate() {
        let ca = Authority::new("example.org");
        let ((chain, key), (_, other)) = (ca.issue("/db"), ca.issue("/db"));
        assert!(matches!(Svid::new(chain.clone(), &other), Err(SvidKeyError::Mismatch(_))));
        assert!(matches!(Svid::new(chain.clone(), b"junk"), Err(SvidKeyError::Key(_))));
        assert!(matches!(Svid::new(Vec::new(), &key), Err(SvidKeyError::Empty)));
        assert_eq!(Svid::new(chain, &key).unwrap().leaf().id().path(), "/db");
    }

    #[test]
    fn debug_shows_no_key() {
        let (chain, key) = Authority::new("example.org").issue("/db");
        let text = format!("{:?}", Identity::new(Svid::new(chain, &key).unwrap()));
        assert!(text.contains("/db"), "{text}");
        // The digest of the public key is no secret.
        let bytes = format!("{key:?}");
        assert!(!text.contains(bytes.trim_matches(['[', ']'])), "{text}");
        assert!(!text.contains("Private") && !text.to_lowercase().contains("pkcs8"), "{text}");
    }

    #[test]
    fn clones_present_the_replacement() {
        let ca = Authority::new("example.org");
        let identity = ca.identity("/old");
        let clone = identity.clone();
        identity.replace(ca.svid("/new"));
        assert_eq!(clone.current().leaf().id().path(), "/new");
    }
}
