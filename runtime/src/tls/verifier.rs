//! The validation of X.509-SVIDs, in the places where rustls asks for it.

use std::sync::Arc;

use claviger_core::id::SpiffeId;
use claviger_core::time::{Clock, UnixTime};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{self, CertificateDer, ServerName};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use super::svid::{Rules, SvidError, verify, verify_by};
use super::trust::Trust;

/// Believes servers that are who they are expected to be.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    pub(super) trust: Trust,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    pub(super) expected: SpiffeId,
    /// Learns from the certificates of servers that are believed.
    pub(super) clock: Arc<dyn Clock>,
}

impl ServerCertVerifier for ServerVerifier {
    /// The name under which the server was reached is of no interest: SPIFFE names who, not where.
    /// What rustls calls the time is what our own clock said.
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: pki_types::UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let rules = Rules { trust: &self.trust, algorithms: self.algorithms.all };
        let found = verify_by(leaf, intermediates, rules, &*self.clock).map_err(refused)?;
        if found != self.expected {
            let expected = self.expected.clone();
            return Err(other(WrongServer { found, expected }));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Believes clients of the trust domain.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    pub(super) trust: Trust,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    /// Whether those are turned away who present nothing. If not, what a stranger may do is decided
    /// elsewhere: whoever attests for the first time has no certificate yet.
    pub(super) mandatory: bool,
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    /// None: the bundle may change at any time, and a client has one SVID anyway.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: pki_types::UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let rules = Rules { trust: &self.trust, algorithms: self.algorithms.all };
        verify(leaf, intermediates, rules, unix_time(now)).map_err(refused)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The server is trusted, and somebody else.
#[derive(Debug, thiserror::Error)]
#[error("the server is `{found}`, not `{expected}`")]
struct WrongServer {
    found: SpiffeId,
    expected: SpiffeId,
}

/// Both ends refuse TLS 1.2 long before a signature is looked at.
fn tls12() -> Error {
    Error::General("TLS 1.2 is not spoken here".to_owned())
}

/// Whatever AWS-LC verifies.
pub(super) fn algorithms() -> WebPkiSupportedAlgorithms {
    aws_lc_rs::default_provider().signature_verification_algorithms
}

fn unix_time(now: pki_types::UnixTime) -> UnixTime {
    UnixTime::from_secs(now.as_secs())
}

/// Picks the alert that the other end may learn. Our own log gets the whole reason.
#[expect(clippy::wildcard_enum_match_arm, reason = "only these two have an alert of their own")]
fn refused(error: SvidError) -> Error {
    use webpki::Error::{CertExpired, InvalidSignatureForPublicKey, UnknownIssuer};

    match error {
        SvidError::Untrusted(CertExpired { time, not_after }) => {
            CertificateError::ExpiredContext { time, not_after }.into()
        }
        // A signature that does not fit is that of a namesake.
        SvidError::Untrusted(UnknownIssuer | InvalidSignatureForPublicKey) => {
            CertificateError::UnknownIssuer.into()
        }
        error => other(error),
    }
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}
