//! Through a real socket, with a real agent and a fake server.
//!
//! | to find | look in |
//! |---|---|
//! | X.509-SVIDs, and what holds for every stream | here |
//! | bundles, of every kind | `bundles` |
//! | callers that end, become others, or hand their connection on | `changed` |
//! | JWT-SVIDs: asked for | `jwt` |
//! | callers by the models that they have loaded | `models` |
//! | JWT-SVIDs: remembered, and the server's answers | `remembered` |
//! | callers whose identity is in quarantine, or risked | `standing` |
//! | JWT-SVIDs: judged | `validate` |
//! | WIT-SVIDs | `wit` |
//! | what is made on demand only, and what comes one after the other | `on_demand` |

mod bundles;
mod changed;
mod jwt;
mod models;
mod on_demand;
mod remembered;
mod standing;
mod validate;
mod wit;

use std::time::Duration;

use bytes::Bytes;
use claviger_core::der;
use claviger_core::entry::Entry;
use claviger_core::time::{Clock, SystemClock, UnixTime};
use claviger_runtime::tls::{Svid, TrustBundle, verify_svid};
use rustls_pki_types::CertificateDer;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};

use super::*;
use crate::world::{Client, World, ids, ours, theirs};

const NOBODY: (Code, &str) = (Code::PermissionDenied, "no identity issued");

fn said(status: &Status) -> (Code, &str) {
    (status.code(), status.message())
}

fn certificates(concatenated: &Bytes) -> Vec<CertificateDer<'static>> {
    let ders = der::split(concatenated).unwrap();
    ders.into_iter().map(|der| CertificateDer::from(der.to_vec())).collect()
}

#[tokio::test]
async fn an_svid_is_complete_and_comes_at_once() {
    let entry = Entry { hint: "web".to_owned(), ..ours("a") };
    let (world, _agent, client) = World::with(vec![entry]).await;
    let message = client.x509().await.unwrap().next().await.unwrap();
    assert_eq!(ids(&message), ["spiffe://example.org/a"]);
    assert!(message.crl.is_empty() && message.federated_bundles.is_empty());

    let svid = &message.svids[0];
    assert_eq!((svid.hint.as_str(), &svid.bundle[..]), ("web", &world.server.bundle_der()[..]));
    let chain = certificates(&svid.x509_svid);
    let bundle = TrustBundle::new("example.org".parse().unwrap(), &certificates(&svid.bundle));
    let id = verify_svid(&chain, &bundle.unwrap(), SystemClock.now()).unwrap();
    assert_eq!(id.to_string(), svid.spiffe_id);
    Svid::new(chain, &svid.x509_svid_key).unwrap();
}

#[tokio::test]
async fn the_same_material_is_served_to_whoever_asks_again() {
    let (_world, _agent, client) = World::with(vec![ours("a")]).await;
    let first = client.x509().await.unwrap().next().await.unwrap();
    let second = client.x509().await.unwrap().next().await.unwrap();
    assert!(first == second);
}

#[tokio::test]
async fn the_oldest_entry_is_the_default_and_keeps_its_hint() {
    let aged = |id, secs| Entry {
        created_at: UnixTime::from_secs(secs),
        hint: "same".to_owned(),
        ..ours(id)
    };
    let (_world, _agent, client) = World::with(vec![aged("young", 9), aged("old", 3)]).await;
    let message = client.x509().await.unwrap().next().await.unwrap();
    let svids: Vec<_> =
        message.svids.iter().map(|svid| (svid.spiffe_id.as_str(), svid.hint.as_str())).collect();
    assert_eq!(svids, [("spiffe://example.org/old", "same"), ("spiffe://example.org/young", "")]);
}

