use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncWriteExt, duplex};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::fixture::{forged, psk};

fn connector() -> PskConnector {
    PskConnector::new().unwrap()
}

/// A server that knows nothing of our key and shows a certificate instead.
fn certificate_server() -> TlsAcceptor {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn a_certificate_is_no_substitute_for_the_key() {
    let (near, far) = duplex(64 << 10);
    let server = certificate_server();
    let connector = connector();
    let (server, client) = tokio::join!(server.accept(far), connector.connect(near, forged(1)));
    let error = client.unwrap_err();
    assert!(matches!(error, ConnectError::Handshake(HandshakeError::Tls(_))), "{error}");
    assert!(server.is_err(), "the client finished the handshake");
}

#[tokio::test]
async fn a_server_with_another_key_is_not_ours() {
    let (near, mut far) = duplex(64 << 10);
    let backend = S2n::new().unwrap();
    let Issued { identity, .. } = forged(1);
    let wrong = psk(2);
    let server = async {
        let shaken = backend.handshake(Role::Server, identity, &wrong, &mut far).await;
        drop(far);
        shaken
    };
    let connector = connector();
    let (server, client) = tokio::join!(server, connector.connect(near, forged(1)));
    server.unwrap_err();
    client.unwrap_err();
}

#[tokio::test]
async fn two_clients_do_not_understand_each_other() {
    let (near, far) = duplex(64 << 10);
    let connector = connector();
    let (one, other) =
        tokio::join!(connector.connect(near, forged(1)), connector.connect(far, forged(1)));
    one.unwrap_err();
    other.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_reported_at_once_and_silence_after_a_while() {
    let (near, mut far) = duplex(64 << 10);
    far.write_all(&[21, 3, 3, 0, 2, 2, 51]).await.unwrap();
    let started = tokio::time::Instant::now();
    let error = connector().connect(near, forged(1)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Handshake(HandshakeError::Refused)), "{error}");
    assert!(started.elapsed() < Duration::from_millis(10));

    let (near, _far) = duplex(64 << 10);
    let error = connector().connect(near, forged(1)).await.unwrap_err();
    assert!(matches!(error, ConnectError::TooSlow), "{error}");
}

#[tokio::test]
async fn a_server_that_hangs_up_is_told_from_one_that_refuses() {
    let (near, far) = duplex(64 << 10);
    drop(far);
    let error = connector().connect(near, forged(1)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Handshake(HandshakeError::Io(_))), "{error}");
}
