//! Both ends of a connection between two programs that know each other by X.509-SVIDs.
//!
//! Unlike the connections of servers and agents, these carry whatever the programs speak: no
//! application protocol is negotiated, and the algorithms are the caller's choice.

use std::sync::Arc;

use claviger_core::id::SpiffeId;
use claviger_core::time::Clock;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use rustls::{ClientConfig, Error, ServerConfig};

use super::config::RustlsTime;
use super::identity::Identity;
use super::trust::Trust;
use super::verifier::{ClientVerifier, ServerVerifier};

/// What an end of such connections has.
#[derive(Clone, Debug)]
pub struct Mutual {
    /// Who we are.
    pub identity: Identity,
    /// Whom we believe.
    pub trust: Trust,
    /// By which algorithms; those for signatures hold for the certificates of the other end, too.
    pub provider: Arc<CryptoProvider>,
    /// At what time.
    pub clock: Arc<dyn Clock>,
}

impl Mutual {
    /// How to answer. Whoever connects has to present an SVID.
    ///
    /// # Errors
    ///
    /// What rustls says of a provider without TLS 1.3.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, Error> {
        let time = Arc::new(RustlsTime(Arc::clone(&self.clock)));
        let verifier = ClientVerifier {
            trust: self.trust.clone(),
            algorithms: self.provider.signature_verification_algorithms,
            mandatory: true,
        };
        let mut config = ServerConfig::builder_with_details(Arc::clone(&self.provider), time)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(self.identity.clone()));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(Arc::new(config))
    }

    /// How to dial `expected`.
    ///
    /// # Errors
    ///
    /// What rustls says of a provider without TLS 1.3.
    pub fn client_config(&self, expected: SpiffeId) -> Result<Arc<ClientConfig>, Error> {
        let time = Arc::new(RustlsTime(Arc::clone(&self.clock)));
        let verifier = ServerVerifier {
            trust: self.trust.clone(),
            algorithms: self.provider.signature_verification_algorithms,
            expected,
            clock: Arc::clone(&self.clock),
        };
        let mut config = ClientConfig::builder_with_details(Arc::clone(&self.provider), time)
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(self.identity.clone()));
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        // An observer learns nothing about whom we dial.
        config.enable_sni = false;
        Ok(Arc::new(config))
    }
}
