//! Through a real socket, with a real agent and a fake server.

use std::time::Duration;

use claviger_core::entry::Entry;
use claviger_core::time::UnixTime;
use claviger_proto::envoy::config::core::v3::node::UserAgentVersionType;
use claviger_proto::envoy::config::core::v3::{BuildVersion, DataSource, Node, data_source};
use claviger_proto::envoy::extensions::transport_sockets::tls::v3 as tls;
use claviger_proto::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use claviger_proto::envoy::r#type::v3::SemanticVersion;
use claviger_proto::rpc;
use claviger_runtime::tls::Svid;
use claviger_runtime::unix::connector;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::*;
use crate::pem;
use crate::world::{Client, World, ours, theirs, within, workload};

const A: &str = "spiffe://example.org/a";
const DOMAIN: &str = "spiffe://example.org";

/// An Envoy with one stream.
struct Envoy {
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
}

/// As Envoy 1.40 introduces itself.
fn node() -> Node {
    let version = Some(SemanticVersion { major_number: 1, minor_number: 40, patch: 0 });
    let build = UserAgentVersionType::UserAgentBuildVersion(BuildVersion { version });
    Node { id: "envoy".to_owned(), metadata: None, user_agent_version_type: Some(build) }
}

fn request(names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        node: Some(node()),
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        type_url: resource::TYPE_URL.to_owned(),
        ..DiscoveryRequest::default()
    }
}

fn api(channel: &Channel) -> SecretDiscoveryServiceClient<Channel> {
    SecretDiscoveryServiceClient::new(channel.clone())
}

impl Envoy {
    async fn open(channel: &Channel) -> Self {
        let (requests, outgoing) = mpsc::channel(1);
        let mut api = api(channel);
        let opened = api.stream_secrets(ReceiverStream::new(outgoing));
        let responses = within(opened).await.unwrap().into_inner();
        Self { requests, responses }
    }

    /// Opens a stream and asks for `names`.
    async fn asking(client: &Client, names: &[&str]) -> Self {
        let envoy = Self::open(&client.channel).await;
        envoy.requests.send(request(names)).await.unwrap();
        envoy
    }

    async fn next(&mut self) -> Result<DiscoveryResponse, Status> {
        Ok(within(self.responses.message()).await?.expect("the stream ends with an error"))
    }

    /// Answers `response`, asking for `names` from now on.
    async fn answer(&self, response: &DiscoveryResponse, names: &[&str], error: Option<&str>) {
        let error_detail =
            error.map(|error| rpc::Status { message: error.to_owned(), ..rpc::Status::default() });
        let answer = DiscoveryRequest {
            node: None,
            version_info: response.version_info.clone(),
            response_nonce: response.nonce.clone(),
            error_detail,
            ..request(names)
        };
        self.requests.send(answer).await.unwrap();
    }

    async fn end(mut self) -> (Code, String) {
        let status = self.next().await.err().unwrap();
        (status.code(), status.message().to_owned())
    }
}

fn secrets(response: &DiscoveryResponse) -> Vec<tls::Secret> {
    assert_eq!(response.type_url, resource::TYPE_URL);
    let secret = |any: &prost_types::Any| {
        assert_eq!(any.type_url, resource::TYPE_URL);
        tls::Secret::decode(any.value.as_slice()).unwrap()
    };
    response.resources.iter().map(secret).collect()
}

fn names(response: &DiscoveryResponse) -> Vec<String> {
    secrets(response).into_iter().map(|secret| secret.name).collect()
}

fn text(source: Option<DataSource>) -> Vec<u8> {
    let Some(data_source::Specifier::InlineBytes(bytes)) = source.unwrap().specifier else {
        panic!("no bytes")
    };
    bytes.to_vec()
}

/// The SVID in a secret; that its key fits is checked.
fn svid(secret: &tls::Secret) -> Svid {
    let Some(tls::secret::Type::TlsCertificate(certificate)) = secret.r#type.clone() else {
        panic!("no certificate")
    };
    let chain = pem::read(&text(certificate.certificate_chain)).unwrap().certificates;
    let key = pem::read(&text(certificate.private_key)).unwrap().key.unwrap();
    Svid::new(chain, &key).unwrap()
}

/// The trust domains that a secret names, with the authorities of each, one after the other.
fn spiffe_bundles(secret: &tls::Secret) -> Vec<(String, Vec<u8>)> {
    let Some(tls::secret::Type::ValidationContext(context)) = secret.r#type.clone() else {
        panic!("no validation context")
    };
    assert!(context.trusted_ca.is_none());
    let custom = context.custom_validator_config.unwrap();
    assert_eq!(custom.name, "envoy.tls.cert_validator.spiffe");
    let config = custom.typed_config.unwrap();
    assert!(config.type_url.ends_with("tls.v3.SPIFFECertValidatorConfig"));
    let config = tls::SpiffeCertValidatorConfig::decode(config.value.as_slice()).unwrap();
    let domains = config.trust_domains.into_iter();
    domains.map(|domain| (domain.name, ders(&text(domain.trust_bundle)))).collect()
}

