//! The file under the agent's key, and under the next one.

use claviger_core::entry::Entry;
use claviger_core::svid::Validity;
use claviger_core::svid::jwt::Audience;
use claviger_runtime::tasks::Tasks;
use rustls_pki_types::CertificateDer;
use tempfile::{TempDir, tempdir};
use zeroize::Zeroizing;

use super::*;
use crate::credentials::{Identity, Offer, WorkloadWit};
use crate::pem;
use crate::standings::Standings;
use crate::tokens::Token;
use crate::world::{NOW, entry, snapshot_of};

struct Place {
    _parent: TempDir,
    dir: DataDir,
    cache: Cache,
    tokens: Tokens,
}

impl Place {
    fn new() -> Self {
        let parent = tempdir().unwrap();
        let dir = DataDir::open(&parent.path().join("agent")).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(claviger_core::time::SystemClock);
        let (links, snapshots) = (watch::channel(None).1, watch::channel(None).1);
        let tokens =
            Tokens::new(&links, &snapshots, &Standings::default(), &clock, &Tasks::default());
        Self { _parent: parent, cache: Cache::new(dir.clone()), dir, tokens }
    }

    async fn become_somebody(&self, key: &Key) {
        let text = pem::write(Some(key.pkcs8()), &[CertificateDer::from(vec![0x30, 0])]);
        self.dir.write("identity.pem", text).await.unwrap();
    }

    async fn save(&self, snapshot: &Snapshot) {
        self.cache.save(snapshot, &self.tokens, NOW).await.unwrap();
    }

    async fn is_known(&self) -> bool {
        self.cache.load().await.unwrap().is_some()
    }
}

#[tokio::test]
async fn whenever_the_agent_is_killed_while_it_renews_its_key_opens_what_is_kept() {
    let place = Place::new();
    let (old, new) = (Key::generate().unwrap(), Key::generate().unwrap());
    place.become_somebody(&old).await;
    let snapshot = snapshot_of(vec![entry("a", &[])], Vec::new());
    place.save(&snapshot).await;
    let (cache, saved) = (place.cache.clone(), place.save(&snapshot));
    let passed = cache.pass_on(&new, async {
        assert!(place.is_known().await, "killed before it has the new key");
        place.become_somebody(&new).await;
        assert!(place.is_known().await, "killed as soon as it has it");
    });
    // Nothing is written under the old key meanwhile, whoever wants to.
    tokio::join!(passed, saved);
    assert!(place.is_known().await);
    place.become_somebody(&old).await;
    assert!(!place.is_known().await, "the old key opens nothing that was written later");
}

#[tokio::test]
async fn an_agent_that_has_kept_nothing_takes_its_key_all_the_same() {
    let place = Place::new();
    let key = Key::generate().unwrap();
    place.dir.write(FILE, b"junk".to_vec().into()).await.unwrap();
    place.cache.pass_on(&key, place.become_somebody(&key)).await;
    assert_eq!(load_key(&place.dir).await.unwrap().unwrap().as_slice(), key.pkcs8());
    assert!(!place.is_known().await);
}

fn token(entry: &Entry, audience: &str, secs: u64) -> Remembered {
    let token = Token {
        jwt: Zeroizing::new(format!("for {audience}")),
        key_id: "k".to_owned(),
        expires_at: NOW.after(Duration::from_secs(secs)),
        issued_at: NOW,
    };
    let audience = Audience::new(vec![audience.to_owned()]).unwrap();
    Remembered { entry: Arc::new(entry.clone()), audience, token: Arc::new(token) }
}

#[tokio::test]
async fn tokens_come_back_with_their_keys_as_long_as_they_are_good() {
    let place = Place::new();
    place.become_somebody(&Key::generate().unwrap()).await;
    let (entry, gone) = (entry("a", &[]), entry("b", &[]));
    let validity = |secs| Validity {
        not_before: NOW.before(Duration::from_secs(5)),
        not_after: NOW.after(Duration::from_secs(secs)),
    };
    let jwk = Key::generate().unwrap().private_jwk().unwrap();
    let wit = |secs| {
        let (token, key) = (Zeroizing::new("w".to_owned()), jwk.clone());
        let wit = WorkloadWit { token, key, validity: validity(secs) };
        Identity { wit: Offer::given(wit), ..Identity::without_svids(entry.clone()) }
    };
    let snapshot = |secs| {
        let own = snapshot_of(Vec::new(), Vec::new()).bundle().bundle.clone();
        let own = Arc::new(crate::credentials::ServedBundle::from(own));
        Snapshot::new(own, std::collections::BTreeMap::new(), vec![wit(secs)], Arc::default())
    };
    let changed = Entry { revision: 1, ..entry.clone() };
    place.tokens.restore(vec![
        token(&entry, "good", 60),
        token(&entry, "over", 0),
        token(&changed, "other entry", 60),
        token(&gone, "nobody", 60),
    ]);
    place.save(&snapshot(60)).await;
    let known = place.cache.load().await.unwrap().unwrap();
    let [(id, back)] = &known.update.wits[..] else { panic!("one") };
    assert_eq!((id, &back.token, &back.key), (&entry.id, &Zeroizing::new("w".to_owned()), &jwk));
    let [back] = &known.tokens[..] else { panic!("one: {:?}", known.tokens) };
    assert_eq!((&*back.entry, back.token.jwt.as_str()), (&entry, "for good"));
    assert_eq!(back.token.expires_at, NOW.after(Duration::from_secs(60)));

    place.save(&snapshot(0)).await;
    let known = place.cache.load().await.unwrap().unwrap();
    assert_eq!(known.update.wits.len(), 1, "valid to the last second");
    let later = NOW.after(Duration::from_secs(1));
    place.cache.save(&snapshot(0), &place.tokens, later).await.unwrap();
    assert_eq!(place.cache.load().await.unwrap().unwrap().update.wits.len(), 0);
}
