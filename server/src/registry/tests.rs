mod explain;
mod federation;

use claviger_core::evidence::{Appraisal, Bond, KeyDigest};
use claviger_core::selector::Selectors;

use super::agents::{Agent, AgentSvid};
use super::fixture::{domain, entry, id};
use super::subscribers::Update;
use super::*;
use crate::storage::fixture::{Life, NOW, TestClock};
use crate::store::Write;
use crate::store::memory::{Fault, MemoryStore};

struct World {
    registry: Registry,
    clock: Arc<TestClock>,
    store: Arc<MemoryStore>,
    life: Life,
    _dir: tempfile::TempDir,
}

async fn world() -> World {
    world_with(Limits::default()).await
}

async fn world_with(limits: Limits) -> World {
    let dir = tempfile::tempdir().unwrap();
    let (clock, store) = (TestClock::at(NOW), Arc::new(MemoryStore::default()));
    let shared = Arc::<MemoryStore>::clone(&store);
    let life = Life::over(shared, dir.path(), &clock).await.unwrap();
    let registry = open(&life, &clock, limits).await;
    World { registry, clock, store, life, _dir: dir }
}

async fn open(life: &Life, clock: &Arc<TestClock>, limits: Limits) -> Registry {
    let clock: Arc<dyn Clock> = Arc::<TestClock>::clone(clock);
    Registry::open(domain(), limits, life.storage.journal.clone(), clock, &life.tasks)
        .await
        .unwrap()
}

const A: &str = "/spire/agent/a";
const B: &str = "/spire/agent/b";

fn svid(number: u8) -> AgentSvid {
    AgentSvid {
        serial: [number; 16],
        key: KeyDigest::of_spki(&[number]),
        not_after: UnixTime::from_secs(NOW + 3_600),
    }
}

fn agent(path: &str, facts: &[&str]) -> Agent {
    Agent {
        id: id(path),
        kind: "join_token".to_owned(),
        selectors: facts.iter().map(|fact| fact.parse().unwrap()).collect::<Selectors>(),
        reattestable: false,
        banned: false,
        svid: svid(1),
        next: None,
        appraised: None,
    }
}

fn appraisal() -> Appraisal {
    Appraisal::new("join_token", Bond::Bearer)
}

fn operator() -> Requester {
    Requester::Operator { uid: 0 }
}

impl World {
    async fn admit(&self, path: &str, facts: &[&str]) {
        self.registry.admit(agent(path, facts), appraisal(), 0).await.unwrap();
    }

    async fn create(&self, entries: Vec<Entry>) {
        for outcome in self.registry.create(entries, &operator()).await.unwrap() {
            outcome.unwrap();
        }
    }

    async fn delete(&self, id: &str) {
        let deleted = self.registry.delete(vec![id.parse().unwrap()], &operator()).await.unwrap();
        deleted.into_iter().for_each(|outcome| outcome.unwrap());
    }

    fn subscribe(&self, path: &str, cursor: Option<u64>) -> Subscription {
        self.registry.subscribe(&id(path), cursor).unwrap()
    }

    fn served(&self, path: &str) -> Vec<String> {
        let mut ids: Vec<_> =
            self.registry.authorized(&id(path)).iter().map(|e| e.to_wire().id).collect();
        ids.sort();
        ids
    }
}

/// `+id` for what came or changed, `-id` for what went; `=` in front of a snapshot.
fn told(update: &Update) -> String {
    let mut text = if update.snapshot { "=".to_owned() } else { String::new() };
    for (id, entry) in &update.entries {
        text.push(if entry.is_some() { '+' } else { '-' });
        text.push_str(id.as_str());
    }
    text
}

async fn next(subscription: &mut Subscription) -> String {
    told(&subscription.next().await.unwrap())
}

/// What waits for the agent right now.
async fn pending(subscription: &mut Subscription) -> Option<String> {
    tokio::select! {
        biased;
        update = subscription.next() => update.as_ref().map(told),
        () = tokio::task::yield_now() => None,
    }
}

