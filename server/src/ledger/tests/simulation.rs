//! Servers, one after the other or several at a time, over a store that fails, and clients who are not always
//! answered: everything that happens follows from a seed, and no time passes while it does.
//!
//! Each life of a server ends in a crash, or in good order; the next one has its store, or an old
//! backup of it. Several share a store, to which their lines are cut now and then. What clients are told is
//! compared with the model of each key.
//!
//! `CLAVIGER_FAULT_RUNS` says how many worlds there are, `CLAVIGER_FAULT_SEED` with which they begin. A world
//! in which a promise is broken tells its history.

mod client;
mod several;
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

#[test]
fn no_history_of_several_servers_and_cut_lines_breaks_a_promise() {
    let (runs, first) = (knob("CLAVIGER_FAULT_RUNS", 60), knob("CLAVIGER_FAULT_SEED", 1));
    let mut counts = Counts::default();
    for seed in first..first + runs {
        counts.add(&several::run(World::new(seed)));
    }
    println!("survived: {runs} worlds of two and three servers, {counts}, 0 lost, 0 twice");
    // Otherwise nothing was tried.
    assert!(counts.succeeded > 0 && counts.refused > 0 && counts.crashes > 0, "{counts}");
    assert!(counts.cuts > 0 && counts.elsewhere > 0, "{counts}");
}
