//! Servers, one after the other, over a store that fails, and clients who are not always answered:
//! everything that happens follows from a seed, and no time passes while it does.
//!
//! Each life of a server ends in a crash, or in good order; the next one has its store, or an old
//! backup of it. What clients are told is compared with the model of each key.
//!
//! `CLAVIGER_FAULT_RUNS` says how many worlds there are, `CLAVIGER_FAULT_SEED` with which they begin. A world
//! in which a promise is broken tells its history.

mod client;
mod store;
mod world;

use crate::storage::fixture::dice::knob;
use world::{Counts, World};

#[test]
fn no_history_of_crashes_and_lost_answers_breaks_a_promise() {
    let (runs, first) = (knob("CLAVIGER_FAULT_RUNS", 60), knob("CLAVIGER_FAULT_SEED", 1));
    let mut counts = Counts::default();
    for seed in first..first + runs {
        counts.add(&World::new(seed).run());
    }
    println!("survived: {runs} worlds, {counts}, 0 lost, 0 twice");
    // Otherwise nothing was tried.
    assert!(counts.succeeded > 0 && counts.refused > 0 && counts.crashes > 0, "{counts}");
}
