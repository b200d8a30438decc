use std::collections::BTreeSet;

use claviger_core::audit::{Body, Event};
use claviger_core::bundle::TokenAuthority;
use claviger_core::evidence::KeyDigest;
use claviger_core::grant::{Grant, IssueJwt, IssueWit, IssueX509, Recorded, Requester};
use claviger_core::jose::PublicKey;
use claviger_core::svid::jwt::{Audience, JwtSvid, JwtSvidContents};
use claviger_core::svid::wit::{WitSvid, WitSvidContents};
use claviger_core::svid::{SvidTtl, X509SvidContents};
use claviger_runtime::tls::{TrustBundle, verify_svid};
use rcgen::{KeyPair, PublicKeyData as _};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::*;
use crate::ca::keys::AuthorityKey;
use crate::ca::{SignedSvid, SignedToken, fresh_serial};
use crate::storage::fixture::{Life, NOW, TestClock, decided};
use crate::store::memory::{Fault, MemoryStore};
use crate::store::{Space, Store as _, Write};

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
        let keys = self.life.storage.directory.keys();
        let journal = self.life.storage.journal.clone();
        let config = Config::new("example.org".parse().unwrap(), self.dir.path().into());
        Rotation::open(keys, &config, journal, clock).await
    }

    fn sign(&self, authority: &Authority) -> SignedSvid {
        let act = IssueX509 {
            contents: X509SvidContents {
                subject: "spiffe://example.org/web".parse().unwrap(),
                dns_names: Vec::new(),
                ttl: SvidTtl::HOUR,
            },
            serial: fresh_serial().unwrap(),
            public_key: KeyPair::generate().unwrap().subject_public_key_info(),
            requester: Requester::Server,
            entry: None,
        };
        let grant = Grant::assertion(act, decided());
        authority.sign(Recorded::assertion(grant), self.clock.now()).unwrap()
    }

    fn sign_jwt(&self, authority: &Authority) -> SignedToken {
        let contents = JwtSvidContents {
            subject: "spiffe://example.org/web".parse().unwrap(),
            audience: Audience::new(vec!["db".to_owned()]).unwrap(),
            ttl: SvidTtl::FIVE_MINUTES,
            jti: false,
        };
        let act = IssueJwt { contents, requester: Requester::Server, entry: None };
        let grant = Recorded::assertion(Grant::assertion(act, decided()));
        authority.sign_jwt(grant, self.clock.now()).unwrap()
    }

    fn sign_wit(&self, authority: &Authority) -> SignedToken {
        let spki = KeyPair::generate().unwrap().subject_public_key_info();
        let contents = WitSvidContents {
            subject: "spiffe://example.org/web".parse().unwrap(),
            key: PublicKey::from_spki(&spki).unwrap(),
            ttl: SvidTtl::HOUR,
        };
        let act = IssueWit { contents, requester: Requester::Server, entry: None };
        let grant = Recorded::assertion(Grant::assertion(act, decided()));
        authority.sign_wit(grant, self.clock.now()).unwrap()
    }

    fn jwt_is_valid(&self, token: &SignedToken, authorities: &[TokenAuthority]) -> bool {
        let now = self.clock.now();
        JwtSvid::validate(&token.token, "db", now, |_| Some(authorities)).is_ok()
    }

    fn wit_is_valid(&self, token: &SignedToken, authorities: &[TokenAuthority]) -> bool {
        WitSvid::validate(&token.token, self.clock.now(), |_| Some(authorities)).is_ok()
    }

    fn verify(&self, svid: &SignedSvid, bundle: &Bundle) -> bool {
        let ders: Vec<_> =
            bundle.x509_authorities.iter().map(|a| CertificateDer::from(a.der.to_vec())).collect();
        let bundle = TrustBundle::new(bundle.trust_domain.clone(), &ders).unwrap();
        verify_svid(&svid.chain, &bundle, self.clock.now()).is_ok()
    }

    /// The keys of each profile: X.509, JWT, WIT.
    fn key_files(&self) -> [usize; 3] {
        ["x509-", "jwt-", "wit-"].map(|prefix| self.files_of(prefix))
    }

    fn files_of(&self, prefix: &str) -> usize {
        let files = std::fs::read_dir(self.dir.path().join("keys")).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(prefix)).count()
    }

    /// Where the key is that belongs to this authority's certificate.
    fn file_of(&self, certificate: &[u8]) -> PathBuf {
        let (_, certificate) = X509Certificate::from_der(certificate).unwrap();
        let key = KeyDigest::of_spki(certificate.public_key().raw);
        self.dir.path().join(format!("keys/x509-{key}.key"))
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
    assert!(world.jwt_is_valid(&world.sign_jwt(&second), &first.bundle().borrow().jwt_authorities));
    assert!(world.wit_is_valid(&world.sign_wit(&second), &first.bundle().borrow().wit_authorities));
    assert_eq!(world.key_files(), [1, 1, 1]);
    let events = world.events().await;
    let count = |wanted: fn(&Event) -> bool| events.iter().filter(|event| wanted(event)).count();
    assert_eq!(count(|event| matches!(event, Event::AuthorityPrepared { .. })), 3);
    assert_eq!(count(|event| matches!(event, Event::AuthorityActivated { .. })), 3);
    let log = serde_json::to_value(&events).unwrap();
    let prepared = log.as_array().unwrap().iter().filter(|e| e["event"] == "authority_prepared");
    let profiles = prepared.map(|event| event["profile"].as_str().unwrap());
    assert_eq!(profiles.collect::<Vec<_>>(), ["x509", "jwt", "wit"]);
}