fn ders(pem: &[u8]) -> Vec<u8> {
    let certificates = pem::read(pem).unwrap().certificates;
    certificates.iter().flat_map(|der| der.to_vec()).collect()
}

fn later(id: &str) -> Entry {
    Entry { created_at: UnixTime::from_secs(9), ..ours(id) }
}

#[tokio::test]
async fn an_envoy_gets_what_it_names() {
    let (world, _agent, client) = World::with(vec![ours("a"), later("b")]).await;
    let bundle = vec![("example.org".to_owned(), world.server.bundle_der())];
    for (name, id) in [("default", A), (A, A), ("spiffe://example.org/b", "spiffe://example.org/b")]
    {
        let response = Envoy::asking(&client, &[name]).await.next().await.unwrap();
        assert_eq!(names(&response), [name]);
        assert_eq!(svid(&secrets(&response)[0]).leaf().id().to_string(), id);
    }
    for name in ["ROOTCA", "ALL", DOMAIN] {
        let response = Envoy::asking(&client, &[name]).await.next().await.unwrap();
        assert_eq!(names(&response), [name]);
        assert_eq!(spiffe_bundles(&secrets(&response)[0]), bundle);
    }
    let mut all = Envoy::asking(&client, &[]).await;
    assert_eq!(names(&all.next().await.unwrap()), [DOMAIN, A, "spiffe://example.org/b"]);
    let both = Envoy::asking(&client, &["ROOTCA", "default", DOMAIN]).await.next().await.unwrap();
    assert_eq!(names(&both), ["ROOTCA", "default", DOMAIN]);
}

