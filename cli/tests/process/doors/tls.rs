//! TLS as a client of ill will speaks it: it believes every server, and shows what it likes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::frames;
use super::papers::Papers;

/// What is spoken at a door.
pub(super) const H2: &str = "h2";
pub(super) const HTTP: &str = "http/1.1";

/// How long a server has to say something.
const SOON: Duration = Duration::from_secs(15);

/// Believes everybody.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A client that offers `protocol` and shows `papers`.
pub(super) fn client(protocol: Option<&str>, papers: Option<&Papers>) -> ClientConfig {
    client_of(&[&TLS13], protocol, papers)
}

/// The same with TLS 1.2 and nothing newer.
pub(super) fn old_client(protocol: &str) -> ClientConfig {
    client_of(&[&TLS12], Some(protocol), None)
}

fn client_of(
    versions: &[&'static rustls::SupportedProtocolVersion],
    protocol: Option<&str>,
    papers: Option<&Papers>,
) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous));
    let mut config = match papers {
        Some(papers) => builder.with_client_auth_cert(papers.chain.clone(), papers.key()).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocol.into_iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

/// Connects from `from` to `to`.
pub(super) async fn dial(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind((from, 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

/// As far as a client gets before its certificate is looked at.
pub(super) async fn shake<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    config: ClientConfig,
) -> std::io::Result<TlsStream<S>> {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    timeout(SOON, TlsConnector::from(Arc::new(config)).connect(name, stream)).await?
}

/// Whether the server at `to` talks to this client, or why it does not.
pub(super) async fn talk(
    to: SocketAddr,
    protocol: &str,
    config: ClientConfig,
) -> Result<TlsStream<TcpStream>, String> {
    let stream = dial([127, 0, 0, 1], to).await;
    let mut stream = shake(stream, config).await.map_err(|error| error.to_string())?;
    let hello = match protocol {
        H2 => frames::hello(&[]),
        _ => b"GET /nothing HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".to_vec(),
    };
    let answered = async {
        stream.write_all(&hello).await?;
        stream.read_u8().await
    };
    let answered = timeout(SOON, answered).await.map_err(|_elapsed| "silence".to_owned())?;
    answered.map_err(|error| error.to_string())?;
    Ok(stream)
}
