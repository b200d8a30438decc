//! One world: lives of servers, and what everybody was told in them.

use std::cell::RefCell;
use std::fmt;
use std::path::PathBuf;

use claviger_core::psk::SeriesEpoch;
use claviger_runtime::tasks::Drain;
use futures_util::future::join_all;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

use super::super::*;
use super::client;
use super::store::Flaky;
use crate::audit::check::check_all;
use crate::ledger::model::key::{Key, State};
use crate::storage::Storage;
use crate::storage::fixture::dice::Dice;

pub(super) const CLIENTS: u64 = 4;
/// How many lives a world has.
const LIVES: usize = 3;

/// A key, and what is known of it.
pub(super) struct Held {
    /// At which server.
    pub(super) at: usize,
    pub(super) minted: Minted,
    pub(super) binding: PskBinding,
    pub(super) epoch: u64,
    pub(super) model: Key,
    /// The attempt that has it.
    pub(super) winner: Option<u8>,
    /// Whether it was told of some attempt that it is a replay.
    pub(super) replayed: bool,
}

/// What several worlds came to.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) crashes: usize,
    pub(super) stops: usize,
    pub(super) backups: usize,
    pub(super) fences: usize,
    pub(super) succeeded: usize,
    pub(super) refused: usize,
    pub(super) unanswered: usize,
    pub(super) cuts: usize,
    /// Keys that were redeemed at another server than the one that minted them.
    pub(super) elsewhere: usize,
}

impl Counts {
    pub(super) const fn add(&mut self, other: &Self) {
        let Self {
            crashes,
            stops,
            backups,
            fences,
            succeeded,
            refused,
            unanswered,
            cuts,
            elsewhere,
        } = other;
        self.crashes += *crashes;
        self.stops += *stops;
        self.backups += *backups;
        self.fences += *fences;
        self.succeeded += *succeeded;
        self.refused += *refused;
        self.unanswered += *unanswered;
        self.cuts += *cuts;
        self.elsewhere += *elsewhere;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            crashes,
            stops,
            backups,
            fences,
            succeeded,
            refused,
            unanswered,
            cuts,
            elsewhere,
        } = self;
        write!(
            f,
            "{crashes} crashes, {stops} stops, {backups} backups put in place, {fences} epochs \
             fenced, {succeeded} redemptions, {refused} refusals, {unanswered} requests unanswered"
        )?;
        match cuts {
            0 => Ok(()),
            _ => write!(f, ", {cuts} lines cut, {elsewhere} redeemed at another server"),
        }
    }
}

/// What clients share: all of it is known to nobody but the judge.
pub(super) struct Shared {
    pub(super) keys: Vec<Held>,
    pub(super) epoch: u64,
    pub(super) history: Vec<String>,
    pub(super) counts: Counts,
    /// The newest epoch of the series, and the newest that somebody has asked for.
    pub(super) newest: u64,
    pub(super) newest_asked: u64,
    /// For each client, how many changes to how it stands were asked for, and how many were answered.
    pub(super) changes: [(u64, u64); 3],
    /// For each client, whether it may be in quarantine, whoever knows of it.
    pub(super) quarantined: [bool; 3],
}

pub(super) struct World {
    seed: u64,
    pub(super) dice: Dice,
    pub(super) dir: tempfile::TempDir,
    pub(super) store: Arc<MemoryStore>,
    backup: Option<Arc<MemoryStore>>,
    pub(super) clock: Arc<TestClock>,
    pub(super) shared: RefCell<Shared>,
    /// The servers; `None` for one that is not there.
    pub(super) servers: RefCell<Vec<Option<Storage>>>,
}

/// A directory that is no disk where there is one: worlds have many files, and they are small.
fn quick_dir() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

