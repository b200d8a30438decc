use std::sync::Arc;

use claviger_runtime::tasks::Tasks;
use rcgen::PKCS_ECDSA_P384_SHA384;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;
use crate::refusal::ALERT;
use crate::route::Profile;
use crate::svid::fixture::{Agent, Authority, clock};

const WEB: &str = "spiffe://example.org/web";
const DB: &str = "spiffe://example.org/db";

fn end(agent: &Agent) -> Mtls {
    Mtls { svids: agent.svids.clone(), enforcer: None }
}

/// Two programs of one trust domain.
fn pair(ca: &Authority) -> (Agent, Agent) {
    (Agent::new(ca.says(WEB, 200)), Agent::new(ca.says(DB, 201)))
}

/// The two ends' views of one handshake in memory.
async fn shake_hands(
    client: &Mtls,
    peer: &str,
    server: &Mtls,
    wanted: Wanted<'_>,
) -> (Result<Tunnel, MtlsError>, Result<Tunnel, MtlsError>) {
    let (near, far) = duplex(64 << 10);
    let (peer, purpose) = (peer.parse().unwrap(), "query".parse().unwrap());
    tokio::join!(client.dial(near, &peer, &purpose), server.answer(far, wanted, &purpose))
}

/// What the server says of a client who comes as `client`; the client has no answer from it.
async fn refused(client: &Agent, server: &Agent) -> String {
    let (client, server) = shake_hands(&end(client), DB, &end(server), Wanted::default()).await;
    if let Ok(mut tunnel) = client {
        // It was done first, and learns of it when it reads.
        tunnel.read_u8().await.unwrap_err();
    }
    let error = server.unwrap_err();
    format!("{:?}", claviger_runtime::telemetry::Chain(&error).to_string())
}

#[tokio::test]
async fn two_svids_make_a_tunnel() {
    let (web, db) = pair(&Authority::new("example.org"));
    let (client, server) = shake_hands(&end(&web), DB, &end(&db), Wanted::default()).await;
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    assert_eq!(client.ends(), server.ends());
    assert_eq!(client.ends().client.to_string(), WEB);
    assert_eq!(client.ends().server.to_string(), DB);
    assert_eq!(client.ends().purpose.as_str(), "query");
    assert_eq!(client.ends().group, "X25519MLKEM768");
    assert_eq!(client.ends().suite, "TLS_AES_128_GCM_SHA256");

    client.write_all(b"ping").await.unwrap();
    client.flush().await.unwrap();
    let mut ping = [0; 4];
    server.read_exact(&mut ping).await.unwrap();
    assert_eq!(&ping, b"ping");
    server.shutdown().await.unwrap();
    assert_eq!(client.read(&mut ping).await.unwrap(), 0);

    let export = |tunnel: &Tunnel| {
        let mut out = [0; 32];
        tunnel.export(b"EXPORTER-test", b"context", &mut out).unwrap();
        out
    };
    assert_eq!(export(&client), export(&server));
}

#[tokio::test]
async fn whoever_else_answers_is_not_believed_and_does_not_learn_who_called() {
    let (web, db) = pair(&Authority::new("example.org"));
    let other = "spiffe://example.org/other";
    let (client, server) = shake_hands(&end(&web), other, &end(&db), Wanted::default()).await;
    let error = claviger_runtime::telemetry::Chain(&client.unwrap_err()).to_string();
    assert!(error.contains("the server is `spiffe://example.org/db`, not"), "{error}");
    // The client's certificate was in the flight that was never sent.
    assert!(matches!(server, Err(MtlsError::Handshake(HandshakeError::Io(_)))), "{server:?}");
}

#[tokio::test]
async fn another_authority_of_the_same_name_is_a_stranger() {
    let (_, db) = pair(&Authority::new("example.org"));
    let (web, _) = pair(&Authority::new("example.org"));
    let (client, server) = shake_hands(&end(&web), DB, &end(&db), Wanted::default()).await;
    client.unwrap_err();
    server.unwrap_err();
}

#[tokio::test]
async fn another_trust_domain_counts_if_it_is_federated() {
    let (ours, theirs) = (Authority::new("example.org"), Authority::new("example.com"));
    let partner = "spiffe://example.com/web";
    let db = Agent::new(ours.says(DB, 201));
    let web = Agent::new(ours.federated(theirs.says(partner, 200)));
    let error = refused(&web, &db).await;
    assert!(error.contains("`spiffe://example.com/web` is not in the trust domain"), "{error}");

    db.say(theirs.federated(ours.says(DB, 202)));
    let (client, server) = shake_hands(&end(&web), DB, &end(&db), Wanted::default()).await;
    assert_eq!(server.unwrap().ends().client.to_string(), partner);
    client.unwrap();

    // Each authority vouches for its own.
    let forged = Agent::new(theirs.federated(ours.federated(theirs.says(WEB, 203))));
    refused(&forged, &db).await;
    let third = Agent::new(
        ours.federated(Authority::new("example.net").says("spiffe://example.net/web", 204)),
    );
    let error = refused(&third, &db).await;
    assert!(error.contains("in a trust domain that is not known here"), "{error}");
}

