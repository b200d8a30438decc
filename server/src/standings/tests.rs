//! Standings over a store.

use std::collections::HashMap;

use claviger_core::audit::{Body, Event};
use claviger_core::standing::Risk;
use claviger_core::time::UnixTime;
use proptest::prelude::*;

use super::*;
use crate::audit;
use crate::storage::fixture::{Life, NOW, TestClock};
use crate::store::Store as _;
use crate::store::memory::{Fault, MemoryStore};

const ME: Requester = Requester::Operator { uid: 0 };

struct World {
    store: Arc<MemoryStore>,
    clock: Arc<TestClock>,
    dir: tempfile::TempDir,
    life: Life,
}

async fn open(store: &Arc<MemoryStore>, dir: &tempfile::TempDir, clock: &Arc<TestClock>) -> Life {
    Life::over(Arc::<MemoryStore>::clone(store), dir.path(), clock).await.unwrap()
}

async fn world_over(store: MemoryStore) -> World {
    let (store, clock) = (Arc::new(store), TestClock::at(NOW));
    let dir = tempfile::tempdir().unwrap();
    let life = open(&store, &dir, &clock).await;
    World { store, clock, dir, life }
}

async fn world() -> World {
    world_over(MemoryStore::default()).await
}

fn id(name: &str) -> SpiffeId {
    format!("spiffe://example.org/{name}").parse().unwrap()
}

fn risk(percent: u8) -> Change {
    Change::Risk(Risk::try_from(percent).unwrap())
}

impl World {
    fn standings(&self) -> &Standings {
        &self.life.storage.standings
    }

    async fn change(&self, name: &str, change: Change) -> Result<Changed, StandingError> {
        let reason = "test".parse().unwrap();
        self.standings().change(&id(name), change, reason, ME).await
    }

    async fn restart(self) -> Self {
        let Self { store, clock, dir, life } = self;
        life.stop().await;
        let life = open(&store, &dir, &clock).await;
        Self { store, clock, dir, life }
    }

    /// What the audit log says of standings.
    async fn events(&self) -> Vec<Event> {
        let records = audit::read(&*self.store, 1, usize::MAX).await.unwrap();
        let body = |record: audit::AuditRecord| serde_json::from_slice::<Body>(&record.body);
        let events = records.into_iter().map(|record| body(record).unwrap().event);
        let ours = |event: &Event| {
            matches!(
                event,
                Event::Quarantined { .. }
                    | Event::QuarantineLifted { .. }
                    | Event::RiskChanged { .. }
            )
        };
        events.filter(ours).collect()
    }
}

#[tokio::test]
async fn what_was_said_is_numbered_recorded_and_outlives_a_restart() {
    let world = world().await;
    assert_eq!(world.standings().of(&id("web")), Standing::default());
    let mut version = world.standings().version();
    let Changed::Now(first) = world.change("web", Change::Quarantine).await.unwrap() else {
        panic!("it was in none")
    };
    assert_eq!((first.standing.version, first.voided, *version.borrow_and_update()), (1, 1, 1));
    world.change("db", risk(40)).await.unwrap();
    world.change("web", risk(90)).await.unwrap();
    let web = world.standings().record(&id("web")).unwrap();
    assert!(web.standing.quarantined, "a risk says nothing of a quarantine");
    assert_eq!((web.standing.risk.percent(), web.standing.version, web.voided), (90, 3, 1));

    let before = world.standings().all();
    let names: Vec<_> = before.iter().map(|record| record.id.path()).collect();
    assert_eq!(names, ["/db", "/web"], "in the order of the changes");
    let world = world.restart().await;
    assert_eq!(world.standings().all(), before);
    assert_eq!(world.standings().number(), 3);
    assert_eq!(world.standings().since(2).0.len(), 1);
    let lifted = world.change("web", Change::Lift).await.unwrap();
    let lifted = lifted.record().unwrap();
    assert_eq!((lifted.standing.version, lifted.voided), (4, 4));
    assert!(world.standings().is_void(&id("web"), 3) && !world.standings().is_void(&id("web"), 4));
    assert!(!world.standings().is_void(&id("db"), 0), "a risk voids nothing");

    let log = serde_json::to_value(world.events().await).unwrap();
    let told: Vec<_> = log
        .as_array()
        .unwrap()
        .iter()
        .map(|event| (event["event"].as_str().unwrap(), event["version"].as_u64().unwrap()))
        .collect();
    let want =
        [("quarantined", 1), ("risk_changed", 2), ("risk_changed", 3), ("quarantine_lifted", 4)];
    assert_eq!(told, want);
    assert_eq!(
        (&log[2]["from"], &log[2]["to"], &log[2]["reason"]),
        (&0.into(), &90.into(), &"test".into())
    );
}

