//! The signing authorities of the trust domain: the only code that signs.
//!
//! | to find | look in |
//! |---|---|
//! | private keys on disk | [`keys`] |
//! | which authority signs, and when the next one is made | [`slots`] |
//! | what the certificates look like | [`x509`] |
//! | what the tokens look like | `token` |
//! | what we take from a certificate request | [`csr`] |
//! | X.509-SVIDs that were issued and have not ended | `issued` |
//! | X.509-SVIDs that were withdrawn, and the lists that say so | [`revocation`] |
//! | the authorities of one profile, following each other | `succession` |
//! | all of them as time goes by, and the bundle that shows them | [`rotation`] |
//!
//! Each profile (X.509, JWT, WIT) has authorities of its own. [`Authority`] takes what is *recorded*
//! by value, a grant or the server's own word: what is not in the audit log cannot be signed.

pub mod csr;
pub(crate) mod issued;
pub mod keys;
pub mod revocation;
pub mod rotation;
pub mod slots;
mod succession;
mod token;
pub mod x509;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use claviger_core::bundle::Bundle;
use claviger_core::grant::{Grant, IssueEar, IssueJwt, IssueWit, IssueX509, IssueX509Ca, Recorded};
use claviger_core::id::TrustDomain;
use claviger_core::policies::PoliciesContents;
use claviger_core::svid::Validity;
use claviger_core::time::UnixTime;
use pem::{EncodeConfig, LineEnding, Pem};
use rustls_pki_types::CertificateDer;
use tokio::sync::{Notify, watch};

use token::TokenSigner;
use x509::Issuer;
pub use x509::{SignError, fresh_serial};

/// What signs right now, and whom the trust domain believes. Clones see the same.
#[derive(Clone, Debug)]
pub struct Authority {
    x509: Arc<ArcSwap<Issuer>>,
    jwt: Arc<ArcSwap<TokenSigner>>,
    wit: Arc<ArcSwap<TokenSigner>>,
    bundle: watch::Receiver<Arc<Bundle>>,
    abroad: Arc<Notify>,
}

impl Authority {
    /// Other servers of the trust domain have changed their authorities: the bundle is about to change.
    pub(crate) fn look_around(&self) {
        self.abroad.notify_one();
    }

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
        self.x509.load().sign(grant.into_inner().into_act(), now)
    }

    /// Signs the authority of a downstream server that `grant` permits, valid from `now`.
    ///
    /// # Errors
    ///
    /// As [`Self::sign`].
    pub fn sign_ca(
        &self,
        grant: Recorded<Grant<IssueX509Ca>>,
        now: UnixTime,
    ) -> Result<SignedSvid, SignError> {
        let trust_domain = self.trust_domain();
        self.x509.load().sign_ca(&grant.into_inner().into_act(), &trust_domain, now)
    }

    /// Signs the JWT-SVID that `grant` permits, issued at `now`.
    ///
    /// # Errors
    ///
    /// [`SignError`] if the key has expired.
    pub fn sign_jwt(
        &self,
        grant: Recorded<Grant<IssueJwt>>,
        now: UnixTime,
    ) -> Result<SignedToken, SignError> {
        self.jwt.load().sign_jwt(&grant.into_inner().into_act(), now)
    }

    /// Signs the WIT-SVID that `grant` permits, issued at `now`.
    ///
    /// # Errors
    ///
    /// [`SignError`] if the key has expired.
    pub fn sign_wit(
        &self,
        grant: Recorded<Grant<IssueWit>>,
        now: UnixTime,
    ) -> Result<SignedToken, SignError> {
        self.wit.load().sign_wit(&grant.into_inner().into_act(), now)
    }

    /// Signs the attestation result that `grant` permits, issued at `now`, with the key of JWT-SVIDs:
    /// its public half is published where others look for it. [`claviger_core::evidence::ear`] says
    /// why a result can't be taken for an SVID.
    ///
    /// # Errors
    ///
    /// [`SignError`] if the key has expired.
    pub fn sign_ear(
        &self,
        grant: Recorded<Grant<IssueEar>>,
        now: UnixTime,
    ) -> Result<SignedToken, SignError> {
        self.jwt.load().sign_ear(&grant.into_inner().into_act(), now)
    }

    /// Signs what agents are told about policies at `now`, with the key of JWT-SVIDs: its public
    /// half is what agents have. [`claviger_core::policies`] says why nobody takes one for the
    /// other.
    ///
    /// # Errors
    ///
    /// [`SignError`] if the key has expired.
    pub fn sign_policies(
        &self,
        contents: Recorded<PoliciesContents>,
        now: UnixTime,
    ) -> Result<SignedToken, SignError> {
        self.jwt.load().sign_policies(&contents.into_inner(), now)
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

/// Certificates as text.
pub(crate) fn to_pem(ders: impl IntoIterator<Item = Vec<u8>>) -> String {
    let pems: Vec<_> = ders.into_iter().map(|der| Pem::new("CERTIFICATE", der)).collect();
    pem::encode_many_config(&pems, EncodeConfig::new().set_line_ending(LineEnding::LF))
}

/// A token that was signed. It is a secret: whoever has a JWT-SVID can use it.
#[derive(Clone)]
pub struct SignedToken {
    /// The token, in the compact form.
    pub token: String,
    /// Its `iat`.
    pub issued_at: UnixTime,
    /// Its `exp`.
    pub expires_at: UnixTime,
}

impl fmt::Debug for SignedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedToken")
            .field("issued_at", &self.issued_at)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}
