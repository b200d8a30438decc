//! Through a real socket, with a real agent and a fake server.

use std::path::PathBuf;

use claviger_core::der;
use claviger_core::entry::Entry;
use claviger_core::time::{SystemClock, UnixTime};
use claviger_proto::broker::api_client::ApiClient;
use claviger_runtime::tls::{Svid, client_config};
use hyper_util::rt::TokioIo;
use prost::Message;
use prost_types::Any;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Streaming};

use super::*;
use crate::config::BrokerSocket;
use crate::details;
use crate::world::{StartedAgent, World, cat, ours, within, workload};

const BY_PID: &str = "type.googleapis.com/spiffe.broker.WorkloadPIDReference";
const BY_OBJECT: &str = "type.googleapis.com/spiffe.broker.KubernetesObjectReference";

type Client = ApiClient<Channel>;

/// An agent for which `broker` is a broker and `limited` may refer to nobody.
struct Place {
    world: World,
    agent: StartedAgent,
}

impl Place {
    /// With these entries, and this process entitled to the identities of both, and to `other`.
    async fn with(mut entries: Vec<Entry>) -> Self {
        for (age, id) in ["broker", "limited", "other"].into_iter().enumerate() {
            let created_at = UnixTime::from_secs(age.try_into().unwrap());
            entries.push(Entry { created_at, ..ours(id) });
        }
        let world = World::new().await;
        let mut last = 0;
        for entry in entries {
            last = world.server.put(entry);
        }
        let by_pid = "spiffe.broker.WorkloadPIDReference".to_owned();
        let id = |name: &str| format!("spiffe://example.org/{name}").parse::<SpiffeId>().unwrap();
        let brokers = [(id("broker"), [by_pid].into()), (id("limited"), BTreeSet::new())].into();
        let mut config = world.config();
        config.broker = Some(BrokerSocket { path: socket(&world), brokers });
        let agent = world.try_start(config).await.unwrap();
        within(agent.running.health.ready()).await;
        world.server.applied(last).await;
        Self { world, agent }
    }

    /// Connects with the SVID of `name`, or with none.
    async fn connect(&self, name: Option<&str>) -> Result<Client, tonic::transport::Error> {
        let api = workload(&self.world.socket()).await;
        let message = api.x509().await.unwrap().next().await.unwrap();
        let chain = |der| {
            let certificates = der::split(der).unwrap().into_iter();
            certificates.map(|der| CertificateDer::from(der.to_vec())).collect::<Vec<_>>()
        };
        let authorities = chain(&message.svids[0].bundle);
        let bundle = TrustBundle::new("example.org".parse().unwrap(), &authorities).unwrap();
        let identity = name.map(|name| {
            let id = format!("spiffe://example.org/{name}");
            let svid = message.svids.iter().find(|svid| svid.spiffe_id == id).unwrap();
            Identity::new(Svid::new(chain(&svid.x509_svid), &svid.x509_svid_key).unwrap())
        });
        let agent = self.agent.running.id.clone();
        let tls = client_config(identity.as_ref(), &bundle, agent, Arc::new(SystemClock));
        let (tls, path) = (TlsConnector::from(tls), socket(&self.world));
        let connector = tower::service_fn(move |_uri: Uri| {
            let (tls, path) = (tls.clone(), path.clone());
            async move {
                let stream = UnixStream::connect(path).await?;
                let name = ServerName::try_from("agent").unwrap();
                tls.connect(name, stream).await.map(TokioIo::new)
            }
        });
        let channel =
            Endpoint::from_static("http://agent").connect_with_connector(connector).await?;
        Ok(ApiClient::new(channel))
    }

    async fn broker(&self) -> Client {
        self.connect(Some("broker")).await.unwrap()
    }
}

fn socket(world: &World) -> PathBuf {
    world.socket().with_file_name("broker.sock")
}

fn headed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("broker.spiffe.io", "true".parse().unwrap());
    request
}