#[tokio::test]
async fn a_change_reaches_the_agents_concerned_and_nobody_else() {
    let world = world().await;
    world.admit(A, &[]).await;
    world.admit(B, &[]).await;
    let (mut a, mut b) = (world.subscribe(A, None), world.subscribe(B, None));
    assert_eq!((next(&mut a).await.as_str(), next(&mut b).await.as_str()), ("=", "="));

    let one = entry("one", A, "/web", "unix:uid:1");
    let two = entry("two", A, "/db", "unix:uid:2");
    world.create(vec![one.clone(), two]).await;
    assert_eq!(next(&mut a).await, "+one+two", "one write, one update");
    assert_eq!(pending(&mut b).await, None);

    let mask = types::EntryMask { parent_id: true, ..types::EntryMask::default() };
    let moved = types::Entry { parent_id: Some((&id(B)).into()), ..(&one).into() };
    world.registry.update(vec![moved], Some(mask), &operator()).await.unwrap().remove(0).unwrap();
    assert_eq!((next(&mut a).await.as_str(), next(&mut b).await.as_str()), ("-one", "+one"));

    world.delete("one").await;
    world.delete("two").await;
    assert_eq!((next(&mut a).await.as_str(), next(&mut b).await.as_str()), ("-two", "-one"));
    assert_eq!(pending(&mut a).await, None);
}

#[tokio::test]
async fn updates_that_wait_are_told_at_once() {
    let world = world().await;
    world.admit(A, &[]).await;
    let mut a = world.subscribe(A, None);
    next(&mut a).await;
    world.create(vec![entry("one", A, "/web", "unix:uid:1")]).await;
    world.create(vec![entry("two", A, "/db", "unix:uid:2")]).await;
    world.delete("one").await;
    let update = a.next().await.unwrap();
    assert_eq!(told(&update), "-one+two");
    assert_eq!(pending(&mut a).await, None);
}

#[tokio::test]
async fn a_node_alias_moves_everything_below_it() {
    let world = world().await;
    world.admit(A, &["tpm:pool:x"]).await;
    world.admit(B, &["tpm:pool:y"]).await;
    world.create(vec![entry("db", "/pool", "/db", "unix:uid:1")]).await;
    let (mut a, mut b) = (world.subscribe(A, None), world.subscribe(B, None));
    assert_eq!((next(&mut a).await.as_str(), next(&mut b).await.as_str()), ("=", "="));

    world.create(vec![entry("alias", "/spire/server", "/pool", "tpm:pool:x")]).await;
    assert_eq!(next(&mut a).await, "=+db");
    assert_eq!(world.served(A), ["db"]);
    world.create(vec![entry("web", "/pool", "/web", "unix:uid:2")]).await;
    assert_eq!(next(&mut a).await, "+web");
    world.delete("alias").await;
    assert_eq!(next(&mut a).await, "=");
    assert_eq!(world.served(A), [""; 0]);
    assert_eq!(pending(&mut b).await, None);
}

#[tokio::test]
async fn changes_that_a_snapshot_covers_are_not_told_again() {
    let world = world().await;
    world.admit(A, &["tpm:pool:x"]).await;
    let mut a = world.subscribe(A, None);
    next(&mut a).await;
    world.create(vec![entry("alias", "/spire/server", "/pool", "tpm:pool:x")]).await;
    let snapshot = {
        // Taken when the agent reads it, not when it was announced.
        world.create(vec![entry("db", "/pool", "/db", "unix:uid:1")]).await;
        a.next().await.unwrap()
    };
    assert_eq!(told(&snapshot), "=+db");
    assert_eq!(pending(&mut a).await, None);
}

