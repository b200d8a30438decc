//! Bundles of other trust domains, and the entries that federate with them.

use claviger_core::audit::{Body, Event};
use claviger_core::id::TrustDomain;

use super::super::federation::{DeleteBundleError, Dissociation};
use super::super::fixture::bundle;
use super::*;

fn other() -> TrustDomain {
    "other.org".parse().unwrap()
}

fn federating(id: &str, path: &str, with: &[&str]) -> Entry {
    let with = with.iter().map(|name| name.parse().unwrap()).collect();
    Entry { federates_with: with, ..entry(id, A, path, "unix:uid:1") }
}

impl World {
    async fn set(&self, wire: types::Bundle) {
        let set = self.registry.edit_bundles(&operator(), move |draft| draft.set(wire)).await;
        set.unwrap().unwrap();
    }

    async fn remove(&self, mode: Dissociation) -> Result<(), DeleteBundleError> {
        self.registry.delete_bundle(other(), mode, &operator()).await
    }

    fn known(&self) -> Vec<String> {
        let federated = self.registry.federated().borrow().clone();
        federated.following(None).map(|bundle| bundle.trust_domain.clone()).collect()
    }

    async fn events(&self) -> Vec<Event> {
        let store = self.life.storage.journal.store();
        let records = crate::audit::read(&**store, 1, 1_000).await.unwrap();
        let body = |body: Vec<u8>| serde_json::from_slice::<Body>(&body).unwrap();
        records.into_iter().map(|record| body(record.body).event).collect()
    }
}

#[tokio::test]
async fn bundles_outlive_the_server() {
    let world = world().await;
    world.set(bundle("other.org", 3)).await;
    world.set(bundle("third.org", 4)).await;
    world.remove(Dissociation::Restrict).await.unwrap();
    assert_eq!(world.known(), ["third.org"]);
    let again = open(&world.life, &world.clock, Limits::default()).await;
    assert_eq!(**again.federated().borrow().get(&"third.org".parse().unwrap()).unwrap(), {
        let federated = world.registry.federated().borrow().clone();
        (**federated.get(&"third.org".parse().unwrap()).unwrap()).clone()
    });
    assert_eq!(again.federated().borrow().len(), 1);
}

#[tokio::test]
async fn every_change_is_in_the_audit_log() {
    let world = world().await;
    let wire = bundle("other.org", 3);
    world.set(wire.clone()).await;
    world.set(wire).await;
    world.remove(Dissociation::Restrict).await.unwrap();
    let events = world.events().await;
    let of_bundles: Vec<_> = events
        .iter()
        .filter(|event| matches!(event, Event::BundleSet { .. } | Event::BundleDeleted { .. }))
        .collect();
    let [Event::BundleSet { trust_domain, sequence: 3, requester, digest, .. }, deleted] =
        of_bundles.as_slice()
    else {
        panic!("{of_bundles:?}");
    };
    assert_eq!((trust_domain, requester, digest.len()), (&other(), &operator(), 64));
    assert_eq!(**deleted, Event::BundleDeleted { trust_domain: other(), requester: operator() });
}

#[tokio::test]
async fn a_bundle_that_entries_need_stays() {
    let world = world().await;
    world.set(bundle("other.org", 1)).await;
    world.create(vec![federating("a", "/a", &["other.org", "third.org"])]).await;
    world.create(vec![federating("b", "/b", &["other.org"])]).await;
    let refused = world.remove(Dissociation::Restrict).await.unwrap_err();
    assert!(matches!(refused, DeleteBundleError::InUse { entries: 2, .. }), "{refused}");
    assert_eq!(world.known(), ["other.org"]);
}

#[tokio::test]
async fn entries_are_dissociated_or_deleted_with_the_bundle() {
    let world = world().await;
    world.set(bundle("other.org", 1)).await;
    let all =
        [federating("a", "/a", &["other.org", "third.org"]), federating("b", "/b", &["third.org"])];
    world.create(all.to_vec()).await;
    world.admit(A, &[]).await;
    let mut told = world.subscribe(A, None);
    assert_eq!(next(&mut told).await, "=+a+b");
    world.remove(Dissociation::Dissociate).await.unwrap();
    assert_eq!(next(&mut told).await, "+a", "and agents hear of it");
    let a = world.registry.entry(&"a".parse().unwrap()).unwrap().to_entry();
    let left: Vec<_> = a.federates_with.iter().map(TrustDomain::as_str).collect();
    assert_eq!((left, a.revision), (vec!["third.org"], 1));

    let unknown = world.remove(Dissociation::Delete).await.unwrap_err();
    assert!(matches!(unknown, DeleteBundleError::Unknown(_)), "{unknown}");
    world.set(bundle("other.org", 1)).await;
    world.create(vec![federating("c", "/c", &["other.org"])]).await;
    assert_eq!(next(&mut told).await, "+c");
    world.remove(Dissociation::Delete).await.unwrap();
    assert_eq!(next(&mut told).await, "-c");
    assert_eq!((world.served(A), world.known()), (vec!["a".into(), "b".into()], vec![]));
}

/// More entries than one commit takes.
#[tokio::test]
async fn many_entries_are_dissociated_page_by_page() {
    let world = world().await;
    world.set(bundle("other.org", 1)).await;
    let one = |n: usize| federating(&format!("e{n:04}"), &format!("/w{n}"), &["other.org"]);
    world.create((0..PAGE + 1).map(one).collect()).await;
    world.remove(Dissociation::Dissociate).await.unwrap();
    let federating = |entry: &types::Entry| !entry.federates_with.is_empty();
    assert!(world.registry.entries(None, 1, federating).is_empty());
    assert_eq!(world.known(), Vec::<String>::new());
}

#[tokio::test]
async fn what_cannot_be_written_changes_nothing() {
    let world = world().await;
    world.set(bundle("other.org", 1)).await;
    world.store.fail(Fault::Full);
    let wire = bundle("other.org", 2);
    let set = world.registry.edit_bundles(&operator(), move |draft| draft.set(wire)).await;
    assert!(matches!(set.unwrap_err(), CommitError::Store(_)));
    world.remove(Dissociation::Restrict).await.unwrap_err();
    let federated = world.registry.federated().borrow().clone();
    assert_eq!(federated.get(&other()).unwrap().sequence_number, 1);
}

#[tokio::test]
async fn a_change_is_seen_through_though_its_author_hangs_up() {
    let world = world().await;
    let mut changes = world.registry.federated();
    let wire = bundle("other.org", 1);
    {
        let requester = operator();
        let asking = world.registry.edit_bundles(&requester, move |draft| draft.set(wire));
        assert!(futures_util::poll!(std::pin::pin!(asking)).is_pending());
    }
    tokio::time::timeout(Duration::from_secs(10), changes.changed()).await.unwrap().unwrap();
    let again = open(&world.life, &world.clock, Limits::default()).await;
    assert_eq!(again.federated().borrow().len(), 1);
}
