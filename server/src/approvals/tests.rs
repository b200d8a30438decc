use std::path::Path;

use claviger_core::decision::{Action, Context, Parameter, Party, Resource};

use super::*;
use crate::epoch::Doubt;
use crate::storage::fixture::{Life, NOW, TestClock};

fn trade(amount: i64, now: u64) -> Question {
    Question {
        principal: Party::new("spiffe://example.org/bot".parse().unwrap()),
        action: Action::Call("execute_trade".parse().unwrap()),
        resource: Resource::Tool("execute_trade".parse().unwrap()),
        context: Context {
            time: UnixTime::from_secs(now),
            parameters: [("amount".to_owned(), Parameter::Number(amount))].into(),
            ..Context::default()
        },
    }
}

struct World {
    life: Life,
    clock: Arc<TestClock>,
    approvals: Approvals,
}

impl World {
    async fn open(dir: &Path, clock: &Arc<TestClock>) -> Self {
        let life = Life::embedded(dir, clock).await.unwrap();
        let approvals = Approvals::default();
        approvals.load(&life.storage.journal, &life.storage.epochs).await.unwrap();
        Self { life, clock: Arc::clone(clock), approvals }
    }

    async fn say(&self, id: ApprovalId, answer: Answer) -> Result<Listed, AnswerError> {
        let storage = &self.life.storage;
        let by = Requester::Operator { uid: 7 };
        self.approvals.answer((&storage.journal, &storage.epochs), id, answer, by).await
    }

    /// Uses an approval in a change of its own.
    async fn use_up(&self, given: &Given) -> Result<(), CommitError> {
        self.life.storage.journal.commit(given.use_up()).await.map(drop)
    }

    fn now(&self) -> u64 {
        claviger_core::time::Clock::now(&*self.clock).as_secs()
    }
}

fn waits_for(asked: Result<Given, Why>) -> ApprovalId {
    match asked {
        Err(Why::Approval(id)) => id,
        other => panic!("{other:?}"),
    }
}

const YES: Answer = Answer::Yes(TTL);

#[tokio::test]
async fn what_was_approved_of_is_done_once() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(NOW));
    let world = World::open(dir.path(), &clock).await;
    let id = waits_for(world.approvals.find(&trade(5, NOW)));
    assert_eq!(world.approvals.list(UnixTime::from_secs(NOW))[0].state, State::Waiting);
    let approved = world.say(id, YES).await.unwrap();
    assert_eq!((approved.id, approved.state), (id, State::Approved));
    assert_eq!(approved.until.as_secs(), NOW + 300);

    waits_for(world.approvals.find(&trade(6, NOW)));
    let given = world.approvals.find(&trade(5, NOW + 1)).unwrap();
    world.use_up(&given).await.unwrap();
    let again = world.use_up(&given).await.unwrap_err();
    assert!(matches!(again, CommitError::Conflict { unmet: 1 }), "{again}");
    world.approvals.forget(&given);
    assert_eq!(waits_for(world.approvals.find(&trade(5, NOW + 1))), id);
}

#[tokio::test]
async fn of_fifty_who_use_one_approval_at_once_one_does() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(NOW));
    let world = World::open(dir.path(), &clock).await;
    let id = waits_for(world.approvals.find(&trade(5, NOW)));
    world.say(id, YES).await.unwrap();
    let uses = (0..50).map(|_| async {
        let given = world.approvals.find(&trade(5, NOW)).unwrap();
        world.use_up(&given).await
    });
    let used = futures_util::future::join_all(uses).await;
    assert_eq!(used.into_iter().filter(Result::is_ok).count(), 1);
}

