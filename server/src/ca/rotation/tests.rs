use claviger_core::audit::Body;
use claviger_core::grant::{Grant, IssueX509, PolicyDigest, Recorded, Requester};
use claviger_core::svid::{SvidTtl, X509SvidContents};
use claviger_runtime::tls::{TrustBundle, verify_svid};
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;

use super::*;
use crate::ca::SignedSvid;
use crate::storage::fixture::{Life, NOW, TestClock};
use crate::store::memory::{Fault, MemoryStore};

const DAY: u64 = 86_400;

struct World {
    dir: tempfile::TempDir,
    clock: Arc<TestClock>,
    store: Arc<MemoryStore>,
    life: Life,
}

async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let (clock, store) = (TestClock::at(NOW), Arc::new(MemoryStore::default()));
    let shared = Arc::<MemoryStore>::clone(&store);
    let life = Life::over(shared, dir.path(), &clock).await.unwrap();
    World { dir, clock, store, life }
}

impl World {
    async fn open(&self) -> Result<(Rotation, Authority), RotationError> {
        let clock: Arc<dyn Clock> = Arc::<TestClock>::clone(&self.clock);
        let keys = KeyFolder::new(self.life.storage.directory.keys());
        let journal = self.life.storage.journal.clone();
        Rotation::open("example.org".parse().unwrap(), keys, CaConfig::default(), journal, clock)
            .await
    }

    fn sign(&self, authority: &Authority) -> SignedSvid {
        let act = IssueX509 {
            contents: X509SvidContents {
                subject: "spiffe://example.org/web".parse().unwrap(),
                dns_names: Vec::new(),
                ttl: SvidTtl::HOUR,
            },
            public_key: KeyPair::generate().unwrap().subject_public_key_info(),
            requester: Requester::Server,
            entry: None,
        };
        let grant = Grant::assertion(act, PolicyDigest::of(b"test"));
        authority.sign(Recorded::assertion(grant), self.clock.now()).unwrap()
    }

    fn verify(&self, svid: &SignedSvid, bundle: &Bundle) -> bool {
        let ders: Vec<_> =
            bundle.x509_authorities.iter().map(|a| CertificateDer::from(a.der.to_vec())).collect();
        let bundle = TrustBundle::new(bundle.trust_domain.clone(), &ders).unwrap();
        verify_svid(&svid.chain, &bundle, self.clock.now()).is_ok()
    }

    fn key_files(&self) -> usize {
        let files = std::fs::read_dir(self.dir.path().join("keys")).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("x509-")).count()
    }

    async fn events(&self) -> Vec<Event> {
        let log = crate::audit::read(&*self.store, 1, 1_000).await.unwrap();
        let body = |body: &[u8]| serde_json::from_slice::<Body>(body).unwrap().event;
        log.iter().map(|record| body(&record.body)).collect()
    }
}

#[tokio::test]
async fn the_same_authority_signs_after_a_restart() {
    let world = world().await;
    let (_, first) = world.open().await.unwrap();
    let (_, second) = world.open().await.unwrap();
    assert_eq!(*first.bundle().borrow(), *second.bundle().borrow());
    assert_eq!(first.bundle().borrow().x509_authorities.len(), 1);
    assert!(world.verify(&world.sign(&second), &first.bundle().borrow()));
    assert_eq!(world.key_files(), 1);
    let events = world.events().await;
    let count = |wanted: fn(&Event) -> bool| events.iter().filter(|event| wanted(event)).count();
    assert_eq!(count(|event| matches!(event, Event::AuthorityPrepared { .. })), 1);
    assert_eq!(count(|event| matches!(event, Event::AuthorityActivated { .. })), 1);
}

#[tokio::test]
async fn a_successor_is_published_long_before_it_signs() {
    let world = world().await;
    let (mut rotation, authority) = world.open().await.unwrap();
    let first = authority.bundle().borrow().clone();

    world.clock.advance(DAY / 2);
    rotation.advance().await.unwrap();
    let both = authority.bundle().borrow().clone();
    assert_eq!((both.x509_authorities.len(), both.sequence), (2, first.sequence + 1));
    assert!(world.verify(&world.sign(&authority), &first), "the old one still signs");
    assert_eq!(world.key_files(), 2);

    world.clock.advance(DAY / 3);
    rotation.advance().await.unwrap();
    let old_bundle_suffices = world.verify(&world.sign(&authority), &first);
    assert!(!old_bundle_suffices, "the new one signs");
    assert!(world.verify(&world.sign(&authority), &both));
    assert_eq!(world.key_files(), 1, "a key that signs no more is destroyed");

    world.clock.advance(DAY / 6 + 1);
    rotation.advance().await.unwrap();
    let last = authority.bundle().borrow().clone();
    assert!(!last.x509_authorities.contains(&first.x509_authorities[0]), "it has expired");
    assert!(last.sequence > both.sequence);
}

#[tokio::test]
async fn after_a_long_absence_there_is_an_authority_at_once() {
    let world = world().await;
    let (_, before) = world.open().await.unwrap();
    world.clock.advance(10 * DAY);
    let (_, after) = world.open().await.unwrap();
    assert!(world.verify(&world.sign(&after), &after.bundle().borrow()));
    assert_ne!(before.bundle().borrow().x509_authorities, after.bundle().borrow().x509_authorities);
    assert_eq!(world.key_files(), 1);
}

#[tokio::test]
async fn a_step_that_cannot_be_written_does_not_happen() {
    let world = world().await;
    let (mut rotation, authority) = world.open().await.unwrap();
    let bundle = authority.bundle().borrow().clone();
    world.clock.advance(DAY / 2);
    world.store.fail(Fault::Full);
    rotation.advance().await.unwrap_err();
    assert_eq!(*authority.bundle().borrow(), bundle);
    assert!(world.verify(&world.sign(&authority), &bundle));
    world.store.fail(Fault::None);
    rotation.advance().await.unwrap();
    assert_eq!(authority.bundle().borrow().x509_authorities.len(), 2);
    let (_, reopened) = world.open().await.unwrap();
    assert_eq!(world.key_files(), 2, "the key of the failed step is gone");
    assert_eq!(reopened.bundle().borrow().x509_authorities.len(), 2);
}

#[tokio::test]
async fn a_missing_or_exchanged_key_is_named() {
    let world = world().await;
    drop(world.open().await.unwrap());
    let keys = world.dir.path().join("keys");
    let mut files = std::fs::read_dir(&keys).unwrap().map(|file| file.unwrap().path());
    let key = files.find(|path| path.to_string_lossy().contains("x509-")).unwrap();
    let (_, other) = AuthorityKey::generate().unwrap();
    crate::storage::secret_file::write(&key, &other).unwrap();
    let error = world.open().await.unwrap_err();
    assert!(matches!(error, RotationError::OtherKey { .. }), "{error}");
    std::fs::remove_file(&key).unwrap();
    let error = world.open().await.unwrap_err();
    assert!(matches!(error, RotationError::KeyFile(_)), "{error}");
}
