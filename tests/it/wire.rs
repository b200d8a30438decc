//! What a passive observer sees of a connection by a one-time key: asserted from the bytes that went by.

#![expect(clippy::indexing_slicing, reason = "a test that panics is a test that fails")]

mod capture;

use std::time::Duration;

use claviger_core::psk::identity::WireIdentity;
use claviger_shim::{PskAcceptor, PskConnector};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::join;
use tokio::time::timeout;

use self::capture::{Extensions, Hello, OneKey, Record, carry, list8, list16, records};

/// What neither end wants an observer to read.
const SECRETS: [&str; 5] = ["spiffe", "example.org", "ledger-client", "ledger-server", "settle"];

const APPLICATION_DATA: u8 = 23;
const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;

/// A record's type inside of it, and its authentication tag.
const SEALED: usize = 1 + 16;

/// Both directions of a whole conversation: a question, its answer, and a clean end.
async fn overheard(key: &OneKey) -> (Vec<u8>, Vec<u8>) {
    let (near, client_side) = duplex(1 << 16);
    let (far, server_side) = duplex(1 << 16);
    let (from_client, to_client) = tokio::io::split(client_side);
    let (from_server, to_server) = tokio::io::split(server_side);

    let client = async {
        let mut tunnel = PskConnector::new().unwrap().connect(near, key.issued()).await.unwrap();
        tunnel.write_all(b"question").await.unwrap();
        let mut answer = String::new();
        tunnel.shutdown().await.unwrap();
        tunnel.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "an answer");
    };
    let server = async {
        let mut tunnel = PskAcceptor::new(key.clone()).unwrap().accept(far).await.unwrap();
        let mut question = String::new();
        tunnel.read_to_string(&mut question).await.unwrap();
        assert_eq!(question, "question");
        tunnel.write_all(b"an answer").await.unwrap();
        tunnel.shutdown().await.unwrap();
    };
    let all = async {
        let ((), (), sent, received) =
            join!(client, server, carry(from_client, to_server), carry(from_server, to_client));
        (sent, received)
    };
    timeout(Duration::from_secs(20), all).await.unwrap()
}

#[tokio::test]
async fn an_observer_sees_one_identity_and_nothing_that_could_be_used_again() {
    let key = OneKey::new();
    let (sent, received) = overheard(&key).await;
    let (sent, received) = (records(&sent), records(&received));

    assert_eq!(sent[0].kind, HANDSHAKE);
    let client = Hello::client(sent[0].body);
    check_offer(&client.extensions, key.identity());
    assert_eq!(received[0].kind, HANDSHAKE);
    let server = Hello::server(received[0].body);
    check_choice(&server.extensions);
    // There is no session to go on with: the server repeats what the client said, which means nothing.
    assert_eq!(server.session_id, client.session_id);
    assert_ne!(client.random, server.random);

    // EncryptedExtensions without any, and a Finished of SHA-256. A Certificate or a CertificateRequest does
    // not fit in; and after the answer and the close_notify nothing comes that a NewSessionTicket could be.
    let sealed = sealed(&received[1..]);
    let handshake = sealed.iter().scan(0, |sum, length| {
        *sum += length;
        Some(*sum)
    });
    let whole = (4 + 2) + (4 + 32);
    let flight = handshake.take_while(|sum| *sum <= whole).collect::<Vec<_>>();
    assert_eq!(flight.last(), Some(&whole), "{sealed:?}");
    assert_eq!(sealed[flight.len()..], ["an answer".len(), 2], "{sealed:?}");

    // Finished, the question, close_notify: no early data before, no certificate of the client.
    assert_eq!(self::sealed(&sent[1..]), [4 + 32, "question".len(), 2]);
}

#[tokio::test]
async fn an_observer_reads_no_name() {
    let (sent, received) = overheard(&OneKey::new()).await;
    for secret in SECRETS {
        for (direction, bytes) in [("to the server", &sent), ("to the client", &received)] {
            let found = bytes.windows(secret.len()).any(|some| some == secret.as_bytes());
            assert!(!found, "`{secret}` went by, on its way {direction}");
        }
    }
}

#[tokio::test]
async fn an_observer_can_not_tell_that_two_connections_are_of_the_same_pair() {
    let (first, second) = (OneKey::new(), OneKey::new());
    let (one, _) = overheard(&first).await;
    let (other, _) = overheard(&second).await;
    let (one, other) = (records(&one), records(&other));
    let (one, other) = (Hello::client(one[0].body), Hello::client(other[0].body));
    assert_ne!(one.random, other.random);
    // What does not differ by chance says the same for everybody.
    assert_eq!(fixed(one.extensions), fixed(other.extensions));
}

/// All but the key share and the key.
fn fixed(mut extensions: Extensions<'_>) -> Extensions<'_> {
    extensions.retain(|(kind, _)| ![41, 51].contains(kind));
    extensions
}

/// One key with a Diffie-Hellman exchange, and nothing that reminds of another connection (RFC 8446 §4.2).
fn check_offer(extensions: &Extensions<'_>, identity: WireIdentity) {
    let kinds = extensions.iter().map(|(kind, _)| *kind).collect::<Vec<_>>();
    for (absent, name) in [
        (0, "server_name"),
        (16, "application_layer_protocol_negotiation"),
        (33, "tls_cert_with_extern_psk"),
        (35, "session_ticket"),
        (42, "early_data"),
        (44, "cookie"),
        (49, "post_handshake_auth"),
    ] {
        assert!(!kinds.contains(&absent), "there is a {name} in {kinds:?}");
    }
    let body = |kind| extensions.iter().find(|(found, _)| *found == kind).unwrap().1;

    assert_eq!(body(43), [2, 3, 4], "TLS 1.3 and no other version");
    assert_eq!(body(45), [1, 1], "psk_dhe_ke and no other mode");
    let (shares, rest) = list16(body(51));
    assert!(rest.is_empty());
    assert_eq!(shares[..2], X25519MLKEM768, "the first key share");

    // The identity, an age of 0, and one binder of SHA-256.
    assert_eq!(kinds.last(), Some(&41));
    let (identities, binders) = list16(body(41));
    let (first, age) = list16(identities);
    assert_eq!(first, identity.to_string().as_bytes());
    assert_eq!(age, [0; 4], "an age of 0, and no other identity");
    let (binders, rest) = list16(binders);
    assert!(rest.is_empty());
    let (binder, rest) = list8(binders);
    assert_eq!((binder.len(), rest), (32, [].as_slice()));
}

const X25519MLKEM768: [u8; 2] = [0x11, 0xec];

/// The key, and a key share with it.
fn check_choice(extensions: &Extensions<'_>) {
    let mut kinds = extensions.iter().map(|(kind, _)| *kind).collect::<Vec<_>>();
    kinds.sort_unstable();
    assert_eq!(kinds, [41, 43, 51], "pre_shared_key, supported_versions, key_share");
    for (kind, body) in extensions {
        match kind {
            41 => assert_eq!(*body, [0, 0], "the first identity"),
            43 => assert_eq!(*body, [3, 4]),
            _key_share => assert_eq!(body[..2], X25519MLKEM768),
        }
    }
}

/// How many bytes are in each sealed record; a change_cipher_spec means nothing in TLS 1.3.
fn sealed(records: &[Record<'_>]) -> Vec<usize> {
    let sealed = records.iter().filter(|record| record.kind != CHANGE_CIPHER_SPEC);
    let length = |record: &Record<'_>| {
        assert_eq!(record.kind, APPLICATION_DATA, "something is in clear after the hellos");
        record.body.len() - SEALED
    };
    sealed.map(length).collect()
}
