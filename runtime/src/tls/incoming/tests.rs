//! Handshakes over real sockets.

use futures_util::StreamExt;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS12;
use rustls::{ClientConfig, HandshakeKind, NamedGroup, ProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tower::Service;

use super::*;
use crate::place::Dialed;
use crate::tasks::Drain;
use crate::tls::connect::ConnectError;
use crate::tls::fixture::{Authority, START, clock, date, uri_names};
use crate::tls::verifier::{ServerVerifier, algorithms};
use crate::tls::{Identity, TrustBundle, client_config, connector, server_config};

type ClientStream = tokio_rustls::client::TlsStream<Dialed>;

/// A server, `spiffe://example.org/server`, and what clients need to know of it.
struct World {
    ca: Authority,
    bundle: TrustBundle,
    server: Identity,
    tasks: Tasks,
    incoming: TlsIncoming,
}

impl World {
    async fn start() -> Self {
        Self::start_with(Limits::default()).await
    }

    async fn start_with(limits: Limits) -> Self {
        let ca = Authority::new("example.org");
        let (bundle, server, tasks) = (ca.bundle(), ca.identity("/server"), Tasks::default());
        let config = server_config(&server, &bundle, clock());
        let incoming = TlsIncoming::bind("127.0.0.1:0".parse().unwrap(), config, limits, &tasks)
            .await
            .unwrap();
        Self { ca, bundle, server, tasks, incoming }
    }

    fn client(&self, identity: Option<&Identity>) -> Arc<ClientConfig> {
        client_config(identity, &self.ca.bundle(), self.server_id("/server"), clock())
    }

    fn server_id(&self, path: &str) -> claviger_core::id::SpiffeId {
        self.bundle.trust_domain().join(path).unwrap()
    }

    async fn connect(&self, config: Arc<ClientConfig>) -> Result<ClientStream, ConnectError> {
        let addr = self.incoming.addr().to_string().parse().unwrap();
        let mut connector = connector(addr, config);
        Ok(connector.call(tonic::transport::Uri::from_static("http://unused")).await?.into_inner())
    }

    /// Both ends of a connection that both ends agree to.
    async fn pair(&mut self, config: Arc<ClientConfig>) -> (ClientStream, TlsStream) {
        let client = self.connect(config).await.unwrap();
        let server = self.incoming.next().await.unwrap().unwrap();
        (client, server)
    }

    /// The server refuses this client, and the next one is served as if nothing had happened.
    async fn assert_refused(&mut self, config: Arc<ClientConfig>) -> String {
        // In TLS 1.3 a client is done before its certificate is looked at, and learns by reading.
        let why = match self.connect(config).await {
            Ok(mut client) => client.read(&mut [0]).await.unwrap_err().to_string(),
            Err(error) => Chain(&error).to_string(),
        };
        let (_client, server) = self.pair(self.client(None)).await;
        assert_eq!(server.peer().id(), None);
        why
    }
}

/// A client that presents whatever it likes.
fn presenting(
    config: &ClientConfig,
    (chain, key): (Vec<CertificateDer<'static>>, Vec<u8>),
) -> Arc<ClientConfig> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
    let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let mut config = config.clone();
    config.client_auth_cert_resolver =
        Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)));
    Arc::new(config)
}

#[tokio::test]
async fn both_ends_know_each_other_and_the_key_exchange_is_post_quantum() {
    let mut world = World::start().await;
    let agent = world.ca.identity("/agent");
    let (mut client, mut server) = world.pair(world.client(Some(&agent))).await;

    assert_eq!(server.peer().id(), Some(agent.current().leaf().id()));
    assert_eq!(server.peer().leaf(), Some(agent.current().leaf()));
    let Dialed::Left(tcp) = client.get_ref().0 else { panic!("not TCP") };
    assert_eq!(server.peer().addr(), tcp.local_addr().unwrap());
    for (version, group) in [
        (
            server.connection().protocol_version(),
            server.connection().negotiated_key_exchange_group(),
        ),
        (client.get_ref().1.protocol_version(), client.get_ref().1.negotiated_key_exchange_group()),
    ] {
        assert_eq!(version, Some(ProtocolVersion::TLSv1_3));
        assert_eq!(group.unwrap().name(), NamedGroup::X25519MLKEM768);
    }

    client.write_all(b"ping").await.unwrap();
    client.flush().await.unwrap();
    let mut got = [0; 4];
    server.read_exact(&mut got).await.unwrap();
    server.write_all(&got).await.unwrap();
    server.flush().await.unwrap();
    client.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"ping");
}

#[tokio::test]
async fn a_client_may_come_without_a_certificate() {
    let mut world = World::start().await;
    let (_client, server) = world.pair(world.client(None)).await;
    assert_eq!(server.peer().id(), None);
}