#[tokio::test]
async fn a_successor_is_published_long_before_it_signs() {
    let world = world().await;
    let (mut rotation, authority) = world.open().await.unwrap();
    let first = authority.bundle().borrow().clone();

    world.clock.advance(DAY / 2);
    rotation.advance().await.unwrap();
    let both = authority.bundle().borrow().clone();
    assert_eq!((both.x509_authorities.len(), both.sequence), (2, first.sequence + 3));
    assert!(world.verify(&world.sign(&authority), &first), "the old one still signs");
    assert_eq!(world.key_files(), [2, 2, 2]);

    world.clock.advance(DAY / 3);
    rotation.advance().await.unwrap();
    let old_bundle_suffices = world.verify(&world.sign(&authority), &first);
    assert!(!old_bundle_suffices, "the new one signs");
    assert!(world.verify(&world.sign(&authority), &both));
    assert_eq!(world.key_files(), [2, 1, 1], "who signed certificates may have to revoke them");

    world.clock.advance(DAY / 6 + 1);
    rotation.advance().await.unwrap();
    let last = authority.bundle().borrow().clone();
    assert!(!last.x509_authorities.contains(&first.x509_authorities[0]), "it has expired");
    assert!(last.sequence > both.sequence);
    // The successor, and its own: half a life has gone by.
    assert_eq!(world.key_files(), [2, 2, 2], "a key that signs no more is destroyed");
}

/// Signs by the old key until the successor has been public for a third of a life, and by the new
/// one then; what either signed can be checked for as long as it lasts.
#[tokio::test]
async fn keys_for_tokens_are_published_before_use_and_until_what_they_signed_has_ended() {
    let world = world().await;
    let (mut rotation, authority) = world.open().await.unwrap();
    let bundle = authority.bundle();
    let first = bundle.borrow().clone();
    world.clock.advance(DAY / 2);
    rotation.advance().await.unwrap();
    let both = bundle.borrow().clone();
    assert_eq!((both.jwt_authorities.len(), both.wit_authorities.len()), (2, 2));
    assert_eq!(
        (&both.jwt_authorities[0], &both.wit_authorities[0]),
        (&first.jwt_authorities[0], &first.wit_authorities[0],)
    );
    assert!(world.jwt_is_valid(&world.sign_jwt(&authority), &first.jwt_authorities));
    assert!(world.wit_is_valid(&world.sign_wit(&authority), &first.wit_authorities));

    // The last that the old keys sign.
    world.clock.advance(DAY / 3 - 11);
    rotation.advance().await.unwrap();
    let (last_jwt, last_wit) = (world.sign_jwt(&authority), world.sign_wit(&authority));
    world.clock.advance(11);
    rotation.advance().await.unwrap();
    let (jwt, wit) = (world.sign_jwt(&authority), world.sign_wit(&authority));
    assert!(!world.jwt_is_valid(&jwt, &first.jwt_authorities), "the new one signs");
    assert!(!world.wit_is_valid(&wit, &first.wit_authorities), "the new one signs");
    assert!(world.jwt_is_valid(&jwt, &both.jwt_authorities));
    assert!(world.wit_is_valid(&wit, &both.wit_authorities));
    assert_eq!(bundle.borrow().sequence, both.sequence, "activation changes nothing in the bundle");

    let last = last_wit.expires_at.max(last_jwt.expires_at);
    while world.clock.now() < last {
        let now = bundle.borrow().clone();
        assert!(
            last_jwt.expires_at <= world.clock.now()
                || world.jwt_is_valid(&last_jwt, &now.jwt_authorities)
        );
        assert!(world.wit_is_valid(&last_wit, &now.wit_authorities));
        world.clock.advance(60);
        rotation.advance().await.unwrap();
    }
    world.clock.advance(DAY / 6);
    rotation.advance().await.unwrap();
    let later = bundle.borrow().clone();
    assert!(!later.jwt_authorities.contains(&first.jwt_authorities[0]), "it has ended");
    assert!(!later.wit_authorities.contains(&first.wit_authorities[0]), "it has ended");
}