#[tokio::test]
async fn an_svid_that_was_revoked_opens_nothing() {
    let ca = Authority::new("example.org");
    let (web, db) = pair(&ca);
    let mut says = ca.says(DB, 202);
    says.crl = vec![ca.revokes(200)];
    db.say(says);
    let error = refused(&web, &db).await;
    assert!(error.contains("CertRevoked"), "{error}");
    web.say(ca.says(WEB, 205));
    let (client, server) = shake_hands(&end(&web), DB, &end(&db), Wanted::default()).await;
    client.unwrap();
    server.unwrap();
}

#[tokio::test]
async fn rotation_and_withdrawal_touch_no_tunnel_that_exists() {
    let ca = Authority::new("example.org");
    let (web, db) = pair(&ca);
    let (client, server) = shake_hands(&end(&web), DB, &end(&db), Wanted::default()).await;
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    web.say(ca.says(WEB, 300));
    db.say(ca.says(DB, 301));
    shake_hands(&end(&web), DB, &end(&db), Wanted::default()).await.1.unwrap();
    web.withdraw();
    let (none, _) = shake_hands(&end(&web), DB, &end(&db), Wanted::default()).await;
    assert!(matches!(none, Err(MtlsError::NoSvid(NoSvid::Nobody))), "{none:?}");
    client.write_all(b"still").await.unwrap();
    client.flush().await.unwrap();
    let mut still = [0; 5];
    server.read_exact(&mut still).await.unwrap();
    assert_eq!(&still, b"still");
}

#[tokio::test]
async fn who_is_not_wanted_or_not_permitted_stays_out() {
    let (web, db) = pair(&Authority::new("example.org"));
    let peers = [DB.parse().unwrap()].into();
    let only = Wanted { purpose: None, peers: Some(&peers) };
    let (_, server) = shake_hands(&end(&web), DB, &end(&db), only).await;
    assert!(matches!(server, Err(MtlsError::Unwanted(Unwanted::Peer(_)))), "{server:?}");

    // Nobody has said yet what the policies are.
    let (nowhere, domain) = ("/nonexistent/agent.sock".into(), "example.org".parse().unwrap());
    let enforcer = Enforcer::follow(nowhere, domain, 9, clock(), &Tasks::default()).unwrap();
    let enforced = |agent| Mtls { enforcer: Some(enforcer.clone()), ..end(agent) };
    let (_, server) = shake_hands(&end(&web), DB, &enforced(&db), Wanted::default()).await;
    assert!(matches!(server, Err(MtlsError::Denied(_))), "{server:?}");
    let (client, server) = shake_hands(&enforced(&web), DB, &end(&db), Wanted::default()).await;
    assert!(matches!(client, Err(MtlsError::Denied(_))), "{client:?}");
    server.unwrap_err();
}

/// What a stranger who sends `bytes` to `db` gets, and after how many milliseconds.
async fn answer_to(bytes: &[u8], db: &Agent) -> (Vec<u8>, u128) {
    let (mut near, far) = duplex(64 << 10);
    let (server, purpose) = (end(db), "query".parse().unwrap());
    let started = Instant::now();
    let stranger = async {
        near.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).await.unwrap();
        drop(near);
        (answer, started.elapsed().as_millis())
    };
    let (answer, said) = tokio::join!(server.answer(far, Wanted::default(), &purpose), stranger);
    answer.unwrap_err();
    said
}

#[tokio::test]
async fn garbage_gets_the_one_refusal_at_the_same_time_as_at_other_doors() {
    let (_, db) = pair(&Authority::new("example.org"));
    let garbage = [&b"GET / HTTP/1.1\r\n\r\n"[..], &[22, 3, 1, 0, 5, 1, 0, 0, 1, 0]];
    for garbage in garbage {
        let (answer, took) = answer_to(garbage, &db).await;
        assert_eq!(answer, ALERT);
        assert!((100..=200).contains(&took), "{took} ms");
    }
    // Nobody sees that the shim itself is nobody.
    db.withdraw();
    assert_eq!(answer_to(garbage[0], &db).await.0, ALERT);
}