#[tokio::test]
async fn another_server_of_the_trust_domain_is_refused() {
    let world = World::start().await;
    let expected = world.server_id("/other");
    let config = client_config(None, &world.bundle, expected, clock());
    let error = world.connect(config).await.unwrap_err();
    let text = Chain(&error).to_string();
    assert!(text.contains("spiffe://example.org/server"), "{text}");
    assert!(text.contains("not `spiffe://example.org/other`"), "{text}");
}

#[tokio::test]
async fn a_server_with_a_foreign_authority_is_refused() {
    let world = World::start().await;
    let stranger = Authority::new("example.org");
    let config = client_config(None, &stranger.bundle(), world.server_id("/server"), clock());
    let text = Chain(&world.connect(config).await.unwrap_err()).to_string();
    assert!(text.contains("UnknownIssuer"), "{text}");
}

#[tokio::test]
async fn a_foreign_client_is_refused() {
    let mut world = World::start().await;
    let foreign = Authority::new("example.org").issue("/agent");
    let why = world.assert_refused(presenting(&world.client(None), foreign)).await;
    assert!(why.contains("UnknownCA"), "{why}");
}

#[tokio::test]
async fn an_expired_client_is_refused() {
    let mut world = World::start().await;
    let expired = world.ca.issue_with("/agent", |svid| {
        svid.not_after = date(START.before(Duration::from_secs(1)));
    });
    let why = world.assert_refused(presenting(&world.client(None), expired)).await;
    assert!(why.contains("CertificateExpired"), "{why}");
}

#[tokio::test]
async fn a_client_with_two_names_is_refused() {
    let mut world = World::start().await;
    let two_faced = world.ca.issue_with("/agent", |svid| {
        svid.subject_alt_names = uri_names(&["spiffe://example.org/a", "spiffe://example.org/b"]);
    });
    let why = world.assert_refused(presenting(&world.client(None), two_faced)).await;
    assert!(why.contains("CertificateUnknown"), "{why}");
}

#[tokio::test]
async fn a_client_cannot_use_the_certificate_of_another() {
    let mut world = World::start().await;
    let ((chain, _), (_, key)) = (world.ca.issue("/victim"), world.ca.issue("/thief"));
    let config = presenting(&world.client(None), (chain, key));
    let why = world.assert_refused(config).await;
    assert!(why.contains("DecryptError"), "{why}");
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let mut world = World::start().await;
    let (bundle, expected) = (world.bundle.clone(), world.server_id("/server"));
    let verifier =
        ServerVerifier { trust: bundle.into(), algorithms: algorithms(), expected, clock: clock() };
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let why = world.assert_refused(Arc::new(config)).await;
    assert!(why.contains("ProtocolVersion"), "{why}");
}

