//! Certificates, versions, resumption, handshakes without end.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use claviger_tests::process::PATIENCE;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType,
    date_time_ymd,
};
use rustls::client::Resumption;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

use super::papers::{Papers, foreign};
use super::tls::{H2, HTTP, client, dial, old_client, shake, talk};
use super::world::{CLIENT, World};
use crate::claviger;

/// What is wrong with it, and a certificate that is wrong in that way only.
fn forged(world: &World) -> Vec<(&'static str, Papers)> {
    let issue =
        |names: &[&str], change: fn(&mut CertificateParams)| world.authority.issue(names, change);
    vec![
        ("of an authority that only says it is ours", foreign("spiffe://example.org", CLIENT).1),
        ("expired", issue(&[CLIENT], |svid| svid.not_after = date_time_ymd(2021, 1, 1))),
        ("not yet valid", issue(&[CLIENT], |svid| svid.not_before = date_time_ymd(2089, 1, 1))),
        (
            "of the Web",
            issue(&[], |svid| {
                svid.subject_alt_names = vec![SanType::DnsName("example.org".try_into().unwrap())];
            }),
        ),
        ("without any name", issue(&[], |_| {})),
        (
            "with its name where nobody looks",
            issue(&[], |svid| svid.distinguished_name.push(DnType::CommonName, CLIENT)),
        ),
        ("of two identities", issue(&[CLIENT, "spiffe://example.org/other"], |_| {})),
        ("of a web site", issue(&["https://example.org/client"], |_| {})),
        (
            "of another trust domain, by our authority",
            issue(&["spiffe://other.org/client"], |_| {}),
        ),
        ("of a trust domain as such", issue(&["spiffe://example.org"], |_| {})),
        (
            "of an authority as a leaf",
            issue(&[CLIENT], |svid| svid.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        ),
        (
            "whose key signs certificates",
            issue(&[CLIENT], |svid| svid.key_usages.push(KeyUsagePurpose::KeyCertSign)),
        ),
        (
            "whose key signs revocation lists",
            issue(&[CLIENT], |svid| svid.key_usages.push(KeyUsagePurpose::CrlSign)),
        ),
    ]
}

/// Another trust domain with which ours federates, and somebody whom it vouches for.
async fn federate(world: &World) -> Papers {
    let (authority, papers) = foreign("spiffe://other.org", "spiffe://other.org/client");
    let socket = world.deployment.admin_socket();
    let set = ["bundle", "set", "--id", "spiffe://other.org", "--path", "-", "--socket-path"];
    let mut set = claviger()
        .command(set.iter().chain(&[socket.to_str().unwrap()]))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    set.stdin.take().unwrap().write_all(authority.as_bytes()).await.unwrap();
    assert!(set.wait().await.unwrap().success());
    papers
}

#[tokio::test]
async fn nobody_comes_in_by_a_certificate_that_is_not_a_good_one_of_ours() {
    let world = World::start().await;
    let mut forged = forged(&world);
    forged.push(("of a trust domain with which ours federates", federate(&world).await));
    let failed = "claviger_tls_handshakes_total";
    let before = world.counted(failed, "\"failed\"").await;
    let mut refused = 0;
    let asks_who = [(world.agents(), H2), (world.control, HTTP), (world.keys, HTTP)];
    for (door, protocol) in asks_who {
        for (what, papers) in &forged {
            let talked = talk(door, protocol, client(Some(protocol), Some(papers))).await;
            let why = talked.map(drop).expect_err(what);
            assert!(why.contains("alert"), "{what}: {why}");
            refused += 1;
        }
        // The certificate, and nothing else, was in the way.
        talk(door, protocol, client(Some(protocol), Some(&world.papers))).await.unwrap();
    }
    for (door, protocol) in [(world.control, HTTP), (world.keys, HTTP)] {
        let why = talk(door, protocol, client(Some(protocol), None)).await.map(drop).unwrap_err();
        assert!(why.contains("CertificateRequired"), "{why}");
        refused += 1;
    }
    for (door, protocol) in asks_who.into_iter().chain([(world.public, HTTP)]) {
        let why = talk(door, protocol, old_client(protocol)).await.map(drop).unwrap_err();
        assert!(why.contains("ProtocolVersion"), "{why}");
        let other = if protocol == H2 { HTTP } else { H2 };
        let good = client(Some(other), Some(&world.papers));
        let why = talk(door, other, good).await.map(drop).unwrap_err();
        assert!(why.contains("NoApplicationProtocol"), "{why}");
        refused += 2;
    }
    let after = world.counted(failed, "\"failed\"").await;
    assert_eq!(after - before, refused, "each is counted");
    world.is_served(PATIENCE).await;
    println!("survived: {refused} handshakes that were not to succeed");
}

/// A ticket that allows for early data, from a server of our own under the same name: the client then tries
/// to resume with whomever it meets next.
async fn ticket(config: &ClientConfig) {
    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut server = ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(vec![certificate.der().clone()], key)
    .unwrap();
    server.max_early_data_size = 1 << 10;
    server.alpn_protocols.clone_from(&config.alpn_protocols);
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let serving = async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(stream).await.unwrap();
            stream.write_all(b"x").await.unwrap();
            stream.flush().await.unwrap();
            stream
        };
        let asking = async {
            let mut stream =
                shake(dial([127, 0, 0, 1], address).await, config.clone()).await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'x');
            stream
        };
        let (_server, client) = tokio::join!(serving, asking);
        // The second time shows that the first ticket was one.
        assert_eq!(client.get_ref().1.handshake_kind(), Some(kind));
        assert!(0 < client.get_ref().1.tls13_tickets_received());
    }
}