#[tokio::test]
async fn an_approval_survives_a_restart_unless_it_was_used_or_its_epoch_is_over() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(NOW));
    let world = World::open(dir.path(), &clock).await;
    for amount in [1, 2] {
        let id = waits_for(world.approvals.find(&trade(amount, NOW)));
        world.say(id, YES).await.unwrap();
    }
    let used = world.approvals.find(&trade(1, NOW)).unwrap();
    world.use_up(&used).await.unwrap();
    world.life.stop().await;

    let world = World::open(dir.path(), &clock).await;
    waits_for(world.approvals.find(&trade(1, NOW)));
    let kept = world.approvals.find(&trade(2, NOW)).unwrap();
    let epochs = &world.life.storage.epochs;
    epochs.fence(epochs.current().number, &Doubt::NoWitness).await.unwrap();
    let over = world.use_up(&kept).await.unwrap_err();
    assert!(matches!(over, CommitError::Conflict { unmet: 0 }), "{over}");
    world.life.stop().await;

    let world = World::open(dir.path(), &clock).await;
    waits_for(world.approvals.find(&trade(2, NOW)));
}

#[tokio::test]
async fn an_approval_ends_and_a_clock_that_is_set_back_does_not_revive_it() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(NOW));
    let world = World::open(dir.path(), &clock).await;
    let id = waits_for(world.approvals.find(&trade(5, NOW)));
    world.say(id, Answer::Yes(Duration::from_secs(10))).await.unwrap();
    world.approvals.find(&trade(5, NOW + 10)).unwrap();
    assert_eq!(waits_for(world.approvals.find(&trade(5, NOW + 11))), id);
    assert_eq!(waits_for(world.approvals.find(&trade(5, NOW))), id);
    // What has ended leaves the store with the next answer.
    clock.advance(11);
    assert_eq!(world.now(), NOW + 11);
    world.say(id, Answer::No).await.unwrap();
    let store = world.life.storage.journal.store();
    assert_eq!(store.get(Space::Approvals, id.as_bytes()).await.unwrap(), None);
}

#[tokio::test]
async fn a_refusal_is_told_at_once_and_takes_an_approval_back() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(NOW));
    let world = World::open(dir.path(), &clock).await;
    let id = waits_for(world.approvals.find(&trade(5, NOW)));
    world.say(id, YES).await.unwrap();
    let given = world.approvals.find(&trade(5, NOW)).unwrap();
    assert_eq!(world.say(id, Answer::No).await.unwrap().state, State::Refused);
    assert_eq!(world.approvals.find(&trade(5, NOW)), Err(Why::Refused(id)));
    world.use_up(&given).await.unwrap_err();
    // After an hour they may ask again; and a human may change their mind before.
    assert_eq!(world.say(id, YES).await.unwrap().state, State::Approved);
    world.say(id, Answer::No).await.unwrap();
    waits_for(world.approvals.find(&trade(5, NOW + 3_601)));
}

#[tokio::test]
async fn what_nobody_asked_for_lately_cannot_be_approved_of() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(NOW));
    let world = World::open(dir.path(), &clock).await;
    let unknown = ApprovalId::of(&trade(5, NOW));
    assert!(matches!(world.say(unknown, YES).await, Err(AnswerError::Unknown)));
    waits_for(world.approvals.find(&trade(5, NOW)));
    for ttl in [Duration::ZERO, MAX_TTL + Duration::from_secs(1)] {
        assert!(matches!(world.say(unknown, Answer::Yes(ttl)).await, Err(AnswerError::Ttl)));
    }
    clock.advance(3_601);
    assert!(matches!(world.say(unknown, YES).await, Err(AnswerError::Unknown)));
}

#[test]
fn there_is_a_bound_on_what_waits_and_nobody_pushes_out_the_others() {
    let approvals = Approvals::default();
    let mut other = trade(5, NOW);
    other.principal.id = "spiffe://example.org/other".parse().unwrap();
    let others = waits_for(approvals.find(&other));
    for amount in 0..2_000 {
        waits_for(approvals.find(&trade(amount, NOW)));
    }
    let listed = approvals.list(UnixTime::from_secs(NOW));
    assert_eq!((listed.len(), listed[0].id), (101, others));
    for n in 0..2_000 {
        other.principal.id = format!("spiffe://example.org/{n}").parse().unwrap();
        waits_for(approvals.find(&other));
    }
    let listed = approvals.list(UnixTime::from_secs(NOW));
    assert_eq!(listed.len(), 1_000);
    assert!(listed.iter().all(|one| one.id != others), "those asked first go");
}
