//! The signing authorities of the trust domain: the only code that signs certificates.
//!
//! | to find | look in |
//! |---|---|
//! | private keys on disk | [`keys`] |
//! | which authority signs, and when the next one is made | [`slots`] |
//! | what the certificates look like | [`x509`] |
//! | what we take from a certificate request | [`csr`] |
//! | making, publishing and replacing authorities as time goes by | [`rotation`] |
//!
//! [`Authority::sign`] takes a *recorded* grant by value: what is not in the audit log cannot be
//! signed.

pub mod csr;
pub mod keys;
pub mod rotation;
pub mod slots;
pub mod x509;

use std::sync::Arc;

use arc_swap::ArcSwap;
use claviger_core::bundle::Bundle;
use claviger_core::grant::{Grant, IssueX509, Recorded};
use claviger_core::id::TrustDomain;
use claviger_core::svid::Validity;
use claviger_core::time::UnixTime;
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

use x509::Issuer;
pub use x509::SignError;

/// What signs right now, and whom the trust domain believes. Clones see the same.
#[derive(Clone, Debug)]
pub struct Authority {
    issuer: Arc<ArcSwap<Issuer>>,
    bundle: watch::Receiver<Arc<Bundle>>,
}

impl Authority {
    /// Signs the certificate that `grant` permits, valid from `now`.
    ///
    /// # Errors
    ///
    /// [`SignError`] if the key in the grant is none that we sign for, or if the authority has
    /// expired.
    pub fn sign(
        &self,
        grant: Recorded<Grant<IssueX509>>,
        now: UnixTime,
    ) -> Result<SignedSvid, SignError> {
        self.issuer.load().sign(grant.into_inner().into_act(), now)
    }

    /// The bundle of the trust domain, and every later one.
    #[must_use]
    pub fn bundle(&self) -> watch::Receiver<Arc<Bundle>> {
        self.bundle.clone()
    }

    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> TrustDomain {
        self.bundle.borrow().trust_domain.clone()
    }
}

/// A certificate that was signed.
#[derive(Clone, Debug)]
pub struct SignedSvid {
    /// The certificates in DER, leaf first. The authority itself is in the bundle.
    pub chain: Vec<CertificateDer<'static>>,
    /// When the leaf is valid.
    pub validity: Validity,
    /// The leaf's serial number: the content of the DER integer.
    pub serial: [u8; 16],
}