#[tokio::test]
async fn nothing_is_resumed_and_nothing_is_sent_before_its_time() {
    let world = World::start().await;
    let doors: [(SocketAddr, &str); 4] =
        [(world.agents(), H2), (world.control, HTTP), (world.keys, HTTP), (world.public, HTTP)];
    for (door, protocol) in doors {
        let mut config = client(Some(protocol), Some(&world.papers));
        config.resumption = Resumption::in_memory_sessions(8);
        config.enable_early_data = true;
        ticket(&config).await;
        for _ in 0..2 {
            let mut stream = talk(door, protocol, config.clone()).await.unwrap();
            let mut more = [0; 1 << 10];
            drop(timeout(Duration::from_millis(100), stream.read(&mut more)).await);
            let session = stream.get_ref().1;
            assert_eq!(session.handshake_kind(), Some(HandshakeKind::Full));
            assert_eq!(session.tls13_tickets_received(), 0, "{door}");
            assert!(!session.is_early_data_accepted());
        }
    }
}

/// Handshakes without end at each door, until the last is ended. How long that took.
pub(super) async fn without_end(world: &World) -> Duration {
    let doors = [world.agents(), world.control, world.keys, world.public];
    let begun = Instant::now();
    let mut silent = Vec::new();
    for door in doors {
        for number in 0..400 {
            let mut stream = dial([127, 0, 0, 2], door).await;
            if number % 2 == 0 {
                // The beginning of a handshake: there is more to come.
                drop(stream.write_all(&[22, 3, 1, 1, 0, 1, 0, 0]).await);
            }
            silent.push(stream);
        }
    }
    // Meanwhile others are let in.
    for (door, protocol) in doors.into_iter().zip([H2, HTTP, HTTP, HTTP]) {
        let good = client(Some(protocol), Some(&world.papers));
        talk(door, protocol, good).await.unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    for stream in &mut silent {
        let ended = timeout(Duration::from_secs(20), stream.read_u8()).await;
        assert_eq!(ended.unwrap().map_err(|_broken| ()), Err(()));
    }
    begun.elapsed()
}
