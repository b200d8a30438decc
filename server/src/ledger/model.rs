//! The ledger against a model of it, under random interleavings of everything that happens to a
//! server: requests, time, quarantines, fences, kills, stops and restored backups.
//!
//! | to find | look in |
//! |---|---|
//! | what may become of one key, as a state machine | [`key`] |

pub(crate) mod key;

use std::sync::Arc;

use claviger_core::grant::PskProof;
use claviger_core::psk::{PskBinding, SeriesEpoch, binder};
use proptest::prelude::*;
use tokio::runtime::{Builder, Runtime};

use super::psk::{AttemptId, Minted};
use crate::audit::check::check_all;
use crate::epoch::Doubt;
use crate::policy::Met;
use crate::standings::Change as How;
use crate::storage::fixture::{Life, NOW, TestClock, binding, issue, redemption, requester};
use crate::store::Store;
use crate::store::memory::MemoryStore;

#[derive(Clone, Debug)]
enum Step {
    Mint {
        ttl: u64,
    },
    /// A key of the only series, of an epoch so much later (or earlier) than the newest.
    MintOfSeries {
        ttl: u64,
        ahead: i64,
    },
    /// Several attempts at once.
    Redeem {
        psk: prop::sample::Index,
        attempts: Vec<(u8, bool)>,
    },
    Wait {
        seconds: u64,
    },
    SetBack {
        seconds: u64,
    },
    Sweep,
    /// The client is put in quarantine, and let out again.
    Quarantine,
    Fence,
    Kill,
    Stop,
    Backup,
    Restore,
}

fn step() -> impl Strategy<Value = Step> {
    let attempts = prop::collection::vec((0..4_u8, prop::bool::weighted(0.9)), 1..5);
    prop_oneof![
        4 => (1..=300_u64).prop_map(|ttl| Step::Mint { ttl }),
        4 => (1..=300_u64, -2..3_i64).prop_map(|(ttl, ahead)| Step::MintOfSeries { ttl, ahead }),
        12 => (any::<prop::sample::Index>(), attempts)
            .prop_map(|(psk, attempts)| Step::Redeem { psk, attempts }),
        3 => (1..200_u64).prop_map(|seconds| Step::Wait { seconds }),
        1 => (1..400_u64).prop_map(|seconds| Step::SetBack { seconds }),
        2 => Just(Step::Sweep),
        1 => Just(Step::Quarantine),
        1 => Just(Step::Fence),
        2 => Just(Step::Kill),
        1 => Just(Step::Stop),
        1 => Just(Step::Backup),
        1 => Just(Step::Restore),
    ]
}

/// What the model knows about one PSK.
struct Psk {
    minted: Minted,
    binding: PskBinding,
    void: bool,
    spent_by: Option<u8>,
}

struct World {
    runtime: Runtime,
    life: Option<Life>,
    store: Arc<MemoryStore>,
    backup: Option<Arc<MemoryStore>>,
    clock: Arc<TestClock>,
    dir: tempfile::TempDir,
    psks: Vec<Psk>,
    /// The newest epoch of the series.
    newest: u64,
    /// Whether the model can tell what will succeed. After a clock was set back or a backup
    /// restored it only tells what must not.
    exact: bool,
}

impl World {
    fn new() -> Self {
        let (runtime, dir) = (new_runtime(), tempfile::tempdir().unwrap());
        let (store, clock) = (Arc::new(MemoryStore::default()), TestClock::at(NOW + 1_000_000));
        let mut world = Self {
            runtime,
            life: None,
            store,
            backup: None,
            clock,
            dir,
            psks: Vec::new(),
            newest: 1,
            exact: true,
        };
        world.start();
        world
    }

    fn start(&mut self) {
        let store: Arc<dyn Store> = Arc::<MemoryStore>::clone(&self.store);
        let open = Life::over(store, self.dir.path(), &self.clock);
        self.life = Some(self.runtime.block_on(open).unwrap());
    }

    fn kill(&mut self) {
        drop(std::mem::replace(&mut self.runtime, new_runtime()));
        self.life = None;
    }

