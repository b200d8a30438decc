//! Bundles of other trust domains, as the operator sets them and as agents hear of them.

use std::time::Duration;

use claviger_proto::claviger::agent::v1::FederatedBundles;
use claviger_proto::spire::server::bundle::v1::batch_delete_federated_bundle_request::Mode;
use claviger_proto::spire::server::bundle::v1::{
    BatchCreateFederatedBundleRequest, BatchDeleteFederatedBundleRequest,
    BatchSetFederatedBundleRequest, BatchUpdateFederatedBundleRequest, CountBundlesRequest,
    GetFederatedBundleRequest, ListFederatedBundlesRequest,
};
use claviger_proto::spire::types::{self, BundleMask};
use tonic::Code;

use super::sync::{Stream, subscribe};
use super::world::{World, bundles, entry, refused, world};
use crate::registry::fixture::bundle;

fn code(status: &Option<types::Status>) -> Code {
    status.as_ref().unwrap().code.into()
}

impl World {
    async fn set(&self, bundle: Vec<types::Bundle>) -> Vec<Code> {
        let request = BatchSetFederatedBundleRequest { bundle, output_mask: None };
        let set = bundles(&self.operator()).batch_set_federated_bundle(request).await.unwrap();
        set.into_inner().results.iter().map(|result| code(&result.status)).collect()
    }

    async fn remove(&self, names: &[&str], mode: Mode) -> Vec<types::Status> {
        let request = BatchDeleteFederatedBundleRequest {
            trust_domains: names.iter().map(ToString::to_string).collect(),
            mode: mode.into(),
        };
        let deleted = bundles(&self.operator()).batch_delete_federated_bundle(request).await;
        let results = deleted.unwrap().into_inner().results;
        let named: Vec<_> = results.iter().map(|result| result.trust_domain.as_str()).collect();
        assert_eq!(named, names);
        results.into_iter().map(|result| result.status.unwrap()).collect()
    }
}

#[tokio::test]
async fn each_bundle_of_a_batch_stands_for_itself() {
    let world = world().await;
    let mut client = bundles(&world.operator());
    let (first, own) = (bundle("a.org", 1), bundle("example.org", 1));
    let request = BatchCreateFederatedBundleRequest {
        bundle: vec![first.clone(), own, first.clone(), bundle("b.org", 1)],
        output_mask: Some(BundleMask { sequence_number: true, ..BundleMask::default() }),
    };
    let created = client.batch_create_federated_bundle(request).await.unwrap().into_inner();
    let codes: Vec<_> = created.results.iter().map(|result| code(&result.status)).collect();
    assert_eq!(codes, [Code::Ok, Code::InvalidArgument, Code::AlreadyExists, Code::Ok]);
    let masked = types::Bundle {
        trust_domain: "a.org".into(),
        sequence_number: 1,
        ..types::Bundle::default()
    };
    assert_eq!(created.results[0].bundle, Some(masked));
    assert_eq!(created.results[1].bundle, None);

    let request = BatchUpdateFederatedBundleRequest {
        bundle: vec![types::Bundle { refresh_hint: 60, ..bundle("a.org", 9) }, bundle("c.org", 1)],
        input_mask: Some(BundleMask { refresh_hint: true, ..BundleMask::default() }),
        output_mask: None,
    };
    let updated = client.batch_update_federated_bundle(request).await.unwrap().into_inner();
    let codes: Vec<_> = updated.results.iter().map(|result| code(&result.status)).collect();
    assert_eq!(codes, [Code::Ok, Code::NotFound]);
    assert_eq!(updated.results[0].bundle, Some(types::Bundle { refresh_hint: 60, ..first }));

    let mut broken = bundle("d.org", 1);
    broken.x509_authorities[0].asn1 = vec![0x30, 0].into();
    assert_eq!(
        world.set(vec![broken, bundle("d.org", 1)]).await,
        [Code::InvalidArgument, Code::Ok]
    );
    let counted = client.count_bundles(CountBundlesRequest {}).await.unwrap().into_inner();
    assert_eq!(counted.count, 4, "ours and those of a, b and d");
}

#[tokio::test]
async fn bundles_are_listed_page_by_page_and_shown_one_by_one() {
    let world = world().await;
    let all = ["c.org", "a.org", "b.org"].map(|name| bundle(name, 1)).to_vec();
    world.set(all.clone()).await;
    let mut client = bundles(&world.operator());
    let (mut token, mut seen) = (String::new(), Vec::new());
    loop {
        let request = ListFederatedBundlesRequest {
            page_size: 2,
            page_token: token,
            output_mask: Some(BundleMask::default()),
        };
        let page = client.list_federated_bundles(request).await.unwrap().into_inner();
        assert!(page.bundles.iter().all(|bundle| bundle.x509_authorities.is_empty()));
        seen.push(page.bundles.into_iter().map(|bundle| bundle.trust_domain).collect::<Vec<_>>());
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, [vec!["a.org", "b.org"], vec!["c.org"]]);

    let agent = world.admitted().await;
    for channel in [world.operator(), agent.channel] {
        let get = async |name: &str| {
            let request =
                GetFederatedBundleRequest { trust_domain: name.into(), output_mask: None };
            bundles(&channel).get_federated_bundle(request).await
        };
        assert_eq!(get("c.org").await.unwrap().into_inner(), all[0]);
        refused(get("d.org").await, Code::NotFound, "no bundle of `d.org`");
        refused(get("example.org").await, Code::InvalidArgument, "server's own");
        refused(get("d.org/x").await, Code::InvalidArgument, "trust_domain");
    }
}

