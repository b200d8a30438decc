//! Through a real socket, with a real agent and a fake server.

use claviger_core::entry::Entry;
use claviger_core::time::UnixTime;
use claviger_proto::spire::agent::delegatedidentity::v1::delegated_identity_client::DelegatedIdentityClient;
use claviger_runtime::tls::Svid;
use rustls_pki_types::CertificateDer;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use super::*;
use crate::world::{StartedAgent, World, cat, entry, ours, within, workload};

const PROXY: &str = "spiffe://example.org/proxy";
const NOBODY: (Code, &str) = (Code::PermissionDenied, NO_IDENTITY);

type Client = DelegatedIdentityClient<Channel>;
type Svids = wire::SubscribeToX509sviDsResponse;

/// A world in which this process is `proxy`, and whoever is `proxy` is a delegate.
async fn world(mut entries: Vec<Entry>) -> (World, StartedAgent, Client) {
    entries.push(Entry { created_at: UnixTime::from_secs(1), ..ours("proxy") });
    let world = World::new().await;
    let mut last = 0;
    for entry in entries {
        last = world.server.put(entry);
    }
    let mut config = world.config();
    config.admin.as_mut().unwrap().delegates.insert(PROXY.parse().unwrap());
    let agent = world.try_start(config).await.unwrap();
    within(agent.running.health.ready()).await;
    world.server.applied(last).await;
    let client = client(&world).await;
    (world, agent, client)
}

async fn client(world: &World) -> Client {
    DelegatedIdentityClient::new(workload(&world.admin_socket()).await.channel)
}

fn facts_of(texts: &[&str]) -> Vec<types::Selector> {
    selectors::list(&texts.iter().map(|text| text.parse().unwrap()).collect())
}

async fn by_selectors(client: &Client, texts: &[&str]) -> Result<Streaming<Svids>, Status> {
    let request = wire::SubscribeToX509sviDsRequest { selectors: facts_of(texts), pid: 0 };
    let mut client = client.clone();
    Ok(within(client.subscribe_to_x509svi_ds(request)).await?.into_inner())
}

async fn by_pid(client: &Client, pid: i32) -> Result<Streaming<Svids>, Status> {
    let request = wire::SubscribeToX509sviDsRequest { selectors: Vec::new(), pid };
    let mut client = client.clone();
    Ok(within(client.subscribe_to_x509svi_ds(request)).await?.into_inner())
}

async fn next(stream: &mut Streaming<Svids>) -> Result<Vec<String>, Status> {
    let message = within(stream.message()).await?.expect("the stream ends with an error");
    Ok(message.x509_svids.iter().map(id).collect())
}

fn id(svid: &wire::X509svidWithKey) -> String {
    let id = svid.x509_svid.as_ref().unwrap().id.clone();
    SpiffeId::try_from(id.unwrap()).unwrap().to_string()
}

fn said(status: &Status) -> (Code, &str) {
    (status.code(), status.message())
}