#[tokio::test]
async fn nothing_is_resumed_even_if_the_client_would() {
    let mut world = World::start().await;
    let agent = world.ca.identity("/agent");
    let mut config = ClientConfig::clone(&world.client(Some(&agent)));
    config.resumption = Resumption::in_memory_sessions(8);
    let config = Arc::new(config);
    for _ in 0..2 {
        let (mut client, mut server) = world.pair(Arc::clone(&config)).await;
        server.write_all(b"x").await.unwrap();
        server.flush().await.unwrap();
        client.read_exact(&mut [0]).await.unwrap();
        assert_eq!(client.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(client.get_ref().1.tls13_tickets_received(), 0);
    }
}

#[tokio::test]
async fn a_new_identity_and_a_new_bundle_count_from_the_next_handshake() {
    let mut world = World::start().await;
    let (client, _) = world.pair(world.client(None)).await;
    let first = client.get_ref().1.peer_certificates().unwrap().to_vec();
    world.server.replace(world.ca.svid("/server"));
    let (client, _) = world.pair(world.client(None)).await;
    assert_ne!(client.get_ref().1.peer_certificates().unwrap(), first);

    let agent = world.ca.identity("/agent");
    let config = world.client(Some(&agent));
    world.pair(Arc::clone(&config)).await;
    world.bundle.replace(&[]).unwrap();
    let why = world.assert_refused(config).await;
    assert!(why.contains("UnknownCA"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_dropped_in_time() {
    let world = World::start().await;
    let before = tokio::time::Instant::now();
    let mut silent = TcpStream::connect(world.incoming.addr()).await.unwrap();
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(before.elapsed().as_secs(), HANDSHAKE.as_secs());
}

#[tokio::test]
async fn who_says_nothing_holds_up_nobody() {
    let mut world = World::start().await;
    let _silent = TcpStream::connect(world.incoming.addr()).await.unwrap();
    world.pair(world.client(None)).await;
}

#[tokio::test]
async fn handshakes_have_a_limit() {
    let limits = Limits { handshakes_per_ip: 1, ..Limits::default() };
    let mut world = World::start_with(limits).await;
    let silent = TcpStream::connect(world.incoming.addr()).await.unwrap();
    let mut second = TcpStream::connect(world.incoming.addr()).await.unwrap();
    assert_eq!(second.read(&mut [0]).await.unwrap(), 0);

    drop(silent);
    // The slot comes back when the server notices that the other is gone.
    let config = world.client(None);
    let client = loop {
        if let Ok(client) = world.connect(Arc::clone(&config)).await {
            break client;
        }
    };
    assert_eq!(client.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    world.incoming.next().await.unwrap().unwrap();
}

#[tokio::test]
async fn an_open_connection_keeps_its_place() {
    let limits = Limits { connections_per_ip: 1, ..Limits::default() };
    let mut world = World::start_with(limits).await;
    let (_client, server) = world.pair(world.client(None)).await;
    world.connect(world.client(None)).await.unwrap_err();
    drop(server);
    world.pair(world.client(None)).await;
}

#[tokio::test]
async fn strangers_keep_nobody_out_who_is_known() {
    let limits = Limits { strangers: 2, strangers_per_ip: 1, ..Limits::default() };
    let mut world = World::start_with(limits).await;
    let (_client, stranger) = world.pair(world.client(None)).await;
    // The next one has its handshake, and is sent away.
    let mut second = world.connect(world.client(None)).await.unwrap();
    assert_matches_end(second.read(&mut [0]).await);
    let agent = world.ca.identity("/agent");
    let (_client, known) = world.pair(world.client(Some(&agent))).await;
    assert_eq!(known.peer().id(), Some(agent.current().leaf().id()));
    drop(stranger);
    world.pair(world.client(None)).await;
}

/// The other end closed the connection, with or without saying so.
fn assert_matches_end(read: io::Result<usize>) {
    match read {
        Ok(length) => assert_eq!(length, 0),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_stranger_does_not_stay_and_others_may() {
    let mut world = World::start().await;
    let (_client, mut stranger) = world.pair(world.client(None)).await;
    let agent = world.ca.identity("/agent");
    let (mut client, mut known) = world.pair(world.client(Some(&agent))).await;
    let begun = tokio::time::Instant::now();
    let ended = stranger.read(&mut [0]).await.unwrap_err();
    assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
    assert_eq!(begun.elapsed().as_secs(), STAY.as_secs());
    assert_eq!(stranger.write(b"x").await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    client.write_all(b"x").await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(known.read(&mut [0]).await.unwrap(), 1);
}

#[tokio::test]
async fn garbage_ends_one_connection_only() {
    let mut world = World::start().await;
    let mut garbage = TcpStream::connect(world.incoming.addr()).await.unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut alert = Vec::new();
    garbage.read_to_end(&mut alert).await.unwrap();
    world.pair(world.client(None)).await;
}

#[tokio::test]
async fn a_stop_ends_the_stream_and_every_handshake() {
    let mut world = World::start().await;
    let _silent = TcpStream::connect(world.incoming.addr()).await.unwrap();
    world.pair(world.client(None)).await;
    world.tasks.stop();
    assert!(world.incoming.next().await.is_none());
    assert_eq!(world.tasks.drained(HANDSHAKE / 2).await, Drain::Clean);
}

#[tokio::test]
async fn a_service_finds_its_caller_in_the_request() {
    let World { ca, bundle, tasks, incoming, .. } = World::start().await;
    let addr = incoming.addr().to_string().parse().unwrap();
    tasks.spawn("server", |stop| async move {
        let service = HealthServer::with_interceptor(
            HealthService::from_health_reporter(HealthReporter::new()),
            known,
        );
        Server::builder()
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
            .await?;
        Ok(())
    });

    let agent = ca.identity("/agent");
    let server = bundle.trust_domain().join("/server").unwrap();
    let config = client_config(Some(&agent), &bundle, server, clock());
    let channel = Endpoint::from_static("http://unused")
        .connect_with_connector(connector(addr, config))
        .await
        .unwrap();
    HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap();
    tasks.stop();
    assert_eq!(tasks.drained(HANDSHAKE).await, Drain::Clean);
}

fn known(request: Request<()>) -> Result<Request<()>, Status> {
    match request.extensions().get::<TlsPeer>().and_then(TlsPeer::id) {
        Some(id) if id.path() == "/agent" => Ok(request),
        _ => Err(Status::unauthenticated("caller unknown")),
    }
}