    fn life(&self) -> &Life {
        self.life.as_ref().unwrap()
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Mint { ttl } => self.mint(*ttl, None),
            Step::MintOfSeries { ttl, ahead } => {
                let epoch = self.newest.saturating_add_signed(*ahead).max(1);
                self.mint(*ttl, SeriesEpoch::from_wire("train", epoch).unwrap());
            }
            Step::Redeem { psk, attempts } => {
                if !self.psks.is_empty() {
                    self.redeem(psk.index(self.psks.len()), attempts);
                }
            }
            Step::Wait { seconds } => self.clock.advance(*seconds),
            Step::SetBack { seconds } => {
                self.exact = false;
                let now = claviger_core::time::Clock::now(&*self.clock).as_secs();
                self.clock.set(now - seconds);
            }
            Step::Sweep => {
                let ledger = self.life().storage.ledger.clone();
                let mut sweeper = super::sweep::Sweeper::new(ledger);
                self.runtime.block_on(sweeper.round()).unwrap();
            }
            Step::Quarantine => {
                let (standings, id) = (&self.life().storage.standings, binding(1).client);
                for how in [How::Quarantine, How::Lift] {
                    let reason = "test".parse().unwrap();
                    let change = standings.change(&id, how, reason, requester());
                    self.runtime.block_on(change).unwrap();
                }
                self.psks.iter_mut().for_each(|psk| psk.void = true);
            }
            Step::Fence => {
                let epochs = &self.life().storage.epochs;
                let fence = epochs.fence(epochs.current().number, &Doubt::NoWitness);
                self.runtime.block_on(fence).unwrap();
                self.psks.iter_mut().for_each(|psk| psk.void = true);
            }
            Step::Kill => {
                self.kill();
                self.start();
            }
            Step::Stop => {
                let life = self.life.take().unwrap();
                self.runtime.block_on(life.stop());
                self.start();
            }
            Step::Backup => self.backup = Some(Arc::new(self.store.copy())),
            Step::Restore => {
                if let Some(backup) = self.backup.take() {
                    self.exact = false;
                    self.kill();
                    self.store = backup;
                    self.start();
                }
            }
        }
    }

    fn mint(&mut self, ttl: u64, series: Option<SeriesEpoch>) {
        let ledger = &self.life().storage.ledger;
        let ttl = ledger.now().as_secs() - NOW + ttl;
        let binding = PskBinding { series, ..binding(ttl) };
        let minted = self.runtime.block_on(ledger.mint(issue(binding.clone()), Met::nothing()));
        if let Some(SeriesEpoch { epoch, .. }) = &binding.series {
            let is_over = epoch.get() < self.newest;
            // A backup may have forgotten how far the series had come, with all keys of it.
            assert!(minted.is_err() == is_over || (is_over && !self.exact), "{epoch}: {minted:?}");
        }
        let Ok(minted) = minted else { return };
        if let Some(series) = &binding.series {
            self.newest = series.epoch.get();
            let earlier = |psk: &&mut Psk| {
                let epoch = psk.binding.series.as_ref().map(|series| series.epoch);
                epoch.is_some_and(|epoch| epoch < series.epoch) && psk.spent_by.is_none()
            };
            self.psks.iter_mut().filter(earlier).for_each(|psk| psk.void = true);
        }
        self.psks.push(Psk { minted, binding, void: false, spent_by: None });
    }

    fn redeem(&mut self, index: usize, attempts: &[(u8, bool)]) {
        let psk = &self.psks[index];
        let ledger = &self.life().storage.ledger;
        let alive = !psk.void && ledger.now() <= psk.binding.not_after;
        let transcript = [7; 32];
        let right = binder::compute(&psk.minted.base.psk(&psk.binding), &transcript);
        let tries = attempts.iter().map(|(attempt, good)| async move {
            let binder = if *good { right } else { [0; 32] };
            let proof = PskProof::Binder { transcript, binder };
            let found = ledger.find(psk.minted.identity).await?;
            let grant = redemption(psk.binding.clone(), proof);
            ledger.redeem(found, grant, AttemptId::from_bytes([*attempt; 16])).await
        });
        let outcomes = self.runtime.block_on(futures_util::future::join_all(tries));

        let mut spent_by = psk.spent_by;
        for ((attempt, good), outcome) in attempts.iter().zip(&outcomes) {
            let owner =
                *spent_by.get_or_insert_with(|| first_winner(attempts, &outcomes, *attempt));
            let may = alive && *good && owner == *attempt;
            let allowed = if self.exact { outcome.is_ok() == may } else { outcome.is_err() || may };
            assert!(allowed, "attempt {attempt}, good {good}, owner {owner}: {outcome:?}");
        }
        let winner = outcomes.iter().zip(attempts).find(|(outcome, _)| outcome.is_ok());
        if let Some((_, (attempt, _))) = winner {
            self.psks[index].spent_by.get_or_insert(*attempt);
        }
    }
}

/// Who of those who tried at once was first: whoever succeeded, or else it does not matter.
fn first_winner<T, E>(attempts: &[(u8, bool)], outcomes: &[Result<T, E>], otherwise: u8) -> u8 {
    let winner = outcomes.iter().zip(attempts).find(|(outcome, _)| outcome.is_ok());
    winner.map_or(otherwise, |(_, (attempt, _))| *attempt)
}

fn new_runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Nor is one of an epoch of a series after a later one began.
    #[test]
    fn no_psk_is_ever_redeemed_by_two(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.runtime.block_on(check_all(&*world.store)).unwrap();
    }
}
