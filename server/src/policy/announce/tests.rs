use claviger_policy::Source;

use super::*;
use crate::audit::read;
use crate::ca::rotation::Rotation;
use crate::config::Config;
use crate::policy::Record;
use crate::policy::known::Nobody;
use crate::standings::Standings;
use crate::storage::fixture::{Life, NOW, TestClock};
use crate::store::memory::MemoryStore;

struct World {
    dir: tempfile::TempDir,
    clock: Arc<TestClock>,
    life: Life,
    policies: Policies,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (clock, store) = (TestClock::at(NOW), Arc::new(MemoryStore::default()));
        let life = Life::over(store, dir.path(), &clock).await.unwrap();
        let domain = "example.org".parse().unwrap();
        let shown: Arc<dyn Clock> = Arc::<TestClock>::clone(&clock);
        let (known, standings) = (Arc::new(Nobody), Standings::default());
        let record = Record::default();
        let policies = Policies::new(set("one"), domain, known, standings, shown, record);
        Self { dir, clock, life, policies }
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::<TestClock>::clone(&self.clock)
    }

    async fn authority(&self) -> (Rotation, Authority) {
        let config = Config::new("example.org".parse().unwrap(), self.dir.path().into());
        let (keys, journal) = (self.life.storage.directory.keys(), self.journal());
        Rotation::open(keys, &config, journal, self.clock()).await.unwrap()
    }

    fn journal(&self) -> Journal {
        self.life.storage.journal.clone()
    }

    async fn announcer(&self, authority: &Authority) -> Result<Announcer, AnnounceError> {
        let (authority, journal) = (authority.clone(), self.journal());
        Announcer::open(&self.policies, authority, journal, self.clock(), PolicyTtl::HOUR).await
    }

    /// The numbers that the audit log has.
    async fn recorded(&self) -> Vec<u64> {
        let records = read(&**self.journal().store(), 1, 1_000).await.unwrap();
        let events = records.iter().map(|record| serde_json::from_slice(&record.body).unwrap());
        let version = |body: claviger_core::audit::Body| {
            if let Event::PoliciesSigned { version, .. } = body.event {
                Some(version)
            } else {
                None
            }
        };
        events.filter_map(version).collect()
    }
}

fn set(name: &str) -> PolicySet {
    PolicySet::compile(Source::new(vec![(format!("{name}.cedar"), String::new())])).unwrap()
}

#[tokio::test]
async fn what_is_announced_is_what_is_in_force_and_on_record() {
    let world = World::new().await;
    let (_rotation, authority) = world.authority().await;
    let announcer = world.announcer(&authority).await.unwrap();
    let announced = announcer.announcements().borrow().clone();
    assert_eq!(announced.bytes, set("one").source().to_bytes());
    assert_eq!(announced.says.sha256, sha256(&announced.bytes));
    assert_eq!(announced.says.policy, set("one").digest());
    assert_eq!(announced.says.issued_at, UnixTime::from_secs(NOW));
    assert_eq!(announced.says.expires_at, UnixTime::from_secs(NOW + 3_600));
    assert_eq!(world.recorded().await, [announced.says.version]);
}

#[tokio::test]
async fn numbers_rise_across_restarts_and_with_the_clock_set_back() {
    let world = World::new().await;
    let (_rotation, authority) = world.authority().await;
    let mut numbers = Vec::new();
    for now in [NOW, NOW, NOW - 1_000, NOW + 1_000] {
        world.clock.set(now);
        let announcer = world.announcer(&authority).await.unwrap();
        numbers.push(announcer.announcements().borrow().says.version);
    }
    assert_eq!(numbers, [NOW, NOW + 1, NOW + 2, NOW + 1_000]);
    assert_eq!(world.recorded().await, numbers);
}

#[tokio::test(start_paused = true)]
async fn a_change_is_announced_at_once_and_everything_again_at_half_life() {
    let world = World::new().await;
    let (_rotation, authority) = world.authority().await;
    let announcer = world.announcer(&authority).await.unwrap();
    let mut announcements = announcer.announcements();
    world.life.tasks.spawn("announcer", |stop| announcer.run(stop));
    world.policies.0.current.send_replace(Arc::new(set("two")));
    announcements.changed().await.unwrap();
    let changed = announcements.borrow_and_update().clone();
    assert_eq!((changed.says.policy, changed.says.version), (set("two").digest(), NOW + 1));
    world.clock.advance(1_799);
    tokio::time::sleep(LONGEST_SLEEP * 2).await;
    assert!(!announcements.has_changed().unwrap());
    world.clock.advance(1);
    announcements.changed().await.unwrap();
    let renewed = announcements.borrow_and_update().clone();
    assert_eq!(renewed.bytes, changed.bytes);
    assert_eq!(renewed.says.expires_at, UnixTime::from_secs(NOW + 1_800 + 3_600));
    // A clock that is set back far would leave agents with what is still to come.
    world.clock.set(NOW);
    announcements.changed().await.unwrap();
    let earlier = announcements.borrow_and_update().clone();
    assert_eq!(earlier.says.issued_at, UnixTime::from_secs(NOW));
    assert!(renewed.says.version < earlier.says.version);
}

#[tokio::test(start_paused = true)]
async fn agents_can_check_every_announcement_for_as_long_as_it_lasts() {
    let world = World::new().await;
    let (rotation, authority) = world.authority().await;
    let announcer = world.announcer(&authority).await.unwrap();
    let (mut announcements, mut bundle) = (announcer.announcements(), authority.bundle());
    world.life.tasks.spawn("announcer", |stop| announcer.run(stop));
    world.life.tasks.spawn("authorities", |stop| rotation.run(stop));
    let first = authority.bundle().borrow().jwt_authorities[0].key_id.clone();
    let mut signers = std::collections::BTreeSet::new();
    // Two days: two authorities come and go.
    for _ in 0..96 {
        world.clock.advance(1_800);
        announcements.changed().await.unwrap();
        let announced = announcements.borrow_and_update().clone();
        let bundle = Arc::clone(&bundle.borrow_and_update());
        let keys = &bundle.jwt_authorities;
        Announcement::verify(&announced.token, &bundle.trust_domain, keys).unwrap();
        let signer = keys.iter().find(|key| {
            let alone = [(*key).clone()];
            Announcement::verify(&announced.token, &bundle.trust_domain, &alone).is_ok()
        });
        assert!(Some(announced.says.expires_at) <= signer.unwrap().expires_at);
        signers.insert(signer.unwrap().key_id.clone());
    }
    assert!(signers.contains(&first) && 2 < signers.len(), "{signers:?}");
}

#[tokio::test]
async fn nothing_is_signed_that_cannot_be_written_down() {
    let world = World::new().await;
    let (_rotation, authority) = world.authority().await;
    let mut announcer = world.announcer(&authority).await.unwrap();
    let before = announcer.announcements().borrow().clone();
    world.life.tasks.stop();
    world.life.tasks.drained(Duration::from_secs(30)).await;
    let error = announcer.announce().await.unwrap_err();
    assert!(matches!(error, AnnounceError::Commit(CommitError::Stopped)), "{error}");
    assert_eq!(*announcer.announcements().borrow(), before);
}

#[tokio::test]
async fn a_damaged_number_stops_the_start() {
    let world = World::new().await;
    let (_rotation, authority) = world.authority().await;
    let writes = vec![Write::put(Space::Meta, meta::POLICIES, b"seven".to_vec())];
    world.journal().commit(Change { writes, ..Change::default() }).await.unwrap();
    let error = world.announcer(&authority).await.unwrap_err();
    assert!(matches!(error, AnnounceError::Damaged), "{error}");
}