#[tokio::test]
async fn what_changes_nothing_is_no_change_and_what_contradicts_is_refused() {
    let world = world().await;
    let refused = world.change("web", Change::Lift).await.unwrap_err();
    assert!(refused.to_string().contains("is not in quarantine"), "{refused}");
    assert!(matches!(world.change("web", risk(0)).await.unwrap(), Changed::Already(None)));
    world.change("web", Change::Quarantine).await.unwrap();
    let again = world.change("web", Change::Quarantine).await.unwrap();
    assert!(matches!(&again, Changed::Already(Some(record)) if record.standing.version == 1));
    world.change("web", Change::Lift).await.unwrap();
    world.change("web", Change::Lift).await.unwrap_err();
    let refused = world.change("spire/server", Change::Quarantine).await.unwrap_err();
    assert!(matches!(refused, StandingError::Oneself(_)), "{refused}");
    let elsewhere = "spiffe://other.org/x".parse().unwrap();
    let reason = "test".parse().unwrap();
    world.standings().change(&elsewhere, Change::Quarantine, reason, ME).await.unwrap();
    assert!(world.standings().of(&elsewhere).quarantined, "of other trust domains, too");
    assert_eq!((world.standings().number(), world.events().await.len()), (3, 3));
}

#[tokio::test]
async fn a_change_that_is_not_written_did_not_happen() {
    let world = world().await;
    world.store.fail(Fault::Full);
    let refused = world.change("web", Change::Quarantine).await.unwrap_err();
    assert!(matches!(refused, StandingError::Commit(CommitError::Store(_))), "{refused}");
    assert_eq!((world.standings().number(), world.standings().all().len()), (0, 0));
    world.store.fail(Fault::None);
    world.change("web", Change::Quarantine).await.unwrap();
    assert_eq!(world.standings().of(&id("web")).version, 1);
}

#[tokio::test]
async fn time_does_not_run_backwards() {
    let world = world().await;
    let at = |world: &World, name| world.standings().of(&id(name)).changed_at.as_secs();
    world.clock.set(NOW + 50);
    world.change("a", risk(1)).await.unwrap();
    world.clock.set(NOW - 5_000);
    world.change("b", risk(1)).await.unwrap();
    assert_eq!((at(&world, "a"), at(&world, "b")), (NOW + 50, NOW + 50));
    world.clock.set(NOW + 900_000);
    world.change("a", risk(2)).await.unwrap();
    let world = world.restart().await;
    world.clock.set(NOW);
    world.change("b", risk(2)).await.unwrap();
    assert_eq!((at(&world, "a"), at(&world, "b")), (NOW + 900_000, NOW + 900_000));
}