/// Believes whoever answers, and presents nothing.
#[derive(Debug)]
struct Credulous(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn credulous(provider: Arc<rustls::crypto::CryptoProvider>) -> TlsConnector {
    let verifier = Arc::new(Credulous(Arc::clone(&provider)));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

fn nowhere() -> ServerName<'static> {
    "localhost".try_into().unwrap()
}

/// What a client of the algorithms `client` gets from a server within `profile`, if it gets anything.
async fn negotiate(
    client: Arc<rustls::crypto::CryptoProvider>,
    profile: Profile,
) -> Option<(String, String)> {
    let ca = Authority::with("example.org", &PKCS_ECDSA_P384_SHA384);
    let db = Agent::within(profile, ca.says(DB, 201));
    let (near, far): (DuplexStream, DuplexStream) = duplex(64 << 10);
    let (server, purpose) = (end(&db), "query".parse().unwrap());
    let connector = credulous(client);
    let stranger = async {
        let stream = TlsStream::from(connector.connect(nowhere(), near).await.ok()?);
        let negotiated = session::negotiated(state(&stream));
        let mut stream = stream;
        // It presented nothing: it is told nothing.
        stream.read_u8().await.unwrap_err();
        negotiated
    };
    let (answered, negotiated) =
        tokio::join!(server.answer(far, Wanted::default(), &purpose), stranger);
    answered.unwrap_err();
    negotiated
}

#[tokio::test]
async fn each_profile_negotiates_what_it_stands_for_and_nothing_else() {
    use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
    use rustls::{SupportedCipherSuite, crypto::SupportedKxGroup};

    let groups: [&'static dyn SupportedKxGroup; 6] = [
        kx_group::X25519MLKEM768,
        kx_group::SECP256R1MLKEM768,
        kx_group::MLKEM1024,
        kx_group::X25519,
        kx_group::SECP256R1,
        kx_group::SECP384R1,
    ];
    let suites: [SupportedCipherSuite; 3] = [
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    let taken = async |profile| {
        let (mut by_groups, mut by_suites) = (Vec::new(), Vec::new());
        for group in groups {
            let only = Arc::new(rustls::crypto::CryptoProvider {
                kx_groups: vec![group],
                ..default_provider()
            });
            by_groups.extend(negotiate(only, profile).await.map(|(group, _)| group));
        }
        for suite in suites {
            let only = Arc::new(rustls::crypto::CryptoProvider {
                cipher_suites: vec![suite],
                kx_groups: groups.to_vec(),
                ..default_provider()
            });
            by_suites.extend(negotiate(only, profile).await.map(|(_, suite)| suite));
        }
        (by_groups.join(" "), by_suites.join(" "))
    };
    let all = "TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256";
    let (groups, suites) = taken(Profile::Modern).await;
    assert_eq!(groups, "X25519MLKEM768 SecP256r1MLKEM768 x25519 secp256r1 secp384r1");
    assert_eq!(suites, all);
    let (groups, suites) = taken(Profile::Nist80052r2).await;
    assert_eq!(groups, "X25519MLKEM768 SecP256r1MLKEM768 secp256r1 secp384r1");
    assert_eq!(suites, "TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384");
    let (groups, suites) = taken(Profile::Cnsa2).await;
    assert_eq!(groups, "MLKEM1024 secp384r1");
    assert_eq!(suites, "TLS_AES_256_GCM_SHA384");
}

#[tokio::test]
async fn both_ends_of_a_profile_agree_on_its_best() {
    let ca = Authority::with("example.org", &PKCS_ECDSA_P384_SHA384);
    for (profile, group, suite) in [
        (Profile::Modern, "X25519MLKEM768", "TLS_AES_128_GCM_SHA256"),
        (Profile::Nist80052r2, "X25519MLKEM768", "TLS_AES_128_GCM_SHA256"),
        (Profile::Cnsa2, "MLKEM1024", "TLS_AES_256_GCM_SHA384"),
    ] {
        let web = Agent::within(profile, ca.says(WEB, 200));
        let db = Agent::within(profile, ca.says(DB, 201));
        let (client, server) = shake_hands(&end(&web), DB, &end(&db), Wanted::default()).await;
        assert_eq!(server.unwrap().ends(), client.as_ref().unwrap().ends());
        assert_eq!(client.as_ref().unwrap().ends().group, group);
        assert_eq!(client.unwrap().ends().suite, suite);
    }
}

#[tokio::test]
async fn a_certificate_that_a_profile_rules_out_opens_nothing() {
    let ca = Authority::with("example.org", &PKCS_ECDSA_P384_SHA384);
    let weak = Authority::new("example.org");
    let db = Agent::within(Profile::Cnsa2, ca.federated(ca.says(DB, 201)));
    let web = Agent::new(weak.says(WEB, 200));
    let (client, server) = shake_hands(&end(&web), DB, &end(&db), Wanted::default()).await;
    client.unwrap_err();
    server.unwrap_err();
}
