//! rustls, set up so that only the validation of X.509-SVIDs counts.

use std::sync::Arc;
use std::time::Duration;

use claviger_core::id::SpiffeId;
use claviger_core::time::Clock;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::pki_types::UnixTime;
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};

use super::bundle::TrustBundle;
use super::identity::Identity;
use super::verifier::{ClientVerifier, ServerVerifier, algorithms};

/// HTTP/1.1.
pub(super) const HTTP: &[u8] = b"http/1.1";

/// HTTP/2, the only protocol spoken between servers and agents.
pub(super) const H2: &[u8] = b"h2";

/// How a server that is `identity` takes connections. A client may present an SVID that `bundle`
/// vouches for, or none; a bad one ends the handshake.
#[must_use]
pub fn server_config(
    identity: &Identity,
    bundle: &TrustBundle,
    clock: Arc<dyn Clock>,
) -> Arc<ServerConfig> {
    Arc::new(between_svids(
        identity,
        ClientVerifier { trust: bundle.clone().into(), algorithms: algorithms(), mandatory: false },
        clock,
    ))
}

/// The same for programs that speak HTTP/1.1, and that have to present an SVID.
#[must_use]
pub fn mutual_web_server_config(
    identity: &Identity,
    bundle: &TrustBundle,
    clock: Arc<dyn Clock>,
) -> Arc<ServerConfig> {
    let trust = bundle.clone().into();
    let verifier = ClientVerifier { trust, algorithms: algorithms(), mandatory: true };
    let mut config = between_svids(identity, verifier, clock);
    config.alpn_protocols = vec![HTTP.to_vec()];
    Arc::new(config)
}

fn between_svids(
    identity: &Identity,
    verifier: ClientVerifier,
    clock: Arc<dyn Clock>,
) -> ServerConfig {
    #[expect(clippy::expect_used, reason = "our provider has TLS 1.3 suites; every test shows it")]
    let builder = ServerConfig::builder_with_details(provider(), Arc::new(RustlsTime(clock)))
        .with_protocol_versions(&[&TLS13])
        .expect("TLS 1.3");
    let mut config = builder
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(identity.clone()));
    config.alpn_protocols = vec![H2.to_vec()];
    // A resumed session would vouch for a certificate that nobody looked at again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config
}

/// How to connect to the server `expected` of the bundle's trust domain: as `identity`, or as
/// nobody.
#[must_use]
pub fn client_config(
    identity: Option<&Identity>,
    bundle: &TrustBundle,
    expected: SpiffeId,
    clock: Arc<dyn Clock>,
) -> Arc<ClientConfig> {
    #[expect(clippy::expect_used, reason = "our provider has TLS 1.3 suites; every test shows it")]
    let builder =
        ClientConfig::builder_with_details(provider(), Arc::new(RustlsTime(Arc::clone(&clock))))
            .with_protocol_versions(&[&TLS13])
            .expect("TLS 1.3");
    // "Dangerous" is to verify by one's own rules; ours are stricter than the Web's.
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(ServerVerifier {
        trust: bundle.clone().into(),
        algorithms: algorithms(),
        expected,
        clock,
    }));
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(identity.clone())),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![H2.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Arc::new(config)
}

/// The same with TLS 1.3 only.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..any_version()
    })
}

/// AWS-LC, and a key exchange that stands up to quantum computers first.
pub(super) fn any_version() -> CryptoProvider {
    CryptoProvider {
        kx_groups: vec![
            kx_group::X25519MLKEM768,
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
        ],
        ..aws_lc_rs::default_provider()
    }
}

/// Our clock, as rustls reads one.
#[derive(Debug)]
pub(super) struct RustlsTime(pub(super) Arc<dyn Clock>);

impl TimeProvider for RustlsTime {
    fn current_time(&self) -> Option<UnixTime> {
        let since_epoch = Duration::from_secs(self.0.now().as_secs());
        Some(UnixTime::since_unix_epoch(since_epoch))
    }
}