pub(super) fn new_runtime() -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let shared = Shared {
            keys: Vec::new(),
            epoch: 0,
            history: Vec::new(),
            counts: Counts::default(),
            newest: 1,
            newest_asked: 1,
            changes: [(0, 0); 3],
            quarantined: [false; 3],
        };
        Self {
            seed,
            dice: Dice::new(seed),
            dir: quick_dir(),
            store: Arc::default(),
            backup: None,
            clock: TestClock::at(NOW + 1_000_000),
            shared: RefCell::new(shared),
            servers: RefCell::new(vec![None]),
        }
    }

    /// One of the servers that are there, and which.
    pub(super) fn any_server(&self, dice: &mut Dice) -> Option<(usize, Storage)> {
        let servers = self.servers.borrow();
        let number = dice.below(servers.len());
        Some((number, servers.get(number)?.clone()?))
    }

    /// Whether there are several at a time.
    pub(super) fn has_several(&self) -> bool {
        self.servers.borrow().len() > 1
    }

    pub(super) fn run(mut self) -> Counts {
        for _life in 0..LIVES {
            self.live();
            self.between();
        }
        // The last one answers everybody, and says what it knows.
        let mut runtime = new_runtime();
        let (life, _store) = self.open(&runtime);
        self.epoch_is(life.storage.epochs.current().number);
        let judged = runtime.block_on(self.judge(&life.storage));
        if let Err(broken) = judged {
            self.fail(&broken);
        }
        self.ends(&runtime, life);
        runtime = new_runtime();
        runtime.block_on(check_all(&*self.store)).unwrap();
        self.shared.into_inner().counts
    }

    /// It begins without faults: a server that does not start is no news.
    fn open(&mut self, runtime: &Runtime) -> (Life, Arc<Flaky>) {
        let dice = Dice::new(self.dice.roll());
        let store = Arc::new(Flaky::over(Arc::clone(&self.store), dice, false));
        let shared = Arc::<Flaky>::clone(&store);
        match runtime.block_on(Life::over(shared, self.dir.path(), &self.clock)) {
            Ok(life) => (life, store),
            Err(error) => self.fail(&format!("cannot be opened: {error:?}")),
        }
    }

    /// One life of a server.
    fn live(&mut self) {
        let runtime = new_runtime();
        let (life, store) = self.open(&runtime);
        let number = life.storage.epochs.current().number;
        self.note(format!("a server begins in epoch {number}"));
        self.epoch_is(number);
        // Nobody is left who could ask.
        self.shared.get_mut().changes.iter_mut().for_each(|(asked, answered)| *answered = *asked);
        store.fail(*self.dice.one(&[0, 0, 6, 30]));
        let lasts = Duration::from_millis(200 + self.dice.roll() % 60_000);
        let seeds: Vec<_> = (0..CLIENTS).map(|_| self.dice.roll()).collect();
        self.servers.replace(vec![Some(life.storage.clone())]);
        let world = &*self;
        let clients = join_all(seeds.into_iter().map(|seed| client::run(world, seed)));
        runtime.block_on(async {
            // Nobody waits for the rest of what was asked when it is over.
            let _is_over = timeout(lasts, clients).await;
        });
        self.servers.replace(vec![None]);
        if self.dice.is(60) {
            self.note("it crashes".to_owned());
            self.shared.get_mut().counts.crashes += 1;
            drop(runtime);
            drop(life);
        } else {
            self.note("it stops".to_owned());
            self.shared.get_mut().counts.stops += 1;
            self.ends(&runtime, life);
        }
    }

    fn ends(&self, runtime: &Runtime, life: Life) {
        let ended = runtime.block_on(life.ended());
        if ended != Drain::Clean {
            self.fail(&format!("it does not stop: {ended:?}"));
        }
    }

    /// What happens to the machine while no server runs.
    fn between(&mut self) {
        match self.dice.below(8) {
            0 => {
                self.note("a backup is made".to_owned());
                self.backup = Some(Arc::new(self.store.copy()));
            }
            1 => {
                if let Some(backup) = self.backup.take() {
                    self.note("the backup is put in place".to_owned());
                    self.shared.get_mut().counts.backups += 1;
                    self.store = backup;
                    // It may have forgotten how far the series had come.
                    self.shared.get_mut().newest = 1;
                }
            }
            2 => self.clock.advance(self.dice.roll() % 400),
            _ => {}
        }
    }

    /// The epoch in force: all keys of others are void.
    pub(super) fn epoch_is(&self, number: u64) {
        let mut shared = self.shared.borrow_mut();
        if self.has_several() && number < shared.epoch {
            return; // One that has not heard yet.
        }
        let before = std::mem::replace(&mut shared.epoch, number);
        assert!(before <= number, "epoch {number} after {before}");
        shared.counts.fences += usize::from(before < number);
        let old = shared.keys.iter_mut().filter(|held| held.epoch < number);
        old.for_each(|held| held.model.over(State::Void));
    }

    pub(super) fn note(&self, what: String) {
        self.shared.borrow_mut().history.push(what);
    }

    pub(super) fn fail(&self, broken: &str) -> ! {
        let history = self.shared.borrow().history.join("\n");
        panic!(
            "{history}\n{broken}\nto run this again: CLAVIGER_FAULT_SEED={} CLAVIGER_FAULT_RUNS=1 \
             tests/fault/run simulation",
            self.seed
        );
    }

    /// Whether the log says what everybody was told.
    pub(super) async fn judge(&self, storage: &Storage) -> Result<(), String> {
        let records = audit::read(&**storage.journal.store(), 1, usize::MAX).await.unwrap();
        let bodies = records.iter().map(|record| serde_json::from_slice::<Body>(&record.body));
        let events: Vec<_> = bodies.map(|body| body.unwrap().event).collect();
        let now = storage.epochs.current().number;
        for (at, held) in self.shared.borrow().keys.iter().enumerate() {
            let name = held.minted.identity.to_string();
            let redeemed = |event: &&Event| matches!(event, Event::PskRedeemed { identity, .. } if *identity == name);
            let replayed = |event: &&Event| matches!(event, Event::PskReplayed { identity, .. } if *identity == name);
            let told = usize::from(matches!(held.model.state, State::Redeemed { .. }));
            let redeemed = events.iter().filter(redeemed).count();
            let replayed = events.iter().filter(replayed).count();
            // A backup has forgotten keys, which are void.
            let forgotten = held.epoch < now;
            if redeemed > 1 || replayed > 1 {
                return Err(format!("key {at} has {redeemed} redemptions, {replayed} replays"));
            }
            if !forgotten && (redeemed < told || (held.replayed && replayed == 0)) {
                return Err(format!("the log does not say what was told of key {at}"));
            }
        }
        Ok(())
    }
}

/// How long something takes to get from one to the other.
pub(super) async fn network(dice: &mut Dice) {
    let millis = if dice.is(10) { dice.below(3_000) } else { dice.below(20) };
    sleep(Duration::from_millis(millis.try_into().unwrap())).await;
}

/// A key of the series, or of none.
pub(super) fn wanted(dice: &mut Dice, ttl: u64, newest: u64) -> PskBinding {
    let who = dice.below(3);
    let client = format!("spiffe://example.org/client/{who}").parse().unwrap();
    let series = dice.is(30).then(|| (newest + dice.roll() % 3).saturating_sub(1).max(1));
    let series = series.and_then(|epoch| SeriesEpoch::from_wire("train", epoch).unwrap());
    let client = if series.is_some() { binding(1).client } else { client };
    PskBinding { client, series, ..binding(ttl) }
}
