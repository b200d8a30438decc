//! TLS for strangers from the Web, who know no SPIFFE: a certificate from a public authority,
//! TLS 1.3 and 1.2, and no client certificates.
//!
//! Strangers who have the bundle of the trust domain are served with the server's own SVID, by TLS 1.3
//! only ([`own_web_server_config`]).
//!
//! What rustls offers is within Mozilla's *intermediate* profile (SPIFFE Federation §5): forward
//! secrecy and authenticated encryption only. HTTP/1.1 is the only protocol spoken inside.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use claviger_core::id::SpiffeId;
use claviger_core::time::Clock;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, InconsistentKeys, ServerConfig};

use super::bundle::TrustBundle;
use super::config::{HTTP, any_version, client_config, provider};
use super::identity::Identity;

/// The longest chain that is served.
const MAX_CHAIN: usize = 16;

/// A certificate for the Web and its key. Clones share it, and see it replaced.
#[derive(Clone)]
pub struct WebCertificate(Arc<ArcSwap<CertifiedKey>>);

impl WebCertificate {
    /// The certificates in `chain`, leaf first, with the leaf's `key`; both in PEM.
    ///
    /// # Errors
    ///
    /// [`WebCertificateError`] if either is malformed, or if they do not belong together.
    pub fn new(chain: &[u8], key: &[u8]) -> Result<Self, WebCertificateError> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(certified(chain, key)?))))
    }

    /// Shows others from now on; connections that are open keep what they saw.
    ///
    /// # Errors
    ///
    /// As [`Self::new`]; then nothing changes.
    pub fn replace(&self, chain: &[u8], key: &[u8]) -> Result<(), WebCertificateError> {
        self.0.store(Arc::new(certified(chain, key)?));
        Ok(())
    }
}

impl fmt::Debug for WebCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebCertificate(..)")
    }
}

