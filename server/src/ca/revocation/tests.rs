use claviger_core::grant::{Grant, IssueX509, Recorded};
use claviger_core::svid::{SvidTtl, X509SvidContents};
use rcgen::{KeyPair, PublicKeyData as _};
use rustls_pki_types::UnixTime as PkiTime;
use webpki::OwnedCertRevocationList;
use x509_parser::revocation_list::CertificateRevocationList;

use super::*;
use crate::ca::rotation::Rotation;
use crate::ca::{Authority, fresh_serial};
use crate::config::Config;
use crate::storage::fixture::{Life, NOW, TestClock, decided};
use crate::store::memory::MemoryStore;

const ME: Requester = Requester::Operator { uid: 0 };

struct World {
    dir: tempfile::TempDir,
    clock: Arc<TestClock>,
    life: Life,
    /// The key that SVIDs are for.
    key: Vec<u8>,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (clock, store) = (TestClock::at(NOW), Arc::new(MemoryStore::default()));
        let life = Life::over(store, dir.path(), &clock).await.unwrap();
        let key = KeyPair::generate().unwrap().subject_public_key_info();
        Self { dir, clock, life, key }
    }

    async fn open(&self) -> (Rotation, Authority, Revocations) {
        let clock: Arc<dyn Clock> = Arc::<TestClock>::clone(&self.clock);
        let keys = self.life.storage.directory.keys();
        let journal = self.life.storage.journal.clone();
        let config = Config::new("example.org".parse().unwrap(), self.dir.path().into());
        let opened =
            Rotation::open(keys.clone(), &config, journal.clone(), Arc::clone(&clock)).await;
        let (rotation, authority) = opened.unwrap();
        let revocations =
            Revocations::open(keys, journal, clock, authority.bundle()).await.unwrap();
        (rotation, authority, revocations)
    }

    fn act(&self, subject: &str) -> IssueX509 {
        IssueX509 {
            contents: X509SvidContents {
                subject: subject.parse().unwrap(),
                dns_names: Vec::new(),
                ttl: SvidTtl::HOUR,
            },
            serial: fresh_serial().unwrap(),
            public_key: self.key.clone(),
            requester: Requester::Server,
            entry: None,
        }
    }

    fn svid(&self, authority: &Authority) -> Vec<u8> {
        let act = self.act("spiffe://example.org/web");
        let grant = Recorded::assertion(Grant::assertion(act, decided()));
        authority.sign(grant, self.clock.now()).unwrap().chain[0].to_vec()
    }
}

/// The serial numbers on a list, as another library reads it.
fn serials(revocations: &Revocations) -> Vec<Vec<Vec<u8>>> {
    let lists = revocations.lists().borrow().clone();
    let read = |list: &Bytes| {
        let (_, list) = CertificateRevocationList::from_der(list).unwrap();
        list.iter_revoked_certificates().map(|one| one.raw_serial().to_vec()).collect()
    };
    lists.iter().map(read).collect()
}

#[tokio::test]
async fn what_is_revoked_is_on_its_authoritys_list_until_it_ends() {
    let world = World::new().await;
    let (_rotation, authority, revocations) = world.open().await;
    assert!(revocations.lists().borrow().is_empty(), "nothing is revoked");
    let (one, other) = (world.svid(&authority), world.svid(&authority));
    let revoked = revocations.revoke(&one, ME).await.unwrap();
    assert_eq!(revoked.subject.to_string(), "spiffe://example.org/web");
    assert_eq!(serials(&revocations), [[hex::decode(&revoked.serial).unwrap()]]);
    assert_eq!(revocations.revoke(&one, ME).await.unwrap(), revoked, "once is enough");
    revocations.revoke(&other, ME).await.unwrap();
    assert_eq!(serials(&revocations)[0].len(), 2);

    let (_rotation, _authority, reopened) = world.open().await;
    assert_eq!(serials(&reopened)[0].len(), 2, "a restart forgets nothing");
    world.clock.set(NOW + 3_601);
    reopened.renew().await.unwrap();
    assert!(reopened.lists().borrow().is_empty(), "they have ended by themselves");
}

#[tokio::test]
async fn an_authority_that_was_replaced_still_revokes() {
    let world = World::new().await;
    drop(world.open().await);
    // A day's authority is replaced after twenty hours.
    world.clock.set(NOW + 71_900);
    let (_rotation, authority, _revocations) = world.open().await;
    let old = world.svid(&authority);
    world.clock.set(NOW + 72_100);
    let (_rotation, authority, revocations) = world.open().await;
    let new = world.svid(&authority);
    let [old, new] =
        [revocations.revoke(&old, ME).await.unwrap(), revocations.revoke(&new, ME).await.unwrap()];
    assert_ne!(old.authority, new.authority);
    assert_eq!(serials(&revocations).len(), 2, "a list of each");
}