fn reference(type_url: &str, value: Vec<u8>) -> Option<wire::WorkloadReference> {
    let any = Any { type_url: type_url.to_owned(), value };
    Some(wire::WorkloadReference { reference: Some(any) })
}

fn pid(pid: i32) -> Option<wire::WorkloadReference> {
    reference(BY_PID, wire::WorkloadPidReference { pid }.encode_to_vec())
}

fn our_pid() -> i32 {
    std::process::id().try_into().unwrap()
}

async fn subscribe(
    client: &Client,
    reference: Option<wire::WorkloadReference>,
) -> Result<Streaming<wire::SubscribeToX509svidResponse>, Status> {
    let request = headed(wire::SubscribeToX509svidRequest { reference });
    Ok(within(client.clone().subscribe_to_x509svid(request)).await?.into_inner())
}

async fn fetch(
    client: &Client,
    pid_of: i32,
    audience: &str,
    id: &str,
) -> Result<Vec<wire::Jwtsvid>, Status> {
    let request = wire::FetchJwtsvidRequest {
        reference: pid(pid_of),
        audience: vec![audience.to_owned()],
        spiffe_id: id.to_owned(),
    };
    Ok(within(client.clone().fetch_jwtsvid(headed(request))).await?.into_inner().svids)
}

/// The code of a refusal, and the standard's reason for it.
fn why<T>(refused: Result<T, Status>) -> (Code, String) {
    let status = refused.err().unwrap();
    let info = details::info(&status);
    assert!(info.iter().all(|info| info.domain == "spiffe.io"));
    (status.code(), info.map(|info| info.reason).unwrap_or_default())
}

fn because(code: Code, reason: &str) -> (Code, String) {
    (code, reason.to_owned())
}

#[tokio::test]
async fn a_broker_gets_the_svids_of_a_process_until_it_ends() {
    let (mut child, number, entry) = cat();
    let place = Place::with(vec![Entry { hint: "meow".to_owned(), ..entry.clone() }]).await;
    let client = place.broker().await;
    let mut stream = subscribe(&client, pid(number)).await.unwrap();
    let message = within(stream.message()).await.unwrap().unwrap();
    let [svid] = message.svids.as_slice() else { panic!("not one") };
    assert_eq!((svid.spiffe_id.as_str(), svid.hint.as_str()), ("spiffe://example.org/cat", "meow"));
    assert_eq!(svid.bundle, place.world.server.bundle_der());

    place.world.server.put(Entry { id: "more".parse().unwrap(), admin: true, ..entry.clone() });
    let nested = "spiffe://example.org/second".parse().unwrap();
    place.world.server.put(Entry { id: "second".parse().unwrap(), spiffe_id: nested, ..entry });
    let message = within(stream.message()).await.unwrap().unwrap();
    assert_eq!(message.svids.len(), 2, "the administrator's is left out");

    child.kill().await.unwrap();
    let ended = within(stream.message()).await;
    assert_eq!(why(ended), because(Code::NotFound, "WORKLOAD_NOT_FOUND"));
    let again = subscribe(&client, pid(number)).await;
    assert_eq!(why(again), because(Code::NotFound, "WORKLOAD_NOT_FOUND"));
}

#[tokio::test]
async fn a_workload_that_loses_its_identity_is_not_entitled_any_more() {
    let (_child, number, entry) = cat();
    let place = Place::with(vec![entry]).await;
    let client = place.broker().await;
    let mut stream = subscribe(&client, pid(number)).await.unwrap();
    within(stream.message()).await.unwrap().unwrap();
    place.world.server.delete("cat");
    let not_entitled = because(Code::PermissionDenied, "WORKLOAD_NOT_ENTITLED");
    assert_eq!(why(within(stream.message()).await), not_entitled);
    assert_eq!(why(subscribe(&client, pid(number)).await), not_entitled);
    assert_eq!(why(fetch(&client, number, "them", "").await), not_entitled);
}