#[tokio::test]
async fn a_delegate_gets_the_svids_of_whoever_it_names_and_hears_of_changes() {
    let web = entry("web", &["k8s:ns:a"]);
    let (world, _agent, client) = world(vec![web]).await;
    let mut stream = by_selectors(&client, &["k8s:ns:a", "k8s:sa:b"]).await.unwrap();
    let message = within(stream.message()).await.unwrap().unwrap();
    let [svid] = message.x509_svids.as_slice() else { panic!("not one") };
    assert_eq!(id(svid), "spiffe://example.org/web");
    let x509 = svid.x509_svid.as_ref().unwrap();
    let chain = x509.cert_chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    let leaf = Svid::new(chain, &svid.x509_svid_key).unwrap();
    assert_eq!(times::to_wire(leaf.leaf().not_after()), x509.expires_at);

    world.server.put(Entry { created_at: UnixTime::from_secs(9), ..entry("db", &["k8s:sa:b"]) });
    let both = ["spiffe://example.org/web", "spiffe://example.org/db"];
    assert_eq!(next(&mut stream).await.unwrap(), both);
    world.server.delete("db");
    assert_eq!(next(&mut stream).await.unwrap(), [both[0]]);
    world.server.delete("web");
    assert_eq!(next(&mut stream).await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_process_can_be_named_until_it_ends() {
    let (mut child, pid, entry) = cat();
    let (_world, _agent, client) = world(vec![entry]).await;
    let mut stream = by_pid(&client, pid).await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap(), ["spiffe://example.org/cat"]);
    child.kill().await.unwrap();
    assert_eq!(said(&next(&mut stream).await.unwrap_err()), NOBODY);
    for (pid, code) in
        [(pid, Code::NotFound), (0, Code::InvalidArgument), (-1, Code::InvalidArgument)]
    {
        assert_eq!(by_pid(&client, pid).await.err().unwrap().code(), code);
    }
    let both = wire::SubscribeToX509sviDsRequest { selectors: facts_of(&["unix:uid:1"]), pid: 1 };
    let refused = within(client.clone().subscribe_to_x509svi_ds(both)).await.err().unwrap();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn nobody_else_is_served() {
    let (world, agent, _client) = World::with(vec![ours("a")]).await;
    let stranger = client(&world).await;
    let no_delegate = "caller not configured as an authorized delegate";
    let refused = by_selectors(&stranger, &["unix:uid:1"]).await.err().unwrap();
    assert_eq!(said(&refused), (Code::PermissionDenied, no_delegate));
    let refused = by_pid(&stranger, 0).await.err().unwrap();
    assert_eq!(refused.code(), Code::PermissionDenied, "a stranger learns nothing of its request");
    let fetch =
        wire::FetchJwtsviDsRequest { audience: vec!["a".into()], selectors: Vec::new(), pid: 0 };
    let refused = within(stranger.clone().fetch_jwtsvi_ds(fetch)).await.err().unwrap();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let bundles = wire::SubscribeToX509BundlesRequest {};
    let refused = within(stranger.clone().subscribe_to_x509_bundles(bundles)).await.err().unwrap();
    assert_eq!(refused.code(), Code::PermissionDenied);
    drop(agent);
}

#[tokio::test]
async fn who_is_no_delegate_any_more_is_served_no_more() {
    let (world, _agent, client) = world(vec![entry("web", &["k8s:ns:a"])]).await;
    let mut stream = by_selectors(&client, &["k8s:ns:a"]).await.unwrap();
    next(&mut stream).await.unwrap();
    world.server.delete("proxy");
    assert_eq!(said(&next(&mut stream).await.unwrap_err()), NOBODY);
    assert_eq!(said(&by_selectors(&client, &["k8s:ns:a"]).await.err().unwrap()), NOBODY);
}

#[tokio::test]
async fn the_brokers_own_identities_are_not_handed_on() {
    let admin = Entry { admin: true, ..entry("admin", &["k8s:ns:a"]) };
    let downstream = Entry { downstream: true, ..entry("nested", &["k8s:ns:a"]) };
    let (_world, _agent, client) =
        world(vec![admin, downstream, entry("web", &["k8s:ns:b"])]).await;
    let mut stream = by_selectors(&client, &["k8s:ns:a"]).await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap(), [""; 0]);
    let mut stream = by_selectors(&client, &["k8s:ns:a", "k8s:ns:b"]).await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap(), ["spiffe://example.org/web"]);

    let fetch = |facts: &[&str]| wire::FetchJwtsviDsRequest {
        audience: vec!["them".into()],
        selectors: facts_of(facts),
        pid: 0,
    };
    let mut jwts = client.clone();
    let refused = within(jwts.fetch_jwtsvi_ds(fetch(&["k8s:ns:a"]))).await.err().unwrap();
    assert_eq!(said(&refused), NOBODY);
    let tokens = within(jwts.fetch_jwtsvi_ds(fetch(&["k8s:ns:a", "k8s:ns:b"]))).await.unwrap();
    let [token] = tokens.get_ref().svids.as_slice() else { panic!("not one") };
    let id = SpiffeId::try_from(token.id.clone().unwrap()).unwrap();
    assert_eq!(id.to_string(), "spiffe://example.org/web");
    assert!(token.issued_at < token.expires_at && token.token.split('.').count() == 3);
}

#[tokio::test]
async fn tokens_are_fetched_by_process_too() {
    let (_child, pid, entry) = cat();
    let (_world, _agent, mut client) = world(vec![entry]).await;
    let fetch = |audience: &[&str], pid| wire::FetchJwtsviDsRequest {
        audience: audience.iter().map(|name| (*name).to_owned()).collect(),
        selectors: Vec::new(),
        pid,
    };
    let tokens = within(client.fetch_jwtsvi_ds(fetch(&["them"], pid))).await.unwrap();
    assert_eq!(tokens.get_ref().svids.len(), 1);
    for audience in [[].as_slice(), &[""]] {
        let refused = within(client.fetch_jwtsvi_ds(fetch(audience, pid))).await.err().unwrap();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn every_bundle_is_told() {
    let (world, _agent, mut client) = world(Vec::new()).await;
    let request = wire::SubscribeToX509BundlesRequest {};
    let mut stream = within(client.subscribe_to_x509_bundles(request)).await.unwrap().into_inner();
    let first = within(stream.message()).await.unwrap().unwrap();
    assert_eq!(first.ca_certificates["spiffe://example.org"], world.server.bundle_der());
    world.server.add_authority();
    let second = within(stream.message()).await.unwrap().unwrap();
    assert_eq!(second.ca_certificates["spiffe://example.org"], world.server.bundle_der());

    let request = wire::SubscribeToJwtBundlesRequest {};
    let mut stream = within(client.subscribe_to_jwt_bundles(request)).await.unwrap().into_inner();
    let bundles = within(stream.message()).await.unwrap().unwrap().bundles;
    let jwks: serde_json::Value = serde_json::from_slice(&bundles["spiffe://example.org"]).unwrap();
    assert!(jwks["keys"].is_array(), "{jwks}");
}