#[tokio::test]
async fn only_our_own_svids_are_revoked() {
    let world = World::new().await;
    let (_rotation, authority, revocations) = world.open().await;
    let foreign = {
        let other = World::new().await;
        let (_rotation, authority, _revocations) = other.open().await;
        other.svid(&authority)
    };
    assert!(matches!(revocations.revoke(&foreign, ME).await.unwrap_err(), RevokeError::NotOurs));
    let ca = authority.bundle().borrow().x509_authorities[0].der.clone();
    assert!(matches!(revocations.revoke(&ca, ME).await.unwrap_err(), RevokeError::Authority));
    for junk in [b"".as_slice(), b"\x30\x00", &[0x30; 20_000]] {
        assert!(matches!(revocations.revoke(junk, ME).await.unwrap_err(), RevokeError::Malformed));
    }
    let mut longer = world.svid(&authority);
    longer.push(0);
    assert!(matches!(revocations.revoke(&longer, ME).await.unwrap_err(), RevokeError::Malformed));
}

/// A verifier that gets the list refuses what is on it.
#[tokio::test]
async fn a_verifier_that_has_the_list_refuses_what_is_on_it() {
    let world = World::new().await;
    let (_rotation, authority, revocations) = world.open().await;
    let (good, bad) = (world.svid(&authority), world.svid(&authority));
    revocations.revoke(&bad, ME).await.unwrap();
    let lists = revocations.lists().borrow().clone();
    let crl = OwnedCertRevocationList::from_der(&lists[0]).unwrap().into();
    let crls = [&crl];
    let options = webpki::RevocationOptionsBuilder::new(&crls)
        .unwrap()
        .with_expiration_policy(webpki::ExpirationPolicy::Enforce)
        .build();
    let root = authority.bundle().borrow().x509_authorities[0].der.clone();
    let root = CertificateDer::from(root.to_vec());
    let anchors = [webpki::anchor_from_trusted_cert(&root).unwrap()];
    let verify = |der: &[u8]| {
        let der = CertificateDer::from(der.to_vec());
        let leaf = webpki::EndEntityCert::try_from(&der).unwrap();
        let now = PkiTime::since_unix_epoch(Duration::from_secs(world.clock.now().as_secs()));
        leaf.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            &[],
            now,
            webpki::KeyUsage::client_auth(),
            Some(options),
            None,
        )
        .map(|_path| ())
    };
    verify(&good).unwrap();
    assert_eq!(verify(&bad).unwrap_err(), webpki::Error::CertRevoked);
}

/// What was issued in one life of the server is withdrawn in the next, once, and of nobody else.
#[tokio::test]
async fn all_that_an_identity_or_an_agent_has_is_withdrawn() {
    let world = World::new().await;
    let agent: SpiffeId = "spiffe://example.org/spire/agent/a".parse().unwrap();
    let issue = async |subject: &str, by: Requester| {
        let act = IssueX509 { requester: by, ..world.act(subject) };
        let serial = act.serial.to_string();
        let grants = vec![Grant::assertion(act, decided())];
        let journal = &world.life.storage.journal;
        drop(journal.record_x509(grants, world.clock.now()).await.unwrap());
        serial
    };
    let ended = issue("spiffe://example.org/web", ME).await;
    world.clock.set(NOW + 3_000);
    let mine = [
        issue("spiffe://example.org/web", ME).await,
        issue("spiffe://example.org/web", Requester::Agent(agent.clone())).await,
    ];
    let agents = issue("spiffe://example.org/db", Requester::Agent(agent.clone())).await;
    world.clock.set(NOW + 3_601);

    let (_rotation, _authority, revocations) = world.open().await;
    let web = HashSet::from(["spiffe://example.org/web".parse().unwrap()]);
    let withdrawn = revocations.withdraw(&web, ME).await.unwrap();
    assert_eq!(withdrawn, Withdrawn { listed: 2, left_out: 0 });
    let listed =
        || -> HashSet<String> { serials(&revocations).concat().iter().map(hex::encode).collect() };
    assert_eq!(listed(), HashSet::from(mine.clone()));
    assert!(!listed().contains(&ended), "it has ended by itself");
    assert_eq!(revocations.withdraw(&web, ME).await.unwrap(), withdrawn);
    assert_eq!(listed().len(), 2, "once is enough");
    let agent = HashSet::from([agent]);
    assert_eq!(revocations.withdraw(&agent, ME).await.unwrap().listed, 2, "one was listed before");
    assert!(listed().contains(&agents));
    let nobody = HashSet::from(["spiffe://example.org/nobody".parse().unwrap()]);
    assert_eq!(revocations.withdraw(&nobody, ME).await.unwrap(), Withdrawn::default());
}

#[tokio::test]
async fn lists_that_are_full_take_what_lasts_longest_and_say_what_lacks() {
    let world = World::new().await;
    let (_rotation, _authority, revocations) = world.open().await;
    let journal = &world.life.storage.journal;
    let grants = (0..=MAX_REVOKED)
        .map(|_| Grant::assertion(world.act("spiffe://example.org/web"), decided()));
    let first = world.act("spiffe://example.org/web");
    let soonest = first.serial.to_string();
    let first = vec![Grant::assertion(first, decided())];
    drop(journal.record_x509(first, UnixTime::from_secs(NOW - 60)).await.unwrap());
    drop(journal.record_x509(grants.collect(), world.clock.now()).await.unwrap());
    let web = HashSet::from(["spiffe://example.org/web".parse().unwrap()]);
    let withdrawn = revocations.withdraw(&web, ME).await.unwrap();
    assert_eq!(withdrawn, Withdrawn { listed: MAX_REVOKED, left_out: 2 });
    assert!(!serials(&revocations).concat().contains(&hex::decode(soonest).unwrap()));
}