impl ResolvesServerCert for WebCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn certified(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, WebCertificateError> {
    let chain = CertificateDer::pem_slice_iter(chain).take(MAX_CHAIN.saturating_add(1));
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(WebCertificateError::Chain)?;
    if !(1..=MAX_CHAIN).contains(&chain.len()) {
        return Err(WebCertificateError::Length);
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(WebCertificateError::Key)?;
    CertifiedKey::from_der(chain, key, &any_version()).map_err(|error| {
        if error == rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) {
            WebCertificateError::Mismatch
        } else {
            WebCertificateError::Unusable(error)
        }
    })
}

/// How strangers are served, with whatever `certificate` is at the time.
#[must_use]
pub fn web_server_config(certificate: &WebCertificate) -> Arc<ServerConfig> {
    #[expect(clippy::expect_used, reason = "our provider has suites of both; every test shows it")]
    let builder = ServerConfig::builder_with_provider(Arc::new(any_version()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("TLS 1.3 and 1.2");
    let config = builder.with_no_client_auth().with_cert_resolver(Arc::new(certificate.clone()));
    for_http(config)
}

/// How strangers are served who can verify `identity`: those who have the bundle.
#[must_use]
pub fn own_web_server_config(identity: &Identity) -> Arc<ServerConfig> {
    #[expect(clippy::expect_used, reason = "our provider has TLS 1.3 suites; every test shows it")]
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("TLS 1.3");
    for_http(builder.with_no_client_auth().with_cert_resolver(Arc::new(identity.clone())))
}

fn for_http(mut config: ServerConfig) -> Arc<ServerConfig> {
    config.alpn_protocols = vec![HTTP.to_vec()];
    // Callers come once in minutes; what is not kept cannot leak.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Arc::new(config)
}

/// The other end of [`super::mutual_web_server_config`]: how to connect, as `identity`, to the server
/// `expected` of the bundle's trust domain.
#[must_use]
pub fn mutual_web_client_config(
    identity: &Identity,
    bundle: &TrustBundle,
    expected: SpiffeId,
    clock: Arc<dyn Clock>,
) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(&client_config(Some(identity), bundle, expected, clock));
    config.alpn_protocols = vec![HTTP.to_vec()];
    Arc::new(config)
}

/// The other end of [`own_web_server_config`]: how to connect, as nobody, to the server `expected` of
/// the bundle's trust domain.
#[must_use]
pub fn own_web_client_config(
    bundle: &TrustBundle,
    expected: SpiffeId,
    clock: Arc<dyn Clock>,
) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(&client_config(None, bundle, expected, clock));
    config.alpn_protocols = vec![HTTP.to_vec()];
    Arc::new(config)
}

/// Why a certificate for the Web cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebCertificateError {
    /// The chain is no PEM.
    #[error("the certificates are not PEM")]
    Chain(#[source] pem::Error),
    /// There is no certificate, or there are too many.
    #[error("there have to be 1 to {MAX_CHAIN} certificates, the server's first")]
    Length,
    /// The key is no PEM, or there is none.
    #[error("there is no private key in PEM")]
    Key(#[source] pem::Error),
    /// The key is another certificate's.
    #[error("the key does not belong to the first certificate")]
    Mismatch,
    /// They are of a kind that we cannot use.
    #[error("the certificate or its key cannot be used")]
    Unusable(#[source] rustls::Error),
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, NamedGroup, ProtocolVersion, RootCertStore};
    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;

    use super::*;
    use crate::tasks::Tasks;
    use crate::tls::fixture::{Authority, clock};
    use crate::tls::{Limits, TlsIncoming};

    /// A certificate that signs itself, and its key.
    fn pair() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["web.test".to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    async fn connect(
        incoming: &mut TlsIncoming,
        trusted: &str,
        change: impl FnOnce(&mut ClientConfig),
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(any_version()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        change(&mut config);
        let stream = TcpStream::connect(incoming.addr()).await.unwrap();
        let name = ServerName::try_from("web.test").unwrap();
        let client = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        incoming.next().await.unwrap().unwrap();
        Ok(client)
    }

    async fn listen(certificate: &WebCertificate, tasks: &Tasks) -> TlsIncoming {
        let addr = "127.0.0.1:0".parse().unwrap();
        let config = web_server_config(certificate);
        TlsIncoming::bind(addr, config, Limits::default(), tasks).await.unwrap()
    }

    #[tokio::test]
    async fn strangers_are_served_and_see_the_newest_certificate() {
        let ((first, key), tasks) = (pair(), Tasks::default());
        let certificate = WebCertificate::new(first.as_bytes(), key.as_bytes()).unwrap();
        let mut incoming = listen(&certificate, &tasks).await;
        let client = connect(&mut incoming, &first, |_| {}).await.unwrap();
        let state = client.get_ref().1;
        assert_eq!(state.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        let group = state.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, NamedGroup::X25519MLKEM768);

        let (second, key) = pair();
        certificate.replace(second.as_bytes(), key.as_bytes()).unwrap();
        connect(&mut incoming, &second, |_| {}).await.unwrap();
        connect(&mut incoming, &first, |_| {}).await.unwrap_err();
    }

    #[tokio::test]
    async fn http_1_is_spoken_and_nothing_else() {
        let ((chain, key), tasks) = (pair(), Tasks::default());
        let certificate = WebCertificate::new(chain.as_bytes(), key.as_bytes()).unwrap();
        let mut incoming = listen(&certificate, &tasks).await;
        let offer = |names: &[&[u8]]| names.iter().map(|name| name.to_vec()).collect::<Vec<_>>();
        let both = offer(&[b"h2", b"http/1.1"]);
        let client = connect(&mut incoming, &chain, |c| c.alpn_protocols = both).await.unwrap();
        assert_eq!(client.get_ref().1.alpn_protocol(), Some(HTTP));
        let h2 = offer(&[b"h2"]);
        connect(&mut incoming, &chain, |c| c.alpn_protocols = h2).await.unwrap_err();
    }

    #[tokio::test]
    async fn whoever_has_the_bundle_knows_the_servers_own_svid() {
        let (ca, tasks) = (Authority::new("example.org"), Tasks::default());
        let config = own_web_server_config(&ca.identity("/spire/server"));
        let addr = "127.0.0.1:0".parse().unwrap();
        let mut incoming =
            TlsIncoming::bind(addr, config, Limits::default(), &tasks).await.unwrap();
        let mut connect = async |ca: &Authority, path: &str| {
            let expected = format!("spiffe://example.org{path}").parse().unwrap();
            let config = own_web_client_config(&ca.bundle(), expected, clock());
            let stream = TcpStream::connect(incoming.addr()).await.unwrap();
            // SPIFFE looks at no name.
            let name = ServerName::try_from("127.0.0.1").unwrap();
            let client = TlsConnector::from(config).connect(name, stream).await?;
            incoming.next().await.unwrap().unwrap();
            Ok::<_, std::io::Error>(client.get_ref().1.alpn_protocol().map(<[u8]>::to_vec))
        };
        assert_eq!(connect(&ca, "/spire/server").await.unwrap(), Some(HTTP.to_vec()));
        connect(&ca, "/web").await.unwrap_err();
        connect(&Authority::new("example.org"), "/spire/server").await.unwrap_err();
    }

    #[test]
    fn what_cannot_be_served_is_refused() {
        let ((chain, key), (_, other)) = (pair(), pair());
        let why = |chain: &str, key: &str| {
            WebCertificate::new(chain.as_bytes(), key.as_bytes()).unwrap_err()
        };
        assert!(matches!(why(&chain, &other), WebCertificateError::Mismatch));
        assert!(matches!(why("", &key), WebCertificateError::Length));
        assert!(matches!(why(&chain.repeat(17), &key), WebCertificateError::Length));
        assert!(matches!(why(&chain, &chain), WebCertificateError::Key(_)));
        let cut = chain.replace("-----END", "");
        assert!(matches!(why(&cut, &key), WebCertificateError::Chain(_)));
    }
}