#[tokio::test]
async fn an_old_envoy_gets_plain_authorities_and_never_those_of_several_domains_at_once() {
    let (world, _agent, client) = World::with(vec![ours("a")]).await;
    let old = |names| DiscoveryRequest { node: None, ..request(names) };
    let response = within(api(&client.channel).fetch_secrets(old(&["ROOTCA"]))).await.unwrap();
    let secret = secrets(response.get_ref()).remove(0);
    let Some(tls::secret::Type::ValidationContext(context)) = secret.r#type else { panic!() };
    assert!(context.custom_validator_config.is_none());
    assert_eq!(ders(&text(context.trusted_ca)), world.server.bundle_der());

    let status = within(api(&client.channel).fetch_secrets(old(&["ALL"]))).await.err().unwrap();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn only_what_changed_is_pushed_to_whoever_names_it() {
    let (world, _agent, client) = World::with(vec![ours("a")]).await;
    let mut certificate = Envoy::asking(&client, &["default"]).await;
    let mut bundle = Envoy::asking(&client, &["ROOTCA"]).await;
    let first = certificate.next().await.unwrap();
    certificate.answer(&first, &["default"], None).await;
    let old = bundle.next().await.unwrap();
    bundle.answer(&old, &["ROOTCA"], None).await;

    // Each is told of its own change next, and would have been told of the other's before.
    world.server.add_authority();
    let new = bundle.next().await.unwrap();
    assert_eq!((old.version_info.as_str(), new.version_info.as_str()), ("1", "2"));
    assert_eq!(spiffe_bundles(&secrets(&new)[0])[0].1, world.server.bundle_der());
    let before = svid(&secrets(&first)[0]);
    world.server.put(Entry { dns_names: vec!["a.test".parse().unwrap()], ..ours("a") });
    let second = certificate.next().await.unwrap();
    assert_eq!(second.version_info, "2");
    assert_ne!(svid(&secrets(&second)[0]).chain(), before.chain());
}

#[tokio::test]
async fn acknowledgements_are_not_answered_and_other_names_are() {
    let (world, _agent, client) = World::with(vec![ours("a")]).await;
    let mut envoy = Envoy::asking(&client, &["default"]).await;
    let first = envoy.next().await.unwrap();
    envoy.answer(&first, &["default"], None).await;
    envoy.answer(&first, &["default"], Some("it was not so good after all")).await;
    envoy.answer(&first, &["ROOTCA"], None).await;
    let second = envoy.next().await.unwrap();
    assert_eq!((names(&second), second.nonce.as_str()), (vec!["ROOTCA".to_owned()], "2"));

    // An answer to the first response comes too late to change anything.
    envoy.answer(&first, &["default"], None).await;
    envoy.answer(&second, &["ROOTCA"], Some("rejected")).await;
    world.server.add_authority();
    let third = envoy.next().await.unwrap();
    assert_eq!((names(&third), third.nonce.as_str()), (vec!["ROOTCA".to_owned()], "3"));
}

#[tokio::test]
async fn renewal_is_pushed() {
    let world = World::new().await;
    world.server.set_ttls(Duration::from_secs(3_600), Duration::from_secs(4));
    world.server.put(ours("a"));
    let _agent = world.start_agent().await;
    let mut envoy = Envoy::asking(&workload(&world.socket()).await, &[A]).await;
    let first = envoy.next().await.unwrap();
    let second = envoy.next().await.unwrap();
    assert_ne!(svid(&secrets(&second)[0]).chain(), svid(&secrets(&first)[0]).chain());
}

#[tokio::test]
async fn who_has_no_identity_gets_nothing() {
    let (world, _agent, client) = World::with(vec![theirs("a")]).await;
    let nobody = (Code::PermissionDenied, "no identity issued".to_owned());
    for names in [[].as_slice(), &["ROOTCA"], &["default"], &[A]] {
        assert_eq!(Envoy::asking(&client, names).await.end().await, nobody);
        let status =
            within(api(&client.channel).fetch_secrets(request(names))).await.err().unwrap();
        assert_eq!((status.code(), status.message().to_owned()), nobody);
    }
    world.server.applied(world.server.put(ours("b"))).await;
    let mut envoy = Envoy::asking(&client, &["ROOTCA"]).await;
    envoy.next().await.unwrap();
    world.server.delete("b");
    assert_eq!(envoy.end().await, nobody);
}

#[tokio::test]
async fn what_is_not_the_callers_is_not_there() {
    let (_world, _agent, client) = World::with(vec![ours("a"), theirs("b")]).await;
    for name in ["spiffe://example.org/b", "spiffe://other.org", "rootca", "Default"] {
        let (code, message) = Envoy::asking(&client, &["default", name]).await.end().await;
        assert_eq!(code, Code::InvalidArgument);
        assert!(message.contains(name), "{message}");
    }
    let other = DiscoveryRequest { type_url: "other".to_owned(), ..request(&[]) };
    let status = within(api(&client.channel).fetch_secrets(other)).await.err().unwrap();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn an_operator_can_name_the_resources_and_turn_the_service_off() {
    let world = World::new().await;
    world.server.put(ours("a"));
    let mut config = world.config();
    config.sds.default_svid_name = "mine".to_owned();
    config.sds.disable_spiffe_cert_validation = true;
    let agent = world.try_start(config).await.unwrap();
    within(agent.running.health.ready()).await;
    let client = workload(&world.socket()).await;
    let response = Envoy::asking(&client, &["mine", "ROOTCA"]).await.next().await.unwrap();
    let Some(tls::secret::Type::ValidationContext(context)) = &secrets(&response)[0].r#type else {
        panic!()
    };
    assert!(context.trusted_ca.is_some());
    assert_eq!(Envoy::asking(&client, &["default"]).await.end().await.0, Code::InvalidArgument);
    agent.stop().await;

    let mut config = world.config();
    config.sds.enabled = false;
    let _agent = world.try_start(config).await.unwrap();
    let client = workload(&world.socket()).await;
    let status = within(api(&client.channel).fetch_secrets(request(&[]))).await.err().unwrap();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn streams_count_against_the_limit_of_the_workload_api() {
    let world = World::new().await;
    world.server.put(ours("a"));
    let mut config = world.config();
    config.limits.streams_per_uid = 1;
    let agent = world.try_start(config).await.unwrap();
    within(agent.running.health.ready()).await;
    let client = workload(&world.socket()).await;
    let _held = client.x509().await.unwrap();
    let status = within(api(&client.channel).fetch_secrets(request(&[]))).await.err().unwrap();
    assert_eq!(status.code(), Code::Unavailable);
}

/// Its window has room for one byte, so that the first response is never delivered.
#[tokio::test]
async fn an_envoy_that_never_reads_is_not_read_for_long() {
    let (world, _agent, client) = World::with(vec![ours("a")]).await;
    client.ids().await.unwrap();
    let endpoint = Endpoint::from_static("http://agent").initial_stream_window_size(1);
    let channel =
        endpoint.connect_with_connector(connector(world.socket()).unwrap()).await.unwrap();
    let envoy = Envoy::open(&channel).await;
    envoy.requests.send(request(&["default"])).await.unwrap();
    // It answers responses that it has not read, and changes its mind each time. 40 MB in all.
    let mut sent = 0;
    while sent < 1_000 {
        sent += 1;
        let request = DiscoveryRequest {
            version_info: "x".repeat(40_000),
            response_nonce: sent.to_string(),
            ..request(if sent % 2 == 1 { &["ROOTCA"] } else { &["default"] })
        };
        let sending = envoy.requests.send(request);
        match tokio::time::timeout(Duration::from_secs(1), sending).await {
            Ok(taken) => taken.unwrap(),
            Err(_stuck) => break,
        }
    }
    assert!(sent < 1_000, "everything was taken");
    assert_eq!(client.ids().await.unwrap(), [A]);
}