#[tokio::test]
async fn an_agent_that_was_away_is_told_what_it_missed() {
    let world = world().await;
    world.admit(A, &[]).await;
    world.create(vec![entry("one", A, "/web", "unix:uid:1")]).await;
    let first = world.subscribe(A, None).next().await.unwrap();
    assert_eq!(told(&first), "=+one");

    world.create(vec![entry("two", A, "/db", "unix:uid:2")]).await;
    world.create(vec![entry("others", B, "/db", "unix:uid:2")]).await;
    world.delete("one").await;
    assert_eq!(next(&mut world.subscribe(A, Some(first.sequence))).await, "-one+two");
    let newest = world.subscribe(A, Some(first.sequence)).next().await.unwrap().sequence;
    assert_eq!(next(&mut world.subscribe(A, Some(newest))).await, "", "nothing was missed");
    assert_eq!(next(&mut world.subscribe(A, Some(newest + 1))).await, "=+two", "from the future");

    world.create(vec![entry("alias", "/spire/server", "/pool", "tpm:pool:x")]).await;
    assert_eq!(next(&mut world.subscribe(A, Some(newest))).await, "=+two", "an alias changed");
}

#[tokio::test]
async fn the_log_goes_on_after_a_restart() {
    let world = world().await;
    world.admit(A, &["tpm:pool:x"]).await;
    world.create(vec![entry("one", A, "/web", "unix:uid:1")]).await;
    let cursor = world.subscribe(A, None).next().await.unwrap().sequence;

    let again = open(&world.life, &world.clock, Limits::default()).await;
    assert_eq!(again.log_id(), world.registry.log_id());
    assert_eq!((again.entry_count(), again.agent_count()), (1, 1));
    assert_eq!(again.agent(&id(A)), world.registry.agent(&id(A)));
    let next = |cursor| again.subscribe(&id(A), Some(cursor)).unwrap();
    assert_eq!(told(&next(cursor).next().await.unwrap()), "", "it knows everything");
    assert_eq!(told(&next(cursor - 1).next().await.unwrap()), "=+one", "it does not");
}

#[tokio::test]
async fn a_slow_agent_is_let_go_and_resumes() {
    let world = world().await;
    world.admit(A, &[]).await;
    let mut a = world.subscribe(A, None);
    let cursor = a.next().await.unwrap().sequence;
    for number in 0..=65 {
        let uid = format!("unix:uid:{number}");
        world.create(vec![entry(&format!("e{number:02}"), A, "/web", &uid)]).await;
    }
    assert!(a.next().await.is_some(), "what was queued is still told");
    assert_eq!(a.next().await, None);
    let resumed = world.subscribe(A, Some(cursor)).next().await.unwrap();
    assert_eq!((resumed.snapshot, resumed.entries.len()), (false, 66));
}

#[tokio::test]
async fn the_operator_learns_when_agents_have_applied_a_change() {
    let world = world().await;
    world.admit(A, &[]).await;
    let mut a = world.subscribe(A, None);
    next(&mut a).await;
    world.create(vec![entry("one", A, "/web", "unix:uid:1")]).await;
    let ids = ["one".parse().unwrap()];
    let mut waiting = world.registry.waiting(&ids);
    assert_eq!(waiting[0].agent, id(A));

    let update = a.next().await.unwrap();
    a.ack(update.sequence - 1);
    tokio::select! {
        biased;
        reached = waiting[0].reached() => panic!("{reached}"),
        () = tokio::task::yield_now() => {}
    }
    a.ack(update.sequence);
    assert!(waiting[0].reached().await);

    world.delete("one").await;
    let mut waiting = world.registry.waiting(&ids);
    assert_eq!(waiting.len(), 1, "who had the entry that is gone");
    drop(a);
    assert!(!waiting[0].reached().await, "the agent left");
    assert!(world.registry.waiting(&ids).is_empty());
}

#[tokio::test]
async fn an_agent_cannot_acknowledge_what_it_was_not_told() {
    let world = world().await;
    world.admit(A, &[]).await;
    let mut a = world.subscribe(A, None);
    next(&mut a).await;
    world.create(vec![entry("one", A, "/web", "unix:uid:1")]).await;
    a.ack(u64::MAX);
    let mut waiting = world.registry.waiting(&["one".parse().unwrap()]);
    tokio::select! {
        biased;
        reached = waiting[0].reached() => panic!("{reached}"),
        () = tokio::task::yield_now() => {}
    }
}