#[tokio::test]
async fn bundles_and_tokens_are_the_workloads() {
    let (_child, number, entry) = cat();
    let place = Place::with(vec![entry]).await;
    let mut client = place.broker().await;
    let request = headed(wire::SubscribeToX509BundlesRequest { reference: pid(number) });
    let mut stream = within(client.subscribe_to_x509_bundles(request)).await.unwrap().into_inner();
    let bundles = within(stream.message()).await.unwrap().unwrap().bundles;
    assert_eq!(bundles.len(), 1);
    assert_eq!(bundles["spiffe://example.org"], place.world.server.bundle_der());
    let request = headed(wire::SubscribeToJwtBundlesRequest { reference: pid(number) });
    let mut stream = within(client.subscribe_to_jwt_bundles(request)).await.unwrap().into_inner();
    let bundles = within(stream.message()).await.unwrap().unwrap().bundles;
    let jwks: serde_json::Value = serde_json::from_slice(&bundles["spiffe://example.org"]).unwrap();
    assert!(jwks["keys"].is_array(), "{jwks}");

    let id = "spiffe://example.org/cat";
    let tokens = fetch(&client, number, "them", "").await.unwrap();
    assert_eq!(tokens.len(), 1);
    assert_eq!((tokens[0].spiffe_id.as_str(), tokens[0].svid.split('.').count()), (id, 3));
    assert_eq!(fetch(&client, number, "them", id).await.unwrap().len(), 1);
    let another = fetch(&client, number, "them", "spiffe://example.org/broker").await;
    assert_eq!(why(another), because(Code::PermissionDenied, "WORKLOAD_NOT_ENTITLED"));
    assert_eq!(why(fetch(&client, number, "", "").await).0, Code::InvalidArgument);
    assert_eq!(why(fetch(&client, number, "them", "cat").await).0, Code::InvalidArgument);
}

#[tokio::test]
async fn a_reference_must_make_sense() {
    let place = Place::with(Vec::new()).await;
    let client = place.broker().await;
    let object = wire::KubernetesObjectReference { uid: "x".to_owned(), ..Default::default() };
    for refused in [
        None,
        Some(wire::WorkloadReference { reference: None }),
        reference(BY_OBJECT, object.encode_to_vec()),
        reference("", Vec::new()),
        reference(BY_PID, vec![0xff]),
        pid(0),
        pid(-1),
    ] {
        let told = why(subscribe(&client, refused).await);
        assert_eq!(told, because(Code::InvalidArgument, "WORKLOAD_REFERENCE_INVALID"));
    }
    let nobody = subscribe(&client, pid(i32::MAX)).await;
    assert_eq!(why(nobody), because(Code::NotFound, "WORKLOAD_NOT_FOUND"));
}

#[tokio::test]
async fn only_brokers_are_served_and_only_as_they_may() {
    let place = Place::with(Vec::new()).await;
    drop(subscribe(&place.broker().await, pid(our_pid())).await.unwrap());
    let limited = place.connect(Some("limited")).await.unwrap();
    assert_eq!(why(subscribe(&limited, pid(our_pid())).await).0, Code::PermissionDenied);
    let other = place.connect(Some("other")).await.unwrap();
    assert_eq!(why(subscribe(&other, pid(our_pid())).await).0, Code::PermissionDenied);

    // In TLS 1.3 a client hears of its refusal after its own end of the handshake.
    let refused = match place.connect(None).await {
        Ok(nobody) => subscribe(&nobody, pid(our_pid())).await.is_err(),
        Err(_at_once) => true,
    };
    assert!(refused, "without a certificate");
}

#[tokio::test]
async fn without_the_header_nothing_is_answered() {
    let place = Place::with(Vec::new()).await;
    let mut client = place.broker().await;
    let plain = Request::new(wire::SubscribeToX509svidRequest { reference: pid(our_pid()) });
    let status = within(client.subscribe_to_x509svid(plain)).await.err().unwrap();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "security header missing from request");
}