#[tokio::test]
async fn the_sequence_rises_with_every_change_and_with_nothing_else() {
    let world = world().await;
    let (mut rotation, authority) = world.open().await.unwrap();
    let mut seen = authority.bundle().borrow().clone();
    for _ in 0..3 * 24 * 4 {
        world.clock.advance(900);
        rotation.advance().await.unwrap();
        let now = authority.bundle().borrow().clone();
        let content = |bundle: &Bundle| Bundle { sequence: 0, ..bundle.clone() };
        assert_eq!(seen.sequence < now.sequence, content(&seen) != content(&now));
        assert!(seen.sequence <= now.sequence);
        seen = now;
    }
    assert!(seen.sequence > 12);
    let (_, reopened) = world.open().await.unwrap();
    assert_eq!(*reopened.bundle().borrow(), seen);
}

#[tokio::test]
async fn no_two_keys_of_a_bundle_share_a_name() {
    let world = world().await;
    let (mut rotation, authority) = world.open().await.unwrap();
    world.clock.advance(DAY / 2);
    rotation.advance().await.unwrap();
    let bundle = authority.bundle().borrow().clone();
    let keys = || bundle.jwt_authorities.iter().chain(&bundle.wit_authorities);
    let names: BTreeSet<_> = keys().map(|key| key.key_id.as_str()).collect();
    assert_eq!((names.len(), keys().count()), (4, 4));
    assert!(names.iter().all(|name| name.len() == 32));
}

/// The store of the first version has slots for certificates, and nothing else.
#[tokio::test]
async fn a_store_without_keys_for_tokens_is_given_some() {
    let world = world().await;
    let (_, before) = world.open().await.unwrap();
    let before = before.bundle().borrow().clone();
    let forget = |key: &str| Write::delete(Space::Authorities, key);
    let writes = vec![forget("slots/jwt"), forget("slots/wit")];
    world.store.write(writes).await.unwrap();
    for file in std::fs::read_dir(world.dir.path().join("keys")).unwrap() {
        let path = file.unwrap().path();
        if !path.file_name().unwrap().to_str().unwrap().starts_with("x509-") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let (_, after) = world.open().await.unwrap();
    let bundle = after.bundle().borrow().clone();
    assert_eq!(bundle.x509_authorities, before.x509_authorities);
    assert_ne!(bundle.jwt_authorities, before.jwt_authorities);
    assert!(world.jwt_is_valid(&world.sign_jwt(&after), &bundle.jwt_authorities));
    assert!(world.wit_is_valid(&world.sign_wit(&after), &bundle.wit_authorities));
    assert_eq!(world.key_files(), [1, 1, 1]);
}

#[tokio::test]
async fn trouble_with_one_profile_does_not_hold_up_the_others() {
    let world = world().await;
    let (mut rotation, authority) = world.open().await.unwrap();
    world.clock.advance(DAY / 2);
    rotation.advance().await.unwrap();
    // The certificates' next key is lost before it signs.
    let next = world.file_of(authority.bundle().borrow().x509_authorities[1].der.as_ref());
    std::fs::remove_file(&next).unwrap();
    let first = authority.bundle().borrow().clone();
    world.clock.advance(DAY / 3);
    let error = rotation.advance().await.unwrap_err().to_string();
    assert!(error.contains(next.to_str().unwrap()), "{error}");
    assert!(world.verify(&world.sign(&authority), &first), "the old one still signs");
    assert!(world.jwt_is_valid(&world.sign_jwt(&authority), &first.jwt_authorities[1..]));
    assert!(world.wit_is_valid(&world.sign_wit(&authority), &first.wit_authorities[1..]));
    rotation.advance().await.unwrap_err();
}

#[tokio::test]
async fn after_a_long_absence_there_is_an_authority_at_once() {
    let world = world().await;
    let (_, before) = world.open().await.unwrap();
    world.clock.advance(10 * DAY);
    let (_, after) = world.open().await.unwrap();
    assert!(world.verify(&world.sign(&after), &after.bundle().borrow()));
    assert_ne!(before.bundle().borrow().x509_authorities, after.bundle().borrow().x509_authorities);
    assert!(world.jwt_is_valid(&world.sign_jwt(&after), &after.bundle().borrow().jwt_authorities));
    assert!(world.wit_is_valid(&world.sign_wit(&after), &after.bundle().borrow().wit_authorities));
    assert_eq!(world.key_files(), [1, 1, 1]);
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
    assert_eq!(world.key_files(), [2, 2, 2], "the keys of the failed steps are gone");
    assert_eq!(reopened.bundle().borrow().x509_authorities.len(), 2);
}

#[tokio::test]
async fn a_missing_or_exchanged_key_is_named() {
    let world = world().await;
    drop(world.open().await.unwrap());
    let keys = world.dir.path().join("keys");
    let mut files = std::fs::read_dir(&keys).unwrap().map(|file| file.unwrap().path());
    let key = files.find(|path| path.to_string_lossy().contains("x509-")).unwrap();
    let (_, other) = AuthorityKey::generate(Profile::X509).unwrap();
    secret_file::write(&key, &other).unwrap();
    let error = world.open().await.unwrap_err();
    assert!(matches!(error, RotationError::OtherKey(_)), "{error}");
    std::fs::remove_file(&key).unwrap();
    let error = world.open().await.unwrap_err();
    assert!(matches!(error, RotationError::KeyFile(_)), "{error}");
}
