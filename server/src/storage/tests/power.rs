//! The power goes, at any moment: what was written and synced under load is recorded, and what a disk may
//! hold after a cut is rebuilt, as it may be after the machine has started again. How is in `tests/power`.
//!
//! `CLAVIGER_FAULT_CUTS` says how often it goes, `CLAVIGER_FAULT_SEED` when, and `CLAVIGER_FAULT_KEYS`
//! how many keys each of three lives makes.

use std::collections::HashMap;

use claviger_core::once::State;
use claviger_core::psk::PskRecord;

use super::super::fixture::cuts::disk::{Disk, Names};
use super::super::fixture::cuts::recording::Recording;
use super::super::fixture::cuts::{Cut, cut, recorder};
use super::super::fixture::dice::{Dice, knob};
use super::load::{Acknowledged, End, Site, attempt, redeem};
use super::moved::{Boot, settle};
use super::*;
use crate::store::{Order, Space, parse};

/// What became of all the cuts.
#[derive(Debug, Default)]
struct Survived {
    cuts: usize,
    /// After so many a new epoch began.
    fenced: usize,
    /// Things that were not durable when the power went.
    in_flight: usize,
    /// Redemptions that had been acknowledged before a cut, of all cuts.
    redemptions: usize,
    requests: usize,
}

/// A promise is kept if whoever was told that a key is spent, or minted, finds it so; or if every key of
/// that epoch is void. Nothing is ever lost of what was acknowledged, even then.
#[test]
fn no_power_cut_forgets_a_redemption_or_brings_a_key_back() {
    let (cuts, seed) = (knob("CLAVIGER_FAULT_CUTS", 24), knob("CLAVIGER_FAULT_SEED", 1));
    let keys = knob("CLAVIGER_FAULT_KEYS", 400).try_into().unwrap();
    let recorder = recorder();
    let site = Site::new();
    for end in [End::Clean, End::Killed, End::Clean] {
        site.live(keys, end, Some(&recorder.1));
    }
    let recording = Recording::read(&site.log);
    let mut survived = Survived::default();
    for names in [Names::Strict, Names::Journaled] {
        let disk = after_each(&recording, names, cuts / 2, seed, &mut survived);
        disk.is_as_seen(&site.data);
    }
    let Survived { cuts, fenced, in_flight, redemptions, requests } = survived;
    println!(
        "survived: {cuts} power cuts, {in_flight} writes in flight, {fenced} epochs fenced, \
         {redemptions} redemptions acknowledged before, {requests} requests after, 0 lost, 0 twice"
    );
}

/// Looks at what is left after each cut.
fn after_each<'a>(
    recording: &'a Recording,
    names: Names,
    count: u64,
    seed: u64,
    survived: &mut Survived,
) -> Disk<'a> {
    cut(recording, names, count, &mut Dice::new(seed), |Cut { at, fate, disk, promised }, dice| {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        disk.cut(fate, dice, &data);
        settle(&data, Boot::Another);
        survived.cuts += 1;
        survived.in_flight += disk.pending();
        let acknowledged: Vec<_> = promised.iter().map(|what| what.parse().unwrap()).collect();
        let what = format!("a cut after operation {at}, {names:?}, {fate:?}");
        after(&data, &acknowledged, &what, survived);
    })
}

/// The machine has started again, and somebody tries every key that was spent.
fn after(data: &Path, acknowledged: &[Acknowledged], what: &str, survived: &mut Survived) {
    let clock = TestClock::at(NOW);
    Runtime::new().unwrap().block_on(async {
        let life = Life::embedded(data, &clock).await;
        let life = life.unwrap_or_else(|error| panic!("{what}: cannot be opened: {error:?}"));
        let storage = &life.storage;
        nothing_is_lost(storage, acknowledged, what).await;
        let spent: Vec<_> = acknowledged.iter().filter(|one| one.spent).collect();
        let newest = acknowledged.iter().map(|one| one.epoch).max().unwrap_or(0);
        let fenced = epoch(storage) > newest;
        survived.fenced += usize::from(fenced && newest > 0);
        survived.redemptions += spent.len();
        for one in spent {
            let key = (one.number, one.identity);
            let again = redeem(storage, key, AttemptId::from_bytes([0xff; 16])).await;
            assert!(again.is_err(), "{what}: key {} was redeemed twice", one.number);
            let same = redeem(storage, key, attempt(one.number)).await;
            assert_eq!(same.is_ok(), !fenced, "{what}: key {}: {same:?}", one.number);
            survived.requests += 2;
        }
        life.stop().await;
    });
}

/// Whatever an epoch voids, the store has all that it acknowledged.
async fn nothing_is_lost(storage: &Storage, acknowledged: &[Acknowledged], what: &str) {
    let mut kept = HashMap::new();
    let (mut from, to) = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    loop {
        let store = storage.journal.store();
        let page =
            store.scan(Space::Psks, from, to.clone(), Order::Ascending, 4_096).await.unwrap();
        let Some((last, _)) = page.last() else { break };
        from = std::ops::Bound::Excluded(last.clone());
        for (_, record) in page {
            let record: PskRecord = parse(&record).unwrap();
            kept.insert(record.binding.client.to_string(), record.state != State::Unused);
        }
    }
    for one in acknowledged {
        let spent = kept.get(&format!("spiffe://example.org/client/{}", one.number));
        let known = spent.is_some_and(|spent| *spent || !one.spent);
        assert!(
            known,
            "{what}: lost that key {} was {}",
            one.number,
            if one.spent { "spent" } else { "minted" }
        );
    }
}