#[tokio::test]
async fn whoever_is_thrown_out_hears_nothing_more() {
    let world = world().await;
    world.create(vec![entry("one", A, "/web", "unix:uid:1")]).await;
    world.admit(A, &[]).await;
    let mut a = world.subscribe(A, None);
    next(&mut a).await;
    world.registry.ban(&id(A), operator()).await.unwrap();
    assert_eq!(a.next().await, None);
    assert_eq!(world.served(A), [""; 0]);
    assert!(!world.registry.is_entitled(&id(A), &id("/web")));
    assert_eq!(world.registry.subscribe(&id(A), None).unwrap_err(), NotAnAgent::Banned);
    let again = world.registry.admit(agent(A, &[]), appraisal(), 0).await.unwrap_err();
    assert!(matches!(again, AdmitError::Banned), "{again}");

    world.registry.evict(&id(A), operator()).await.unwrap();
    assert_eq!(world.registry.subscribe(&id(A), None).unwrap_err(), NotAnAgent::Unknown);
    world.admit(A, &[]).await;
    assert_eq!(world.served(A), ["one"]);
}

/// Evidence such as an instance's document is the same for whoever gets hold of it.
#[tokio::test]
async fn evidence_that_is_believed_once_belongs_to_its_first_key() {
    let world = world().await;
    world.admit(A, &[]).await;
    let thief = Agent { svid: svid(2), ..agent(A, &[]) };
    let refused = world.registry.admit(thief.clone(), appraisal(), 0).await.unwrap_err();
    assert!(matches!(refused, AdmitError::Taken), "{refused}");
    // An answer that is lost on the way does not lock the node out.
    world.admit(A, &[]).await;
    world.registry.renew(&id(A), svid(2)).await.unwrap();
    world.registry.admit(thief, appraisal(), 0).await.unwrap();

    let mut again = Agent { reattestable: true, ..agent(B, &[]) };
    for number in [3, 4] {
        again.svid = svid(number);
        world.registry.admit(again.clone(), appraisal(), 0).await.unwrap();
    }
}

#[tokio::test]
async fn showing_the_same_again_renews() {
    let world = world().await;
    let shown = Agent { reattestable: true, ..agent(A, &["tpm:pool:x"]) };
    world.registry.admit(shown.clone(), appraisal(), 0).await.unwrap();
    let mut a = world.subscribe(A, None);
    next(&mut a).await;
    let again = Agent { svid: svid(2), ..shown.clone() };
    world.registry.admit(again, appraisal(), 0).await.unwrap();
    world.registry.authenticate(&id(A), &svid(1).serial).await.unwrap();
    world.registry.authenticate(&id(A), &svid(2).serial).await.unwrap();
    let old = world.registry.authenticate(&id(A), &svid(1).serial).await.unwrap_err();
    assert!(matches!(old, AuthenticateError::NotAnAgent(NotAnAgent::NotActive)), "{old}");
    assert!(futures_util::poll!(std::pin::pin!(a.next())).is_pending(), "the stream goes on");
    // Other facts are another agent, and nothing of the old one stays.
    let facts = agent(A, &["tpm:pool:y"]).selectors;
    let other = Agent { svid: svid(3), selectors: facts, ..shown };
    world.registry.admit(other, appraisal(), 0).await.unwrap();
    let old = world.registry.authenticate(&id(A), &svid(2).serial).await.unwrap_err();
    assert!(matches!(old, AuthenticateError::NotAnAgent(NotAnAgent::NotActive)), "{old}");
    assert_eq!(a.next().await, None);
}

#[tokio::test]
async fn attesting_anew_ends_the_old_stream_and_counts_new_facts() {
    let world = world().await;
    world.admit(A, &[]).await;
    let mut a = world.subscribe(A, None);
    let cursor = a.next().await.unwrap().sequence;
    world.admit(A, &[]).await;
    assert_eq!(a.next().await, None);
    assert_eq!(next(&mut world.subscribe(A, Some(cursor))).await, "", "the same facts");
    world.admit(A, &["tpm:pool:x"]).await;
    assert_eq!(next(&mut world.subscribe(A, Some(cursor))).await, "=", "other facts");
}