#[tokio::test]
async fn a_stream_hears_of_what_concerns_it_and_of_nothing_else() {
    let (world, _agent, client) = World::with(vec![ours("a")]).await;
    let mut stream = client.x509().await.unwrap();
    assert_eq!(ids(&stream.next().await.unwrap()).len(), 1);

    // Were this told to the stream, the next message would have one identity still.
    world.server.applied(world.server.put(theirs("other"))).await;
    world.server.put(Entry { created_at: UnixTime::from_secs(9), ..ours("b") });
    let both = ["spiffe://example.org/a", "spiffe://example.org/b"];
    assert_eq!(ids(&stream.next().await.unwrap()), both);

    world.server.delete("b");
    assert_eq!(ids(&stream.next().await.unwrap()), [both[0]]);
    world.server.delete("a");
    assert_eq!(said(&stream.end().await), NOBODY);
}

#[tokio::test]
async fn who_has_no_identity_is_told_so() {
    let (_world, _agent, client) = World::with(vec![theirs("other")]).await;
    assert_eq!(said(&client.x509().await.err().unwrap()), NOBODY);
    assert_eq!(said(&client.bundles().await.err().unwrap()), NOBODY);
}

#[tokio::test]
async fn an_identity_that_changes_its_program_is_no_more() {
    let other_program = Entry { selectors: theirs("a").selectors, ..ours("a") };
    let (world, _agent, client) = World::with(vec![ours("a")]).await;
    let mut stream = client.x509().await.unwrap();
    stream.next().await.unwrap();
    world.server.put(other_program);
    assert_eq!(said(&stream.end().await), NOBODY);
}

#[tokio::test]
async fn an_svid_is_renewed_on_an_open_stream() {
    let world = World::new().await;
    world.server.set_ttls(Duration::from_secs(3_600), Duration::from_secs(4));
    world.server.put(ours("a"));
    let _agent = world.start_agent().await;
    let mut stream = crate::world::workload(&world.socket()).await.x509().await.unwrap();
    let first = stream.next().await.unwrap();
    let second = stream.next().await.unwrap();
    assert_eq!(ids(&second), ids(&first));
    assert_ne!(second.svids[0].x509_svid, first.svids[0].x509_svid);
    assert_ne!(second.svids[0].x509_svid_key, first.svids[0].x509_svid_key);
}

#[tokio::test]
async fn without_the_header_nothing_is_answered() {
    let (_world, _agent, client) = World::with(vec![ours("a")]).await;
    let missing = (Code::InvalidArgument, "security header missing from request");
    for values in [vec![], vec!["True"], vec!["1"], vec!["true", "true"], vec!["true", "false"]] {
        let request = || {
            let mut request = Request::new(());
            for value in &values {
                request
                    .metadata_mut()
                    .append("workload.spiffe.io", MetadataValue::from_static(value));
            }
            request
        };
        let mut api = client.api.clone();
        let status = api.fetch_x509svid(request().map(|()| X509svidRequest {})).await;
        assert_eq!(said(&status.err().unwrap()), missing, "{values:?}");
        let status = api.fetch_x509_bundles(request().map(|()| X509BundlesRequest {})).await;
        assert_eq!(said(&status.err().unwrap()), missing);
        let status = api.fetch_jwtsvid(request().map(|()| JwtsvidRequest::default())).await;
        assert_eq!(said(&status.err().unwrap()), missing);
    }
}

#[tokio::test]
async fn streams_of_one_user_are_bounded() {
    let world = World::new().await;
    world.server.put(ours("a"));
    let mut config = world.config();
    config.limits.streams_per_uid = 2;
    let agent = world.try_start(config).await.unwrap();
    crate::world::within(agent.running.health.ready()).await;
    let client = crate::world::workload(&world.socket()).await;
    let open = [client.x509().await.unwrap(), client.x509().await.unwrap()];
    assert_eq!(client.x509().await.err().unwrap().code(), Code::Unavailable);
    drop(open);
    // The agent hears of it a moment later.
    let reopened = async {
        while client.x509().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    crate::world::within(reopened).await;
}