/// Whatever order they come in, the log has one, and its last word counts.
#[expect(clippy::wildcard_enum_match_arm, reason = "nothing else is on record")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_contradictory_commands_at_once_the_last_that_is_written_counts() {
    let world = Arc::new(world().await);
    let mut commands = tokio::task::JoinSet::new();
    for n in 0..60_u8 {
        let world = Arc::clone(&world);
        let change = match n % 3 {
            0 => Change::Quarantine,
            1 => Change::Lift,
            _ => risk(n),
        };
        commands.spawn(async move { world.change("web", change).await.is_ok() });
    }
    commands.join_all().await;
    let (mut quarantined, mut percent, mut last) = (false, 0, 0);
    for event in world.events().await {
        let version = match event {
            Event::Quarantined { version, .. } => {
                assert!(!std::mem::replace(&mut quarantined, true), "it was in it");
                version
            }
            Event::QuarantineLifted { version, .. } => {
                assert!(std::mem::replace(&mut quarantined, false), "it was in none");
                version
            }
            Event::RiskChanged { from, to, version, .. } => {
                assert_eq!(std::mem::replace(&mut percent, to.percent()), from.percent());
                version
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(version, last + 1, "without a gap");
        last = version;
    }
    let standing = world.standings().of(&id("web"));
    assert_eq!((standing.quarantined, standing.risk.percent()), (quarantined, percent));
    assert_eq!((standing.version, world.standings().number()), (last, last));
}

/// A store in which as much is said as may be.
async fn full(percent: u8) -> MemoryStore {
    let store = MemoryStore::default();
    let last = u64::try_from(MAX_STANDINGS).unwrap();
    let record = |version: u64| {
        let risk = Risk::try_from(percent).unwrap();
        let changed_at = UnixTime::from_secs(NOW - 3_000);
        let standing = Standing { risk, changed_at, version, ..Standing::default() };
        let reason = "test".parse().unwrap();
        let record =
            Record { id: id(&format!("n{version}")), standing, voided: 0, reason, requester: ME };
        Write::put(Space::Standings, record.id.to_string().into_bytes(), json(&record))
    };
    let mut writes: Vec<_> = (1..=last).map(record).collect();
    writes.push(Write::put(Space::Meta, meta::STANDINGS, json(&last)));
    store.write(writes).await.unwrap();
    store
}

#[tokio::test]
async fn there_are_only_so_many_and_those_of_which_there_is_nothing_to_say_make_room() {
    let world = world_over(full(1).await).await;
    let refused = world.change("new", risk(1)).await.unwrap_err();
    assert!(matches!(refused, StandingError::Full), "{refused}");
    world.change("n7", Change::Quarantine).await.unwrap();
    world.change("n8", risk(0)).await.unwrap();
    let refused = world.change("new", Change::Quarantine).await.unwrap_err();
    assert!(matches!(refused, StandingError::Full), "n8 is remembered for an hour: {refused}");
    assert!(matches!(world.change("new", risk(0)).await.unwrap(), Changed::Already(None)));

    let calm = world_over(full(0).await).await;
    calm.change("new", Change::Quarantine).await.unwrap_err();
    calm.clock.advance(700);
    calm.change("new", Change::Quarantine).await.unwrap();
    assert!(calm.standings().record(&id("n1")).is_none());
    assert!(calm.standings().all().len() < MAX_STANDINGS);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Change(u8, Change),
    Restart,
    Clock(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let change =
        prop_oneof![Just(Change::Quarantine), Just(Change::Lift), (0..=100_u8).prop_map(risk),];
    prop_oneof![
        8 => (0..3_u8, change).prop_map(|(name, change)| Step::Change(name, change)),
        1 => Just(Step::Restart),
        1 => (NOW - 10_000..NOW + 10_000).prop_map(Step::Clock),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_ends_in_what_was_accepted_last(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = world().await;
            let mut model: HashMap<u8, (bool, u8)> = HashMap::new();
            let (mut number, mut time) = (0, UnixTime::default());
            for step in steps {
                let (name, change) = match step {
                    Step::Change(name, change) => (name, change),
                    Step::Restart => {
                        world = world.restart().await;
                        continue;
                    }
                    Step::Clock(seconds) => {
                        world.clock.set(seconds);
                        continue;
                    }
                };
                let changed = world.change(&format!("n{name}"), change).await;
                let stands = model.entry(name).or_default();
                let after = match change {
                    Change::Quarantine => (true, stands.1),
                    Change::Lift => (false, stands.1),
                    Change::Risk(risk) => (stands.0, risk.percent()),
                };
                if after == *stands {
                    assert!(matches!(changed, Ok(Changed::Already(_)) | Err(StandingError::NotQuarantined(_))));
                    continue;
                }
                *stands = after;
                number += 1;
                let changed = changed.unwrap();
                let standing = changed.record().unwrap().standing;
                assert_eq!(standing.version, number);
                assert!(time <= standing.changed_at);
                time = standing.changed_at;
            }
            for (name, stands) in model {
                let standing = world.standings().of(&id(&format!("n{name}")));
                assert_eq!((standing.quarantined, standing.risk.percent()), stands);
            }
            world.life.stop().await;
        });
    }
}