#[tokio::test]
async fn a_renewed_svid_replaces_the_old_one_when_it_is_used() {
    let world = world().await;
    world.admit(A, &[]).await;
    let shown = async |number: u8| {
        let shown = world.registry.authenticate(&id(A), &[number; 16]).await;
        shown.map(drop).map_err(|error| error.to_string())
    };
    world.registry.renew(&id(A), svid(2)).await.unwrap();
    assert_eq!(shown(1).await, Ok(()), "the new one may have been lost on the way");
    assert_eq!(shown(2).await, Ok(()));
    assert_eq!(shown(1).await, Err(NotAnAgent::NotActive.to_string()));
    assert_eq!(shown(3).await, Err(NotAnAgent::NotActive.to_string()));
    let again = open(&world.life, &world.clock, Limits::default()).await;
    assert_eq!(again.agent(&id(A)).unwrap().svid, svid(2));
}

#[tokio::test]
async fn what_cannot_be_written_does_not_happen() {
    let world = world().await;
    world.admit(A, &[]).await;
    let mut a = world.subscribe(A, None);
    next(&mut a).await;
    world.store.fail(Fault::Full);
    let one = entry("one", A, "/web", "unix:uid:1");
    world.registry.create(vec![one], &operator()).await.unwrap_err();
    world.registry.admit(agent(B, &[]), appraisal(), 0).await.unwrap_err();
    world.registry.ban(&id(A), operator()).await.unwrap_err();
    assert_eq!((world.registry.entry_count(), world.registry.agent_count()), (0, 1));
    assert_eq!(pending(&mut a).await, None);
    assert!(!world.registry.agent(&id(A)).unwrap().banned);
}

#[tokio::test]
async fn a_change_is_seen_through_though_its_author_leaves() {
    let world = world().await;
    let one = vec![entry("one", A, "/web", "unix:uid:1")];
    let requester = operator();
    let mut changed = world.registry.0.changed.subscribe();
    tokio::select! {
        biased;
        _ = world.registry.create(one, &requester) => panic!("it takes a while"),
        () = std::future::ready(()) => {}
    }
    changed.changed().await.unwrap();
    assert_eq!(world.registry.entry_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn ended_entries_are_removed_as_they_end() {
    let world = world().await;
    world.admit(A, &[]).await;
    let mut a = world.subscribe(A, None);
    next(&mut a).await;
    let end = Some(UnixTime::from_secs(NOW + 10));
    world
        .create(vec![
            Entry { expires_at: end, ..entry("short", A, "/web", "unix:uid:1") },
            entry("long", A, "/db", "unix:uid:2"),
        ])
        .await;
    assert_eq!(next(&mut a).await, "+long+short");
    world.clock.advance(10);
    assert_eq!(world.served(A), ["long"], "from the second on, removed or not");
    assert!(!world.registry.is_registered(&id("/web")));

    let registry = world.registry.clone();
    world.life.tasks.spawn("pruner", |stop| registry.prune(stop));
    assert_eq!(next(&mut a).await, "-short");
    assert_eq!(world.registry.entry_count(), 1);
}

#[tokio::test]
async fn there_is_a_limit_on_agents() {
    let world = world_with(Limits { agents: 1, ..Limits::default() }).await;
    world.admit(A, &[]).await;
    let error = world.registry.admit(agent(B, &[]), appraisal(), 0).await.unwrap_err();
    assert!(matches!(error, AdmitError::Full(1)), "{error}");
    world.admit(A, &[]).await;
}

#[tokio::test]
async fn a_damaged_record_is_named() {
    let world = world().await;
    let writes = vec![Write::put(Space::Entries, "bad", "{}")];
    let change = Commit { writes, ..Commit::default() };
    world.life.storage.journal.commit(change).await.unwrap();
    let clock: Arc<dyn Clock> = Arc::<TestClock>::clone(&world.clock);
    let journal = world.life.storage.journal.clone();
    let tasks = &world.life.tasks;
    let error =
        Registry::open(domain(), Limits::default(), journal, clock, tasks).await.unwrap_err();
    assert!(error.to_string().contains("entries/bad"), "{error}");
}
