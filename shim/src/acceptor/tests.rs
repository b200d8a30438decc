use std::future::pending;

use async_trait::async_trait;
use aws_lc_rs::agreement::{PrivateKey, X25519};
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use super::*;
use crate::client_hello::sample::{
    EARLY_DATA, KEY_SHARE, SUPPORTED_GROUPS, SUPPORTED_VERSIONS, Sample, records, sha256, vector,
};
use crate::connector::{ConnectError, Issued, PskConnector};
use crate::fixture::{CLIENT, FakeBroker, SERVER, forged, identity, psk};
use crate::refusal::ALERT;

fn acceptor(broker: &FakeBroker) -> PskAcceptor {
    PskAcceptor::new(broker.clone()).unwrap()
}

/// The two ends' views of one handshake in memory.
async fn shake_hands(
    broker: &FakeBroker,
    issued: Issued,
) -> (Result<Tunnel, AcceptError>, Result<Tunnel, ConnectError>) {
    let (near, far) = duplex(64 << 10);
    let acceptor = acceptor(broker);
    let connector = PskConnector::new().unwrap();
    tokio::join!(acceptor.accept(far), connector.connect(near, issued))
}

/// The ClientHello that our connector sends with `issued`.
async fn captured_hello(issued: Issued) -> Vec<u8> {
    let (near, mut far) = duplex(64 << 10);
    let connector = PskConnector::new().unwrap();
    let mut hello = vec![0; 16 << 10];
    let length = tokio::select! {
        _ = connector.connect(near, issued) => panic!("nobody answered"),
        length = far.read(&mut hello) => length.unwrap(),
    };
    hello.truncate(length);
    hello
}

/// Sends `bytes`, and requires that the answer is the one refusal, in its time.
async fn refused(broker: &FakeBroker, bytes: &[u8]) -> AcceptError {
    let (mut near, far) = duplex(128 << 10);
    let started = Instant::now();
    let client = async {
        near.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).await.unwrap();
        drop(near);
        (answer, started.elapsed().as_millis())
    };
    let acceptor = acceptor(broker);
    let (accepted, (answer, took)) = tokio::join!(acceptor.accept(far), client);
    let error = accepted.unwrap_err();
    assert_eq!(answer, ALERT, "{error}");
    assert!((100..=151).contains(&took), "{took} ms: {error}");
    error
}

#[tokio::test]
async fn a_key_opens_one_connection_with_post_quantum_key_exchange() {
    let broker = FakeBroker::default();
    let (server, client) = shake_hands(&broker, broker.issue(1)).await;
    let (mut server, mut client) = (server.unwrap(), client.unwrap());
    assert_eq!(server.ends(), client.ends());
    assert_eq!(server.ends().client.to_string(), CLIENT);
    assert_eq!(server.ends().server.to_string(), SERVER);
    assert_eq!(server.ends().purpose.as_str(), "test");
    assert_eq!(server.ends().group, "X25519MLKEM768");
    assert_eq!(server.ends().suite, "TLS_AES_128_GCM_SHA256");

    client.write_all(b"ping").await.unwrap();
    let mut ping = [0; 4];
    server.read_exact(&mut ping).await.unwrap();
    assert_eq!(&ping, b"ping");
    server.shutdown().await.unwrap();
    assert_eq!(client.read(&mut ping).await.unwrap(), 0);
}

#[tokio::test]
async fn both_ends_export_the_same_secret_for_the_same_label() {
    let broker = FakeBroker::default();
    let (server, client) = shake_hands(&broker, broker.issue(1)).await;
    let export = |stream: &Tunnel, label: &[u8]| {
        let mut out = [0; 32];
        stream.export(label, b"context", &mut out).unwrap();
        out
    };
    let (server, client) = (server.unwrap(), client.unwrap());
    assert_eq!(export(&server, b"EXPORTER-test"), export(&client, b"EXPORTER-test"));
    assert_ne!(export(&server, b"EXPORTER-test"), export(&server, b"EXPORTER-other"));
}