#[tokio::test]
async fn a_page_of_large_bundles_fits_a_message() {
    let world = world().await;
    let large = |n: usize| {
        // 85 certificates with 4,000 bytes each.
        let mut params = rcgen::CertificateParams::default();
        let filler = vec![0; 3_800];
        let oid = [1, 3, 6, 1, 4, 1, 55_555];
        params.custom_extensions = vec![rcgen::CustomExtension::from_oid_content(&oid, filler)];
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = || types::X509Certificate {
            asn1: params.self_signed(&key).unwrap().der().to_vec().into(),
            tainted: false,
        };
        let x509_authorities = (0..85).map(|_| certificate()).collect();
        types::Bundle { x509_authorities, ..bundle(&format!("t{n:02}.org"), 1) }
    };
    for n in 0..15 {
        assert_eq!(world.set(vec![large(n)]).await, [Code::Ok]);
    }
    let mut client = bundles(&world.operator());
    let page = client.list_federated_bundles(ListFederatedBundlesRequest::default()).await;
    let page = page.unwrap().into_inner();
    assert!((2..15).contains(&page.bundles.len()), "{}", page.bundles.len());
    assert_eq!(page.next_page_token, page.bundles.last().unwrap().trust_domain);

    let agent = world.admitted().await;
    let mut stream = subscribe(&agent, None).await;
    let (mut names, mut pages) = (Vec::new(), 0);
    loop {
        let page = stream.next().await.unwrap();
        let told = page.federated.unwrap_or_default();
        assert_eq!(told.snapshot, pages == 0);
        names.extend(told.upserts.into_iter().map(|bundle| bundle.trust_domain));
        pages += 1;
        if !page.more {
            break;
        }
    }
    assert_eq!((names.len(), names.is_sorted()), (15, true));
    assert!(pages >= 3, "{pages}");
}

/// What an agent is told about bundles: names that came or changed, names that went.
async fn told(stream: &mut Stream) -> (bool, Vec<String>, Vec<String>) {
    loop {
        if let Some(federated) = stream.next().await.unwrap().federated {
            let FederatedBundles { snapshot, upserts, deletes } = federated;
            let names = upserts.into_iter().map(|bundle| bundle.trust_domain).collect();
            return (snapshot, names, deletes);
        }
    }
}

#[tokio::test]
async fn agents_hear_of_other_bundles_at_once() {
    let world = world().await;
    let agent = world.admitted().await;
    world.set(vec![bundle("a.org", 1)]).await;
    let mut stream = subscribe(&agent, None).await;
    assert_eq!(told(&mut stream).await, (true, vec!["a.org".to_owned()], vec![]));

    let start = tokio::time::Instant::now();
    assert_eq!(world.set(vec![bundle("b.org", 1), bundle("a.org", 2)]).await.len(), 2);
    let changed = vec!["a.org".to_owned(), "b.org".to_owned()];
    assert_eq!(told(&mut stream).await, (false, changed, vec![]));
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());

    world.remove(&["a.org"], Mode::Restrict).await;
    assert_eq!(told(&mut stream).await, (false, vec![], vec!["a.org".to_owned()]));
    drop(stream);
    world.remove(&["b.org"], Mode::Restrict).await;
    let mut again = subscribe(&agent, None).await;
    assert_eq!(told(&mut again).await, (true, vec![], vec![]), "none is news, too");
}

#[tokio::test]
async fn a_bundle_that_entries_need_is_deleted_on_request_only() {
    let world = world().await;
    world.set(vec![bundle("a.org", 1)]).await;
    let parent = World::domain().join("/spire/agent/x").unwrap();
    let with = vec!["a.org".to_owned()];
    let entry =
        types::Entry { federates_with: with, ..entry("web", &parent, "/web", "unix:uid:1") };
    world.create(vec![entry]).await;
    let all = ["a.org", "b.org", "example.org", "No"];
    let statuses = world.remove(&all, Mode::Restrict).await;
    let codes: Vec<Code> = statuses.iter().map(|status| status.code.into()).collect();
    let want =
        [Code::FailedPrecondition, Code::NotFound, Code::InvalidArgument, Code::InvalidArgument];
    assert_eq!(codes, want);
    assert!(statuses[0].message.starts_with("1 entry federates with `a.org`"), "{statuses:?}");
    assert_eq!(world.remove(&["a.org"], Mode::Dissociate).await[0].code, 0);
}

#[tokio::test]
async fn only_the_operator_sets_bundles() {
    let world = world().await;
    let agent = world.admitted().await;
    let channels = [(world.remote(None), "not for strangers"), (agent.channel, "admin socket")];
    for (channel, why) in channels {
        let mut client = bundles(&channel);
        let set = client.batch_set_federated_bundle(BatchSetFederatedBundleRequest::default());
        refused(set.await, Code::PermissionDenied, why);
        let delete = BatchDeleteFederatedBundleRequest::default();
        let delete = client.batch_delete_federated_bundle(delete).await;
        refused(delete, Code::PermissionDenied, why);
        let list = client.list_federated_bundles(ListFederatedBundlesRequest::default()).await;
        refused(list, Code::PermissionDenied, why);
    }
}