#[tokio::test]
async fn a_megabyte_crosses_tcp_both_ways() {
    let broker = FakeBroker::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = acceptor(&broker);
    let echo = async {
        let stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
        let (mut reader, mut writer) = tokio::io::split(stream);
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let sent = (0..1 << 20).map(|n: u32| n.to_le_bytes()[0]).collect::<Vec<_>>();
    let client = async {
        let tcp = TcpStream::connect(address).await.unwrap();
        let stream = PskConnector::new().unwrap().connect(tcp, broker.issue(1)).await.unwrap();
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut back = Vec::new();
        let write = async {
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let (_, read) = tokio::join!(write, reader.read_to_end(&mut back));
        read.unwrap();
        back
    };
    let ((), back) = tokio::join!(echo, client);
    assert!(back == sent);
}

#[tokio::test]
async fn a_second_connection_with_the_same_key_is_refused() {
    let broker = FakeBroker::default();
    let (first, _) = shake_hands(&broker, broker.issue(1)).await;
    first.unwrap();
    let (server, client) = shake_hands(&broker, forged(1)).await;
    assert!(matches!(server, Err(AcceptError::Redeem(RedeemError::Refused))));
    assert!(matches!(client, Err(ConnectError::Handshake(HandshakeError::Refused))));
    let attempts = broker.offers().into_iter().map(|offer| offer.attempt).collect::<Vec<_>>();
    assert_ne!(attempts[0], attempts[1]);
}

#[tokio::test]
async fn a_wrong_key_is_refused_and_burns_nothing() {
    let broker = FakeBroker::default();
    let issued = broker.issue(1);
    let wrong = Issued { psk: psk(2), ..forged(1) };
    let (server, client) = shake_hands(&broker, wrong).await;
    assert!(matches!(server, Err(AcceptError::Redeem(RedeemError::Refused))));
    assert!(matches!(client, Err(ConnectError::Handshake(HandshakeError::Refused))));
    assert!(!broker.is_spent(1));
    shake_hands(&broker, issued).await.0.unwrap();
}

#[tokio::test(start_paused = true)]
async fn every_refusal_looks_the_same() {
    let broker = FakeBroker::default();
    let sample = |number| Sample::new(identity(number));

    let hello = captured_hello(broker.issue(1)).await;
    shake_hands(&broker, forged(1)).await.0.unwrap();
    let spent = records(&sample(1).bind(&psk(1), &[]), 1 << 14);
    let unknown = captured_hello(forged(2)).await;
    drop(broker.issue(3));
    let wrong_binder = records(&sample(3).bind(&psk(4), &[]), 1 << 14);
    let redeem = |error: &AcceptError| matches!(error, AcceptError::Redeem(RedeemError::Refused));
    for wire in [hello, spent, unknown, wrong_binder] {
        let error = refused(&broker, &wire).await;
        assert!(redeem(&error), "{error}");
    }

    let keyless = Sample { identities: vec![], ..sample(3) };
    let early = sample(3).with(EARLY_DATA, vec![]);
    let old = sample(3).without(SUPPORTED_VERSIONS);
    let mut bad = [keyless, early, old].map(|each| records(&each.build(), 1 << 14)).to_vec();
    bad.extend([b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0; 9], vec![22; 20 << 10]]);
    bad.push(records(&sample(3).with(21, vec![0; 20_000]).build(), 1 << 14));
    for wire in bad {
        let error = refused(&broker, &wire).await;
        assert!(matches!(error, AcceptError::Hello(_)), "{error}");
    }
    assert!(!broker.is_spent(3));

    // The key is right; it is the TLS stack that gives up: there is no group in common.
    let groupless = sample(3).with(SUPPORTED_GROUPS, vec![0, 2, 1, 0]).with(KEY_SHARE, vec![0, 0]);
    let error = refused(&broker, &records(&groupless.bind(&psk(3), &[]), 1 << 14)).await;
    assert!(matches!(error, AcceptError::Handshake(HandshakeError::Tls(_))), "{error}");
}

#[tokio::test(start_paused = true)]
async fn whoever_dawdles_is_refused_after_five_seconds() {
    let broker = FakeBroker::default();
    let hello = captured_hello(broker.issue(1)).await;
    let (mut near, far) = duplex(64 << 10);
    let started = Instant::now();
    let slow = async {
        for byte in &hello {
            if near.write_all(&[*byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    let acceptor = acceptor(&broker);
    let (accepted, ()) = tokio::join!(acceptor.accept(far), slow);
    assert!(matches!(accepted, Err(AcceptError::TooSlow("ClientHello"))));
    assert!(started.elapsed() < Duration::from_secs(7));
    let mut answer = Vec::new();
    near.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, ALERT);
    assert!(broker.offers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_finishes_is_refused_after_ten_seconds() {
    let broker = FakeBroker::default();
    let hello = captured_hello(broker.issue(1)).await;
    let (mut near, far) = duplex(64 << 10);
    near.write_all(&hello).await.unwrap();
    let started = Instant::now();
    let error = acceptor(&broker).accept(far).await.unwrap_err();
    assert!(matches!(error, AcceptError::TooSlow("handshake")), "{error}");
    assert_eq!(started.elapsed().as_secs(), 10);
    let mut answer = Vec::new();
    near.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer[0], 22, "the ServerHello had been sent");
    assert!(answer.ends_with(&ALERT));
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_never_answers_holds_nobody_longer_than_ten_seconds() {
    #[derive(Debug)]
    struct Silent;

    #[async_trait]
    impl Redeem for Silent {
        async fn redeem(&self, _offer: &Offer) -> Result<Redeemed, RedeemError> {
            pending().await
        }
    }

    let hello = captured_hello(forged(1)).await;
    let (mut near, far) = duplex(64 << 10);
    near.write_all(&hello).await.unwrap();
    let error = PskAcceptor::new(Silent).unwrap().accept(far).await.unwrap_err();
    assert!(matches!(error, AcceptError::TooSlow("handshake")), "{error}");
    let mut answer = Vec::new();
    near.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, ALERT);
}

#[tokio::test]
async fn a_peer_that_hangs_up_is_an_error() {
    let broker = FakeBroker::default();
    let (near, far) = duplex(64);
    drop(near);
    let error = acceptor(&broker).accept(far).await.unwrap_err();
    assert!(matches!(error, AcceptError::Silent), "{error}");
}

/// What the server answers next: one handshake message, in plain text.
async fn plain_message(near: &mut DuplexStream) -> Vec<u8> {
    loop {
        let mut header = [0; 5];
        near.read_exact(&mut header).await.unwrap();
        let mut content = vec![0; u16::from_be_bytes([header[3], header[4]]).into()];
        near.read_exact(&mut content).await.unwrap();
        match header[0] {
            20 => {} // A change_cipher_spec for middleboxes.
            22 => return content,
            _other => return header.into_iter().chain(content).collect(),
        }
    }
}

/// Offers a group without a key share for it, is asked to retry, and retries with the binder that
/// `retry_key` makes. Returns the server's answer to that, as far as it can be read.
async fn retry(broker: &FakeBroker, number: u8, retry_key: u8) -> Vec<u8> {
    const X25519_ID: [u8; 2] = [0, 0x1d];
    let key = PrivateKey::generate(&X25519).unwrap();
    let share = [&X25519_ID[..], &vector(2, key.compute_public_key().unwrap().as_ref())].concat();
    let groups = Sample::new(identity(number)).with(SUPPORTED_GROUPS, vector(2, &X25519_ID));
    let first = groups.clone().with(KEY_SHARE, vec![0, 0]).bind(&psk(number), &[]);
    let second = groups.with(KEY_SHARE, vector(2, &share));

    let (mut near, far) = duplex(64 << 10);
    let client = async {
        near.write_all(&records(&first, 1 << 14)).await.unwrap();
        let hello_retry = plain_message(&mut near).await;
        assert_eq!(hello_retry[6..38], sha256(b"HelloRetryRequest"));
        let before = [&[254, 0, 0, 32][..], &sha256(&first), &hello_retry].concat();
        let second = second.bind(&psk(retry_key), &before);
        near.write_all(&records(&second, 1 << 14)).await.unwrap();
        let answer = plain_message(&mut near).await;
        drop(near);
        answer
    };
    let acceptor = acceptor(broker);
    tokio::join!(acceptor.accept(far), client).1
}

#[tokio::test]
async fn a_client_that_must_retry_redeems_once() {
    let broker = FakeBroker::default();
    drop(broker.issue(1));
    let server_hello = retry(&broker, 1, 1).await;
    assert_eq!(server_hello[0], 2);
    assert_ne!(server_hello[6..38], sha256(b"HelloRetryRequest"));
    assert_eq!(broker.offers().len(), 1);
}

#[tokio::test]
async fn the_second_hello_must_prove_the_key_too() {
    let broker = FakeBroker::default();
    drop(broker.issue(1));
    assert_eq!(retry(&broker, 1, 2).await, ALERT);
}
